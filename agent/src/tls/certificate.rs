//! The certificate that a listener shows, and how a caller knows it: by its SHA-256 and nothing else,
//! so neither a clock nor an authority is needed. TLS 1.3 with X25519MLKEM768, as at the gateway.

use std::{
    fs::{self, OpenOptions},
    io::{ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::Arc,
};

use anyhow::Context;
use rcgen::{CertificateParams, KeyPair};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, ServerConfig, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{
        CryptoProvider,
        aws_lc_rs::{default_provider, kx_group},
        verify_tls13_signature,
    },
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    version::TLS13,
};

/// In the state directory: the key and the certificate, PEM, mode 0600.
const FILE: &str = "tls.pem";
const TEMPORARY: &str = "tls.pem.new";
/// Nobody asks for it by a name.
const NAME: &str = "hawser";

/// A certificate and its key.
pub(crate) struct Certificate {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl Certificate {
    /// The one in the state directory, or a new one.
    pub(crate) fn load_or_create(state: &Path) -> anyhow::Result<Self> {
        let pem = match fs::read(state.join(FILE)) {
            Err(error) if error.kind() == ErrorKind::NotFound => create(state)?,
            read => read.with_context(|| format!("reading {FILE}"))?,
        };
        let what = || format!("reading {FILE}; without that file a new one is made");
        let key = PrivateKeyDer::from_pem_slice(&pem).with_context(what)?;
        let certificate = CertificateDer::from_pem_slice(&pem).with_context(what)?;
        Ok(Self { certificate, key })
    }

    /// SHA-256 of it, which callers know it by.
    pub(crate) fn fingerprint(&self) -> [u8; 32] {
        api::join::pin(&self.certificate)
    }

    pub(super) fn server(self) -> anyhow::Result<ServerConfig> {
        let config = ServerConfig::builder_with_provider(provider());
        let config = config.with_protocol_versions(&[&TLS13])?.with_no_client_auth();
        Ok(config.with_single_cert(vec![self.certificate], self.key)?)
    }
}

/// One that takes the certificate of that fingerprint, and no other.
pub(super) fn client(fingerprint: [u8; 32]) -> Result<ClientConfig, Error> {
    let config = ClientConfig::builder_with_provider(provider());
    let config = config.with_protocol_versions(&[&TLS13])?.dangerous();
    let pinned = Arc::new(Pinned { fingerprint, provider: provider() });
    Ok(config.with_custom_certificate_verifier(pinned).with_no_client_auth())
}

/// X25519MLKEM768 first, whatever the default's order is.
fn provider() -> Arc<CryptoProvider> {
    let mut provider = default_provider();
    let hybrid = kx_group::X25519MLKEM768;
    provider.kx_groups.retain(|group| group.name() != hybrid.name());
    provider.kx_groups.insert(0, hybrid);
    Arc::new(provider)
}

/// Written whole or not at all: a crash leaves none, and the next run makes one.
fn create(state: &Path) -> anyhow::Result<Vec<u8>> {
    let key = KeyPair::generate().context("making the listener's key")?;
    let certificate = CertificateParams::new(vec![NAME.to_owned()])?.self_signed(&key)?;
    let pem = format!("{}{}", key.serialize_pem(), certificate.pem()).into_bytes();
    let (temporary, file) = (state.join(TEMPORARY), state.join(FILE));
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(true).mode(0o600);
    let written = options.open(&temporary).and_then(|mut file| {
        file.write_all(&pem)?;
        file.sync_all()
    });
    let done = written.and_then(|()| fs::rename(&temporary, file));
    done.with_context(|| format!("writing {FILE}"))?;
    Ok(pem)
}

/// Whoever holds the key of that certificate.
#[derive(Debug)]
struct Pinned {
    fingerprint: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if api::join::pin(end_entity) == self.fingerprint {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    /// There is no TLS 1.2 here.
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(CertificateError::BadSignature.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::*;

    /// Five bytes from a listener with that certificate to a caller who expects that fingerprint.
    async fn told(certificate: Certificate, fingerprint: [u8; 32]) -> Result<[u8; 5], Error> {
        let (near, far) = duplex(1 << 16);
        let acceptor = TlsAcceptor::from(Arc::new(certificate.server().unwrap()));
        let listening = tokio::spawn(async move {
            if let Ok(mut stream) = acceptor.accept(far).await {
                stream.write_all(b"hello").await.unwrap();
                stream.flush().await.unwrap();
            }
        });
        let connector = TlsConnector::from(Arc::new(client(fingerprint).unwrap()));
        let name = ServerName::try_from("192.0.2.1").unwrap();
        let called = connector.connect(name, near).await;
        let mut stream =
            called.map_err(|error| *error.into_inner().unwrap().downcast::<Error>().unwrap())?;
        let mut bytes = [0; 5];
        stream.read_exact(&mut bytes).await.unwrap();
        let group = stream.get_ref().1.negotiated_key_exchange_group().unwrap();
        assert_eq!(group.name(), rustls::NamedGroup::X25519MLKEM768);
        listening.await.unwrap();
        Ok(bytes)
    }

    #[tokio::test]
    async fn a_caller_takes_the_certificate_that_was_published_and_no_other() {
        let [ours, theirs] = [0, 1].map(|_| tempfile::tempdir().unwrap());
        let load = |of: &tempfile::TempDir| Certificate::load_or_create(of.path()).unwrap();
        let published = load(&ours).fingerprint();

        assert_eq!(told(load(&ours), published).await.unwrap(), *b"hello", "read again");
        assert_ne!(load(&theirs).fingerprint(), published);
        let refused = told(load(&theirs), published).await.unwrap_err();
        assert_eq!(refused, CertificateError::ApplicationVerificationFailure.into());
    }

    #[test]
    fn nobody_else_may_read_the_file_and_a_damaged_one_is_told() {
        let state = tempfile::tempdir().unwrap();
        Certificate::load_or_create(state.path()).unwrap();
        let file = state.path().join(FILE);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

        fs::write(&file, "damaged").unwrap();
        let error = Certificate::load_or_create(state.path()).map(drop).unwrap_err();
        assert!(format!("{error:#}").contains("without that file a new one is made"), "{error:#}");
    }
}
