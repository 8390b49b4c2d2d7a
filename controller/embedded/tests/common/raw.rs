//! HTTP/1.1 over TLS by hand: no library decides what goes out or what a strange answer means.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Where to ask, whom to trust and who we are.
#[derive(Clone)]
pub struct Endpoint {
    address: SocketAddr,
    tls: Arc<ClientConfig>,
    token: Option<String>,
}

#[derive(Debug)]
pub struct Request<'a> {
    pub method: &'a str,
    pub path: &'a str,
    pub headers: Vec<(String, String)>,
    pub body: Option<Vec<u8>>,
}

#[derive(Debug)]
pub struct Answer {
    pub code: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn headers_named(&self, name: &str) -> Vec<&str> {
        let named = self.headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str()).collect()
    }
}

impl Endpoint {
    /// With a token, or with a client certificate.
    pub fn from_kubeconfig(path: &Path) -> Endpoint {
        let text = std::fs::read_to_string(path).unwrap();
        let config: Value = serde_saphyr::from_str(&text).unwrap();
        let (cluster, user) = (&config["clusters"][0]["cluster"], &config["users"][0]["user"]);
        let url = cluster["server"].as_str().unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate(&cluster["certificate-authority-data"])).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let tls = if user["client-key-data"].is_string() {
            let key = PrivateKeyDer::from_pem_slice(&pem(&user["client-key-data"])).unwrap();
            let chain = vec![certificate(&user["client-certificate-data"])];
            tls.with_client_auth_cert(chain, key).unwrap()
        } else {
            tls.with_no_client_auth()
        };
        Endpoint {
            address: url.strip_prefix("https://").unwrap().parse().unwrap(),
            tls: Arc::new(tls),
            token: user["token"].as_str().map(str::to_owned),
        }
    }

    /// The same place, for somebody whom nobody knows.
    pub fn without_token(&self) -> Endpoint {
        Endpoint { token: None, ..self.clone() }
    }

    pub fn send(&self, request: &Request<'_>) -> Answer {
        let socket = TcpStream::connect(self.address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let name = ServerName::IpAddress(self.address.ip().into());
        let connection = ClientConnection::new(self.tls.clone(), name).unwrap();
        let mut stream = StreamOwned::new(connection, socket);
        stream.write_all(&self.bytes(request)).unwrap();
        let mut answer = Vec::new();
        if let Err(error) = stream.read_to_end(&mut answer) {
            // Some servers end the connection without saying so in TLS.
            assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof, "{request:?}: {error}");
        }
        parse(&answer)
    }

    fn bytes(&self, request: &Request<'_>) -> Vec<u8> {
        let Request { method, path, headers, body } = request;
        let pair = |name: &str, value: String| (name.to_owned(), value);
        let mut all = vec![
            pair("Host", self.address.to_string()),
            pair("Connection", "close".to_owned()),
            pair("User-Agent", "raw".to_owned()),
        ];
        all.extend(self.token.iter().map(|token| pair("Authorization", format!("Bearer {token}"))));
        all.extend(body.iter().map(|body| pair("Content-Length", body.len().to_string())));
        all.extend(headers.iter().cloned());
        let lines: Vec<String> =
            all.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let head = format!("{method} {path} HTTP/1.1\r\n{}\r\n", lines.concat());
        [head.as_bytes(), body.as_deref().unwrap_or_default()].concat()
    }
}

fn pem(value: &Value) -> Vec<u8> {
    BASE64_STANDARD.decode(value.as_str().unwrap()).unwrap()
}

fn certificate(value: &Value) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(&pem(value)).unwrap()
}

fn parse(bytes: &[u8]) -> Answer {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("a head");
    let head = std::str::from_utf8(&bytes[..end]).unwrap();
    let mut lines = head.split("\r\n");
    let code = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers: Vec<(String, String)> = lines
        .map(|line| line.split_once(':').unwrap())
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    let body = &bytes[end + 4..];
    let answer = Answer { code, headers, body: Vec::new() };
    let chunked = answer.headers_named("Transfer-Encoding").contains(&"chunked");
    Answer { body: if chunked { joined(body) } else { body.to_owned() }, ..answer }
}

fn joined(mut chunks: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let line = chunks.windows(2).position(|window| window == b"\r\n").expect("a chunk");
        let size = std::str::from_utf8(&chunks[..line]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return body;
        }
        let start = line + 2;
        body.extend(&chunks[start..start + size]);
        chunks = &chunks[start + size + 2..];
    }
}
