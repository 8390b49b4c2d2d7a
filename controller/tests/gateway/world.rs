//! A mesh with a gateway, its operator, and machines that ask it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use api::join::{JOIN_PATH, JoinAnswer, JoinChallenge, JoinRequest, SERVER_NAME, Token, pin};
use api::{JoinToken, JoinTokenSpec, MeshNode, conditions};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use controller::embed::{Embedded, Start, ensure_mesh};
use controller::gateway::{Gateway, Settings};
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use keys::PrivateKey;
use kube::Api;
use kube::api::{ListParams, PostParams};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{Instant, sleep};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Generous: the machine may be busy.
pub(crate) const SOON: Duration = Duration::from_secs(20);
/// Where machines come from, unless a test says otherwise.
const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;
pub(crate) const LIFE: Duration = Duration::from_secs(3600);

pub(crate) struct World {
    pub(crate) server: Embedded,
    pub(crate) port: Port,
    _directory: TempDir,
}

/// A gateway as machines reach it.
pub(crate) struct Port {
    pub(crate) gateway: SocketAddr,
    pub(crate) authority: CertificateDer<'static>,
}

/// What a machine has: who it is, once it is in.
pub(crate) struct Machine {
    pub(crate) key: KeyPair,
    private: PrivateKey,
    pub(crate) public_key: String,
    pub(crate) certificate: Option<CertificateDer<'static>>,
}

/// A request, and the key that it will be proved with.
pub(crate) struct Asking {
    pub(crate) request: JoinRequest,
    pub(crate) holds: PrivateKey,
}

pub(crate) struct Said {
    pub(crate) code: u16,
    pub(crate) body: Value,
}

impl Machine {
    pub(crate) fn new(number: u32) -> Machine {
        let mut bytes = [7; 32];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        let private = PrivateKey::from_bytes(bytes);
        Machine {
            key: KeyPair::generate().unwrap(),
            public_key: private.public().to_string(),
            private,
            certificate: None,
        }
    }

    pub(crate) fn csr(&self) -> String {
        let params = CertificateParams::new(Vec::new()).unwrap();
        BASE64_STANDARD.encode(params.serialize_request(&self.key).unwrap().der())
    }

    pub(crate) fn request(&self, token: &Token, name: &str) -> Asking {
        let request = JoinRequest {
            token: token.to_text(),
            name: name.to_owned(),
            csr: self.csr(),
            public_key: self.public_key.clone(),
            proof: String::new(),
            prefixes: Vec::new(),
        };
        Asking { request, holds: self.private.clone() }
    }

    pub(crate) fn take(&mut self, answer: &Value) -> JoinAnswer {
        let answer: JoinAnswer = serde_json::from_value(answer.clone()).unwrap();
        let certificate = CertificateDer::from_pem_slice(answer.certificate.as_bytes());
        self.certificate = Some(certificate.unwrap());
        answer
    }
}

impl World {
    pub(crate) async fn start(life: Duration) -> World {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let directory = tempfile::tempdir().unwrap();
        let start = Start {
            dir: directory.path().join("api"),
            listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            names: Vec::new(),
        };
        let server = Embedded::start(start).await.unwrap();
        let pool = |cidr: &str, node_prefix_length| api::Pool {
            cidr: cidr.to_owned(),
            node_prefix_length,
            name: None,
        };
        let pools = vec![pool("10.42.0.0/16", 24), pool("fd42::/48", 64)];
        ensure_mesh(&server.client, pools).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let gateway = listener.local_addr().unwrap();
        let authority = Arc::clone(&server.gateway_authority);
        let certificate = authority.certificate().clone();
        let settings = Settings { identity: "test".to_owned(), urls: Vec::new(), life };
        let running = Gateway::new(listener, authority, settings);
        tokio::spawn(running.run(server.client.clone()));
        let port = Port { gateway, authority: certificate };
        let world = World { server, port, _directory: directory };
        let begun = Instant::now();
        while world.ask(None, Request::get("/readyz"), "").await.code != 200 {
            assert!(begun.elapsed() < SOON, "the gateway is not ready");
            sleep(Duration::from_millis(20)).await;
        }
        world
    }

    pub(crate) fn tokens(&self) -> Api<JoinToken> {
        Api::all(self.server.client.clone())
    }

    pub(crate) async fn nodes(&self) -> Vec<MeshNode> {
        let api: Api<MeshNode> = Api::all(self.server.client.clone());
        api.list(&ListParams::default()).await.unwrap().items
    }

    /// A token for so many uses, as `hawser token create` makes one.
    pub(crate) async fn token(&self, name: &str, uses: u32) -> Token {
        self.token_with(name, |spec| spec.uses = uses).await
    }

    pub(crate) async fn token_with(
        &self,
        name: &str,
        change: impl FnOnce(&mut JoinTokenSpec),
    ) -> Token {
        let mut secret = [3; 32];
        secret[..name.len().min(32)].copy_from_slice(&name.as_bytes()[..name.len().min(32)]);
        let token = Token { name: name.to_owned(), secret, authority: pin(&self.port.authority) };
        let mut spec = JoinTokenSpec {
            hash: token.hash(),
            expires_at: conditions::rfc3339(Timestamp::now() + Duration::from_secs(3600)),
            uses: 1,
            site: None,
            name_prefix: None,
            pool: None,
            prefixes: Vec::new(),
            approve: false,
            created_by: None,
        };
        change(&mut spec);
        let object = JoinToken::new(name, spec);
        self.tokens().create(&PostParams::default(), &object).await.unwrap();
        token
    }

    /// A machine that is in, under this name.
    pub(crate) async fn machine(&self, number: u32, name: &str) -> Machine {
        let token = self.token(&format!("for-{name}"), 1).await;
        let mut machine = Machine::new(number);
        let said = self.join(&machine.request(&token, name)).await;
        assert_eq!(said.code, 201, "{}", said.body);
        machine.take(&said.body);
        let begun = Instant::now();
        while self.list(&machine, "meshes").await.code != 200 {
            assert!(begun.elapsed() < SOON, "the machine is not known");
            sleep(Duration::from_millis(20)).await;
        }
        machine
    }

    /// On one connection: the challenge, and the request with its proof.
    pub(crate) async fn join(&self, asking: &Asking) -> Said {
        let Ok(mut sender) = self.connect(None).await else {
            return Said { code: 0, body: Value::Null };
        };
        let body = proved(&mut sender, asking).await;
        answer(&mut sender, Request::post(JOIN_PATH), body).await
    }

    pub(crate) async fn list(&self, machine: &Machine, plural: &str) -> Said {
        let path = format!("/apis/hawser.dev/v1alpha1/{plural}");
        self.ask(Some(machine), Request::get(path), "").await
    }

    /// One question on a connection of its own.
    pub(crate) async fn ask(
        &self,
        who: Option<&Machine>,
        request: http::request::Builder,
        body: impl Into<Bytes>,
    ) -> Said {
        let Ok(mut sender) = self.connect(who).await else {
            return Said { code: 0, body: Value::Null };
        };
        answer(&mut sender, request, body).await
    }

    pub(crate) async fn connect(
        &self,
        who: Option<&Machine>,
    ) -> std::io::Result<SendRequest<Full<Bytes>>> {
        self.port.connect_from(HERE, who).await
    }

    pub(crate) async fn tls(
        &self,
        who: Option<&Machine>,
        version: &'static SupportedProtocolVersion,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        self.port.tls_from(HERE, who, version).await
    }
}

impl Port {
    /// From an address of this machine.
    pub(crate) async fn connect_from(
        &self,
        from: Ipv4Addr,
        who: Option<&Machine>,
    ) -> std::io::Result<SendRequest<Full<Bytes>>> {
        let stream = self.tls_from(from, who, &rustls::version::TLS13).await?;
        let (sender, connection) =
            handshake(TokioIo::new(stream)).await.map_err(std::io::Error::other)?;
        tokio::spawn(connection);
        Ok(sender)
    }

    async fn tls_from(
        &self,
        from: Ipv4Addr,
        who: Option<&Machine>,
        version: &'static SupportedProtocolVersion,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.clone()).unwrap();
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        // As a machine offers it: the hybrid group first.
        provider.kx_groups.rotate_right(1);
        let builder = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots);
        let config = match who.and_then(|who| Some((who, who.certificate.clone()?))) {
            Some((who, certificate)) => {
                let key = PrivateKeyDer::Pkcs8(who.key.serialize_der().into());
                builder.with_client_auth_cert(vec![certificate], key).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        let socket = TcpSocket::new_v4()?;
        socket.bind((from, 0).into())?;
        let stream = socket.connect(self.gateway).await?;
        let name = ServerName::try_from(SERVER_NAME).unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }
}

/// The body of a request that answers this connection's challenge.
pub(crate) async fn proved(sender: &mut SendRequest<Full<Bytes>>, asking: &Asking) -> String {
    let said = answer(sender, Request::get(JOIN_PATH), "").await;
    let JoinChallenge { challenge } = serde_json::from_value(said.body).unwrap();
    let Asking { request, holds } = asking;
    let covered = request.covered();
    let proof = holds.prove(&challenge.parse().unwrap(), covered.as_bytes()).unwrap();
    let mut body = serde_json::to_value(request).unwrap();
    body["proof"] = proof.to_string().into();
    body.to_string()
}

pub(crate) async fn send(
    sender: &mut SendRequest<Full<Bytes>>,
    request: http::request::Builder,
    body: impl Into<Bytes>,
) -> http::Response<Incoming> {
    let request = request.header("host", "gateway").body(Full::new(body.into())).unwrap();
    sender.ready().await.unwrap();
    sender.send_request(request).await.unwrap()
}

pub(crate) async fn answer(
    sender: &mut SendRequest<Full<Bytes>>,
    request: http::request::Builder,
    body: impl Into<Bytes>,
) -> Said {
    let response = send(sender, request, body).await;
    let code = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    Said { code, body: serde_json::from_slice(&body).unwrap_or(Value::Null) }
}
