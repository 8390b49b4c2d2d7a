//! Asks an agent over its Unix socket: the few lines of HTTP that a test needs.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;

/// The status code and body of one GET.
pub fn get(socket: &Path, path: &str) -> anyhow::Result<(u16, String)> {
    let at = || format!("asking {} for {path}", socket.display());
    let mut stream = UnixStream::connect(socket).with_context(at)?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).with_context(at)?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).with_context(at)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).with_context(at)?;
    let (head, body) = answer.split_once("\r\n\r\n").with_context(at)?;
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    Ok((code.with_context(at)?, body.to_owned()))
}
