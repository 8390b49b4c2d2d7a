//! A small client for this server: one request a connection, the authority pinned.
//!
//! For a live backup and for tests. Everybody else uses an ordinary Kubernetes client.

use crate::kubeconfig::field;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("{path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{0} is not a kubeconfig of this server")]
    Malformed(PathBuf),
    #[error("connecting to {server}: {source}; is the server running?")]
    Connect { server: SocketAddr, source: std::io::Error },
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    #[error("asking the server: {0}")]
    Http(#[from] hyper::Error),
}

/// Where a server is and how to speak to it.
#[derive(Clone)]
pub struct Client {
    server: SocketAddr,
    token: String,
    tls: TlsConnector,
}

/// What came back, whole.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: http::HeaderMap,
    pub body: Bytes,
}

/// One connection, kept open.
#[derive(Debug)]
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    host: String,
    token: String,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("server", &self.server).finish_non_exhaustive()
    }
}

impl Client {
    /// From a kubeconfig as [`crate::Server`] writes it.
    pub fn from_kubeconfig(path: &Path) -> Result<Client, ClientError> {
        let malformed = || ClientError::Malformed(path.to_owned());
        let text = std::fs::read_to_string(path)
            .map_err(|source| ClientError::Read { path: path.to_owned(), source })?;
        let server = field(&text, "server").and_then(|url| url.strip_prefix("https://"));
        let server = server.and_then(|server| server.parse().ok()).ok_or_else(malformed)?;
        let token = field(&text, "token").ok_or_else(malformed)?.to_owned();
        let authority = field(&text, "certificate-authority-data").ok_or_else(malformed)?;
        let authority = BASE64_STANDARD.decode(authority).map_err(|_| malformed())?;
        let authority = CertificateDer::from_pem_slice(&authority).map_err(|_| malformed())?;
        let mut roots = RootCertStore::empty();
        roots.add(authority)?;
        let config = ClientConfig::builder_with_provider(crate::tls::provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Client { server, token, tls: TlsConnector::from(Arc::new(config)) })
    }

    /// The same server, asked by somebody else.
    pub fn with_token(&self, token: &str) -> Client {
        Client { token: token.to_owned(), ..self.clone() }
    }

    pub async fn connect(&self) -> Result<Connection, ClientError> {
        let failed = |source| ClientError::Connect { server: self.server, source };
        let stream = TcpStream::connect(self.server).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        let name = ServerName::IpAddress(self.server.ip().into());
        let stream = self.tls.connect(name, stream).await.map_err(failed)?;
        let (sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to the server ended");
            }
        });
        Ok(Connection { sender, host: self.server.to_string(), token: self.token.clone() })
    }

    /// One request on a connection of its own.
    pub async fn request(
        &self,
        method: &str,
        path: &str,
        content_type: &str,
        body: impl Into<Bytes>,
    ) -> Result<Answer, ClientError> {
        self.connect().await?.request(method, path, content_type, body).await
    }
}

impl Connection {
    pub async fn request(
        &mut self,
        method: &str,
        path: &str,
        content_type: &str,
        body: impl Into<Bytes>,
    ) -> Result<Answer, ClientError> {
        let mut request = Request::new(Full::new(body.into()));
        set(&mut request, method, path);
        if let Ok(value) = content_type.parse() {
            request.headers_mut().insert(header::CONTENT_TYPE, value);
        }
        let response = self.send(request).await?;
        let (head, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Answer { status: head.status, headers: head.headers, body })
    }

    /// Sends a request as it is, with host and token added.
    pub async fn send(
        &mut self,
        mut request: Request<Full<Bytes>>,
    ) -> Result<http::Response<Incoming>, ClientError> {
        let headers = request.headers_mut();
        if let Ok(host) = self.host.parse() {
            headers.insert(header::HOST, host);
        }
        if !self.token.is_empty()
            && let Ok(mut token) = http::HeaderValue::from_str(&format!("Bearer {}", self.token))
        {
            token.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, token);
        }
        self.sender.ready().await?;
        Ok(self.sender.send_request(request).await?)
    }
}

fn set(request: &mut Request<Full<Bytes>>, method: &str, path: &str) {
    if let Ok(method) = method.parse() {
        *request.method_mut() = method;
    }
    if let Ok(uri) = path.parse() {
        *request.uri_mut() = uri;
    }
}
