//! The gateway as a machine sees it that is not in yet: a pinned TLS connection, a few questions.
//!
//! The token says which authority signs the gateway's certificate. Nothing else is trusted: no name
//! that DNS gives, no authority of the system's.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use api::join::{JOIN_PATH, JoinAnswer, JoinChallenge, JoinRequest, JoinWaits, SERVER_NAME, pin};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, StatusCode, client::conn::http1, header, http::response::Parts};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{
        CryptoProvider,
        aws_lc_rs::{default_provider, kx_group},
    },
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use crate::exit::{Exit, Failure};

const LARGEST_ANSWER: usize = 64 << 10;

const ADDRESS: &str = "is this its address, and may this machine go out to that TCP port?";

/// Why there is no answer, and whether to ask again.
#[derive(Debug)]
pub struct Denial {
    pub failure: Failure,
    /// The gateway is away or busy: it may be asked again, not before this time has passed.
    /// None: asking again does not help.
    pub again: Option<Duration>,
}

impl From<Failure> for Denial {
    fn from(failure: Failure) -> Self {
        Self { failure, again: None }
    }
}

impl From<Denial> for Failure {
    fn from(denial: Denial) -> Self {
        denial.failure
    }
}

/// Nothing came back: the gateway may be there in a moment.
fn away(what: String, check: &str) -> Denial {
    let failure = Failure::new(Exit::Unreachable, what).check(check);
    Denial { failure, again: Some(Duration::ZERO) }
}

/// Where the gateway is, as `hawser join` is given it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    pub host: String,
    pub port: u16,
}

impl Url {
    /// `https://HOST:PORT`, with 8444 if there is no port.
    pub fn parse(text: &str) -> Result<Url, Failure> {
        let bad = || {
            Failure::usage(format!("{text:?} is no address of a gateway"))
                .check("write it like https://mesh.example:8444 or https://[2001:db8::1]:8444")
        };
        let uri: hyper::Uri = text.parse().map_err(|_| bad())?;
        let bare = matches!(uri.path(), "" | "/") && uri.query().is_none();
        if uri.scheme_str() != Some("https") || !bare {
            return Err(bad());
        }
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(bad)?;
        Ok(Url { host: host.to_owned(), port: uri.port_u16().unwrap_or(8444) })
    }

    /// `HOST:PORT`.
    pub fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// As a kubeconfig has it.
    pub fn to_text(&self) -> String {
        format!("https://{}", self.authority())
    }
}

/// What was found out before anything is asked.
#[derive(Clone, Copy, Debug)]
pub struct Greeting {
    /// The gateway's clock, to the second.
    pub clock: Option<Timestamp>,
}

/// What a machine that is not refused gets.
pub enum Entered {
    In(JoinAnswer),
    Waits(JoinWaits),
}

/// One connection to a gateway.
pub struct Gateway {
    sender: http1::SendRequest<Full<Bytes>>,
    host: String,
    /// The longest wait for one answer.
    limit: Duration,
}

impl Gateway {
    /// Connects, if the gateway is the one that the token was made for.
    pub async fn connect(
        url: &Url,
        authority: [u8; 32],
        limit: Duration,
    ) -> Result<Gateway, Denial> {
        let at = url.authority();
        timeout(limit, Self::dial(at.clone(), authority, limit))
            .await
            .unwrap_or_else(|_| Err(away(format!("no answer from {at} within {limit:?}"), ADDRESS)))
    }

    async fn dial(at: String, authority: [u8; 32], limit: Duration) -> Result<Gateway, Denial> {
        let stream = TcpStream::connect(&at)
            .await
            .map_err(|error| away(format!("cannot reach the gateway at {at}: {error}"), ADDRESS))?;
        let complaint = Arc::new(Mutex::new(None));
        let config = config(authority, Arc::clone(&complaint))?;
        let name = ServerName::try_from(SERVER_NAME)
            .map_err(|error| Failure::failed(format!("preparing TLS: {error}")))?;
        let connected = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
        let stream = connected.map_err(|error| {
            let said = complaint.lock().unwrap_or_else(PoisonError::into_inner).take();
            explain(&at, said, &error)
        })?;
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(&at, &error))?;
        tokio::spawn(connection);
        Ok(Gateway { sender, host: at, limit })
    }

    pub async fn greet(&mut self) -> Result<Greeting, Denial> {
        let (head, _) = self.ask(Request::get("/livez"), Bytes::new()).await?;
        let clock = head.headers.get(header::DATE).and_then(|date| date.to_str().ok());
        let clock = clock.and_then(|date| jiff::fmt::rfc2822::parse(date).ok());
        Ok(Greeting { clock: clock.map(|zoned| zoned.timestamp()) })
    }

    /// What the next [`Gateway::join`] on this connection has to answer.
    pub async fn challenge(&mut self) -> Result<String, Denial> {
        let (head, body) = self.ask(Request::get(JOIN_PATH), Bytes::new()).await?;
        let asked = serde_json::from_slice::<JoinChallenge>(&body).ok();
        match asked.filter(|_| head.status == StatusCode::OK) {
            Some(asked) => Ok(asked.challenge),
            None => Err(unanswered(&head, "is it of the same version as this?")),
        }
    }

    pub async fn join(&mut self, request: &JoinRequest) -> Result<Entered, Denial> {
        let body = serde_json::to_vec(request).unwrap_or_default();
        let (head, body) = self.ask(Request::post(JOIN_PATH), body.into()).await?;
        let unread = |error| Failure::failed(format!("the gateway's answer: {error}"));
        let entered = match head.status {
            StatusCode::CREATED => serde_json::from_slice(&body).map(Entered::In),
            StatusCode::ACCEPTED => serde_json::from_slice(&body).map(Entered::Waits),
            StatusCode::FORBIDDEN => return Err(refused().into()),
            _ => return Err(unanswered(&head, "the log of hawser-controller")),
        };
        Ok(entered.map_err(unread)?)
    }

    async fn ask(
        &mut self,
        request: hyper::http::request::Builder,
        body: Bytes,
    ) -> Result<(Parts, Bytes), Denial> {
        let limit = self.limit;
        let silent = format!("no answer from {} within {limit:?}", self.host);
        timeout(limit, self.ask_for_ever(request, body))
            .await
            .unwrap_or_else(|_| Err(away(silent, "the log of hawser-controller")))
    }

    async fn ask_for_ever(
        &mut self,
        request: hyper::http::request::Builder,
        body: Bytes,
    ) -> Result<(Parts, Bytes), Denial> {
        let request = request
            .header(header::HOST, &self.host)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| Failure::failed(format!("forming a request: {error}")))?;
        let answer =
            self.sender.send_request(request).await.map_err(|error| broken(&self.host, &error))?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, LARGEST_ANSWER).collect().await;
        let body = body.map_err(|error| {
            away(
                format!("the gateway's answer is not whole: {error}"),
                "the log of hawser-controller",
            )
        })?;
        Ok((head, body.to_bytes()))
    }
}

/// One text for every reason: the gateway does not say more.
fn refused() -> Failure {
    Failure::new(Exit::Forbidden, "the gateway does not let this machine in").check(
        "it says no more, on purpose. Its operator sees why: hawser token list -o wide. \
         Has the token ended, has it been used, is the name taken (--name), does it permit what is \
         announced (--announce)?",
    )
}

/// Too many attempts and a gateway that cannot answer yet pass; nothing else does.
fn unanswered(head: &Parts, check: &str) -> Denial {
    let (what, passes) = match head.status {
        StatusCode::TOO_MANY_REQUESTS => ("the gateway has had too many attempts".to_owned(), true),
        StatusCode::SERVICE_UNAVAILABLE => ("the gateway cannot answer yet".to_owned(), true),
        other => (format!("the gateway answers {other}"), false),
    };
    let failure = Failure::new(Exit::Unreachable, what).check(check);
    Denial { failure, again: passes.then(|| retry_after(&head.headers)) }
}

/// In seconds, as our gateway says it; a date (RFC 9110, 10.2.3) counts as none.
fn retry_after(headers: &header::HeaderMap) -> Duration {
    let said = headers.get(header::RETRY_AFTER).and_then(|after| after.to_str().ok());
    Duration::from_secs(said.and_then(|text| text.parse().ok()).unwrap_or_default())
}

fn broken(at: &str, error: &dyn std::error::Error) -> Denial {
    away(
        format!("asking the gateway at {at}: {error}"),
        "is that port hawser-controller's gateway?",
    )
}

/// What our own verification found weighs more than how TLS ended.
fn explain(at: &str, said: Option<Complaint>, error: &std::io::Error) -> Denial {
    match said {
        Some(Complaint::OtherAuthority) => Failure::new(
            Exit::Forbidden,
            format!("{at} is not the gateway that this token was made for"),
        )
        .check("is the address right, and does nobody stand between? A new mesh needs a new token")
        .into(),
        Some(Complaint::Certificate(why)) => {
            Failure::new(Exit::Forbidden, format!("the gateway's certificate: {why}"))
                .check("is this machine's clock right? date -u")
                .into()
        }
        None => away(
            format!("TLS with the gateway at {at}: {error}"),
            "is that port hawser-controller's gateway?",
        ),
    }
}

fn config(
    pin: [u8; 32],
    complaint: Arc<Mutex<Option<Complaint>>>,
) -> Result<ClientConfig, Failure> {
    let provider = provider();
    let verifier = Pinned { pin, provider: Arc::clone(&provider), complaint };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| Failure::failed(format!("preparing TLS: {error}")))?;
    Ok(builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth())
}

/// X25519MLKEM768 first.
fn provider() -> Arc<CryptoProvider> {
    let mut provider = default_provider();
    let hybrid = kx_group::X25519MLKEM768;
    provider.kx_groups.retain(|group| group.name() != hybrid.name());
    provider.kx_groups.insert(0, hybrid);
    Arc::new(provider)
}

/// Why the gateway is not believed.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Complaint {
    OtherAuthority,
    Certificate(String),
}

/// Believes the one authority whose certificate has this SHA-256.
#[derive(Debug)]
struct Pinned {
    pin: [u8; 32],
    provider: Arc<CryptoProvider>,
    complaint: Arc<Mutex<Option<Complaint>>>,
}

impl Pinned {
    fn verifier(&self, chain: &[CertificateDer<'_>]) -> Option<Arc<WebPkiServerVerifier>> {
        let authority = chain.iter().find(|certificate| pin(certificate) == self.pin)?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned()).ok()?;
        let provider = Arc::clone(&self.provider);
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().ok()
    }

    fn complain(&self, complaint: Complaint) {
        *self.complaint.lock().unwrap_or_else(PoisonError::into_inner) = Some(complaint);
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(verifier) = self.verifier(intermediates) else {
            self.complain(Complaint::OtherAuthority);
            return Err(Error::InvalidCertificate(CertificateError::UnknownIssuer));
        };
        let verified =
            verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp, now);
        if let Err(error) = &verified {
            self.complain(Complaint::Certificate(error.to_string()));
        }
        verified
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("the gateway speaks TLS 1.3 only".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateways_address_is_a_host_and_a_port() {
        let url = |text| Url::parse(text).map(|url| url.to_text()).ok();

        assert_eq!(url("https://mesh.example").unwrap(), "https://mesh.example:8444");
        assert_eq!(url("https://192.0.2.1:7/").unwrap(), "https://192.0.2.1:7");
        assert_eq!(url("https://[2001:db8::1]:7").unwrap(), "https://[2001:db8::1]:7");
        for bad in ["", "mesh.example", "http://mesh.example", "https://", "https://a/b?c"] {
            assert_eq!(url(bad), None, "{bad}");
        }
    }
    #[test]
    fn too_many_and_not_yet_pass_and_nothing_else_does() {
        let again = |status: u16, after: Option<&str>| {
            let mut answer = hyper::Response::builder().status(status);
            if let Some(after) = after {
                answer = answer.header(header::RETRY_AFTER, after);
            }
            unanswered(&answer.body(()).unwrap().into_parts().0, "x").again
        };

        assert_eq!(again(429, Some("7")), Some(Duration::from_secs(7)));
        assert_eq!(again(503, None), Some(Duration::ZERO));
        assert_eq!(again(503, Some("soon")), Some(Duration::ZERO));
        for other in [400, 401, 403, 404, 413, 500] {
            assert_eq!(again(other, Some("7")), None, "{other}");
        }
    }
}
