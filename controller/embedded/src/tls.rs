//! The server's own certificate authority, and a certificate for each address it is reached at.
//!
//! Clients pin the authority. A server often does not know the addresses that lead to it; a
//! connection does, so its certificate is made for the address it came to.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("the certificate authority: {0}")]
    Certificate(#[from] rcgen::Error),
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    #[error("the certificate authority in the database is unreadable; restore a backup")]
    Malformed,
}

/// Signs certificates: this server's, or the gateway's and those of the machines that it admits.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    /// Names by which clients reach the server, besides its addresses.
    names: Vec<String>,
    configs: Mutex<HashMap<IpAddr, Arc<ServerConfig>>>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("names", &self.names).finish_non_exhaustive()
    }
}

/// How an authority is kept: its private key and its certificate, both PEM.
#[derive(serde::Serialize, serde::Deserialize)]
struct Kept {
    #[serde(default = "embedded_api")]
    name: String,
    key: String,
    certificate: String,
}

fn embedded_api() -> String {
    "hawser embedded API".to_owned()
}

impl Authority {
    /// A new authority of that name, as the bytes to keep. They hold its private key.
    pub fn create(name: &str) -> Result<Vec<u8>, TlsError> {
        let key = KeyPair::generate()?;
        let certificate = authority_params(name)?.self_signed(&key)?.pem();
        let kept = Kept { name: name.to_owned(), key: key.serialize_pem(), certificate };
        Ok(serde_json::to_vec(&kept).expect("two strings are JSON"))
    }

    /// `names`: DNS names or addresses by which its server is reached, besides the addresses that
    /// connections come to.
    pub fn open(kept: &[u8], names: Vec<String>) -> Result<Authority, TlsError> {
        use rustls::pki_types::pem::PemObject;
        let kept: Kept = serde_json::from_slice(kept).map_err(|_| TlsError::Malformed)?;
        let certificate = CertificateDer::from_pem_slice(kept.certificate.as_bytes())
            .map_err(|_| TlsError::Malformed)?;
        let issuer = Issuer::new(authority_params(&kept.name)?, KeyPair::from_pem(&kept.key)?);
        Ok(Authority { issuer, certificate, names, configs: Mutex::default() })
    }

    /// What clients pin.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// What signs further certificates.
    pub fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.issuer
    }

    /// The configuration for connections that came to `address`.
    pub(crate) fn config(&self, address: IpAddr) -> Result<Arc<ServerConfig>, TlsError> {
        let address = address.to_canonical();
        let mut configs = self.configs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = configs.get(&address) {
            return Ok(config.clone());
        }
        let config = Arc::new(self.make_config(address)?);
        configs.insert(address, config.clone());
        Ok(config)
    }

    fn make_config(&self, address: IpAddr) -> Result<ServerConfig, TlsError> {
        let key = KeyPair::generate()?;
        let mut names = self.names.clone();
        names.push("localhost".to_owned());
        names.push(address.to_string());
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, "hawser-controller");
        let certificate = params.signed_by(&key, &self.issuer)?;
        let chain = vec![certificate.der().clone(), self.certificate.clone()];
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

pub(crate) fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Valid from 1975 on, so that a machine whose clock has not been set yet can still connect.
fn authority_params(name: &str) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    Ok(params)
}
