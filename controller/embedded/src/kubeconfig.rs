//! The admin's kubeconfig: written at each start, read by our own client.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Where the admin's kubeconfig is.
pub(crate) fn path(dir: &Path) -> PathBuf {
    dir.join("admin.kubeconfig")
}

/// The text, for a server that listens at `address`.
pub(crate) fn text(address: SocketAddr, authority: &[u8], token: &str) -> String {
    let ip = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    let server = SocketAddr::new(ip, address.port());
    let authority = BASE64_STANDARD.encode(pem(authority));
    format!(
        "apiVersion: v1
kind: Config
current-context: hawser
contexts:
- name: hawser
  context:
    cluster: hawser
    user: admin
clusters:
- name: hawser
  cluster:
    server: https://{server}
    certificate-authority-data: {authority}
users:
- name: admin
  user:
    token: {token}
"
    )
}

fn pem(certificate: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(certificate);
    let lines: Vec<&str> =
        (0..text.len()).step_by(64).map(|start| &text[start..text.len().min(start + 64)]).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

/// A scalar of a kubeconfig that `kubeconfig` wrote.
pub(crate) fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(": "))
}

/// Whole or not at all, and for the owner alone.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let next = path.with_extension("next");
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&next)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&next, path)
}
