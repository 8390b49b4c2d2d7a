//! TLS of the gateway: 1.3 only, post-quantum key exchange first, certificates of machines.
//!
//! A machine's certificate carries its node's name and UID: a node that is deleted and made again
//! is another one. One that has just ended still proves who is asking, for long enough that a
//! machine which was off comes back by itself; it opens nothing but the renewal.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use embedded::Authority;
use jiff::Timestamp;
use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose, KeyPair,
    KeyUsagePurpose,
};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{default_provider, kx_group};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig,
    SignatureScheme,
};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, X509Certificate};

/// A machine that was off for so long after its certificate's end still gets the next one.
const GRACE: Duration = Duration::from_secs(30 * 86_400);
/// A gateway whose clock is a little behind must not find its sister's certificate too new: it
/// begins this part of its life earlier, at most five minutes.
const BACKDATED: u32 = 10;
const MOST_BACKDATED: Duration = Duration::from_secs(300);
const NODES: &str = "hawser:nodes";

/// Whom a certificate speaks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Member {
    pub(super) node: String,
    pub(super) uid: String,
}

/// A certificate that was presented and verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Presented {
    pub(super) member: Member,
    pub(super) until: Timestamp,
}

/// X25519MLKEM768 first, whatever the default's order is.
pub(super) fn provider() -> Arc<CryptoProvider> {
    let mut provider = default_provider();
    let hybrid = kx_group::X25519MLKEM768;
    provider.kx_groups.retain(|group| group.name() != hybrid.name());
    provider.kx_groups.insert(0, hybrid);
    Arc::new(provider)
}

/// What every connection is accepted with.
pub(super) fn server_config(authority: &Authority) -> anyhow::Result<ServerConfig> {
    let key = KeyPair::generate().context("making the gateway's key")?;
    let mut params = CertificateParams::new(vec![api::join::SERVER_NAME.to_owned()])?;
    params.distinguished_name.push(DnType::CommonName, api::join::SERVER_NAME);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let certificate = params.signed_by(&key, authority.issuer())?;
    let chain = vec![certificate.der().clone(), authority.certificate().clone()];
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate().clone())?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .allow_unauthenticated()
        .build()
        .context("making the verifier of machines")?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(Lenient(verifier)))
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Accepts a certificate for [`GRACE`] after its end; what it opens is decided per request.
#[derive(Debug)]
struct Lenient(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for Lenient {
    fn offer_client_auth(&self) -> bool {
        self.0.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let strict = self.0.verify_client_cert(end_entity, intermediates, now);
        let ended = matches!(
            strict,
            Err(Error::InvalidCertificate(
                CertificateError::Expired | CertificateError::ExpiredContext { .. }
            ))
        );
        let Some(presented) = presented(end_entity).filter(|_| ended) else {
            return strict;
        };
        let until = u64::try_from(presented.until.as_second()).unwrap_or_default();
        if now.as_secs() > until.saturating_add(GRACE.as_secs()) {
            return strict;
        }
        let then = UnixTime::since_unix_epoch(Duration::from_secs(until));
        self.0.verify_client_cert(end_entity, intermediates, then)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// Reads whom a certificate of ours speaks for. Whether it is ours is TLS's to say.
pub(super) fn presented(certificate: &[u8]) -> Option<Presented> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let subject = certificate.subject();
    if text(subject.iter_organization().next())? != NODES {
        return None;
    }
    let member = Member {
        node: text(subject.iter_common_name().next())?,
        uid: text(subject.iter_organizational_unit().next())?,
    };
    let until = Timestamp::from_second(certificate.validity().not_after.timestamp()).ok()?;
    Some(Presented { member, until })
}

fn text(attribute: Option<&x509_parser::x509::AttributeTypeAndValue<'_>>) -> Option<String> {
    attribute?.as_str().ok().map(str::to_owned)
}

/// A signing request whose signature has been verified: who sent it holds the key.
pub(super) struct Request(CertificateSigningRequestParams);

impl Request {
    /// `der`: PKCS #10. None if it is malformed, or its signature is not of the key in it.
    pub(super) fn verify(der: &[u8]) -> Option<Request> {
        let verified = CertificateSigningRequestParams::from_der(&der.to_vec().into());
        verified.ok().map(Request)
    }

    /// SHA-256 of the key, in hexadecimal.
    pub(super) fn key(&self) -> String {
        use rcgen::PublicKeyData;
        api::join::hex(&api::join::pin(&self.0.public_key.subject_public_key_info()))
    }

    /// The certificate as PEM. Nothing but the key is taken from the request.
    pub(super) fn sign(
        &self,
        authority: &Authority,
        member: &Member,
        (now, life): (Timestamp, Duration),
    ) -> anyhow::Result<String> {
        let mut params = CertificateParams::new(Vec::new())?;
        let name = &mut params.distinguished_name;
        name.push(DnType::OrganizationName, NODES);
        name.push(DnType::OrganizationalUnitName, member.uid.as_str());
        name.push(DnType::CommonName, member.node.as_str());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = offset(now - (life / BACKDATED).min(MOST_BACKDATED))?;
        params.not_after = offset(now + life)?;
        let certificate = params.signed_by(&self.0.public_key, authority.issuer())?;
        Ok(certificate.pem())
    }
}

fn offset(at: Timestamp) -> anyhow::Result<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp(at.as_second()).context("a time that no certificate has")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn authority() -> Authority {
        Authority::open(&Authority::create("test").unwrap(), Vec::new()).unwrap()
    }

    fn csr(key: &KeyPair) -> Vec<u8> {
        let params = CertificateParams::new(vec!["admin".to_owned()]).unwrap();
        params.serialize_request(key).unwrap().der().to_vec()
    }

    fn member() -> Member {
        Member { node: format!("{}.edge", "n".repeat(60)), uid: "1-2-3".to_owned() }
    }

    fn certificate(authority: &Authority, now: Timestamp) -> CertificateDer<'static> {
        use rustls::pki_types::pem::PemObject;
        let request = Request::verify(&csr(&KeyPair::generate().unwrap())).unwrap();
        let pem = request.sign(authority, &member(), (now, HOUR)).unwrap();
        CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
    }

    fn verifier(authority: &Authority) -> Lenient {
        let mut roots = RootCertStore::empty();
        roots.add(authority.certificate().clone()).unwrap();
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
        Lenient(builder.build().unwrap())
    }

    #[test]
    fn a_certificate_says_which_node_and_until_when() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();

        let read = presented(&certificate(&authority(), now)).unwrap();

        assert_eq!(read, Presented { member: member(), until: now + HOUR });
    }

    #[test]
    fn a_request_that_its_key_has_not_signed_is_refused() {
        let mut forged = csr(&KeyPair::generate().unwrap());
        let last = forged.len() - 3;
        forged[last] ^= 1;

        assert!(Request::verify(&forged).is_none());
        assert!(Request::verify(b"").is_none());
        assert!(Request::verify(&vec![0x30; 70_000]).is_none());
    }

    #[test]
    fn an_ended_certificate_is_known_for_a_month_and_a_strangers_never() {
        let (ours, theirs) = (authority(), authority());
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let verifies = |certificate: &CertificateDer<'_>, after: Duration| {
            let at = u64::try_from((now + after).as_second()).unwrap();
            let at = UnixTime::since_unix_epoch(Duration::from_secs(at));
            verifier(&ours).verify_client_cert(certificate, &[], at).is_ok()
        };
        let good = certificate(&ours, now);

        assert!(verifies(&good, Duration::ZERO));
        assert!(verifies(&good, HOUR * 24));
        assert!(!verifies(&good, HOUR * 24 * 32));
        assert!(!verifies(&certificate(&theirs, now), Duration::ZERO));
    }
}
