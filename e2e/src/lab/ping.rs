//! Echo requests with a marker in them, from inside a namespace, through the kernel's ping sockets.

use std::io::Read as _;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use socket2::{Domain, Protocol, Socket, Type};

use super::Namespace;

impl Namespace {
    /// Sends one echo request carrying `payload` and returns the round trip if it came back whole.
    pub fn ping(&self, to: IpAddr, payload: &[u8]) -> anyhow::Result<Duration> {
        self.ping_within(to, payload, Duration::from_secs(1))
    }

    /// The same with a limit of one's own.
    pub fn ping_within(
        &self,
        to: IpAddr,
        payload: &[u8],
        limit: Duration,
    ) -> anyhow::Result<Duration> {
        let socket = self.run(move || open(to)).with_context(|| format!("pinging {to}"))?;
        socket.set_read_timeout(Some(limit)).context("setting a timeout")?;
        let sent = Instant::now();
        socket.send(&request(to, payload)).with_context(|| format!("sending a ping to {to}"))?;
        let mut answer = vec![0; payload.len() + 64];
        let length = (&socket).read(&mut answer).with_context(|| format!("no echo from {to}"))?;
        anyhow::ensure!(answer[..length].get(8..) == Some(payload), "a mangled echo from {to}");
        Ok(sent.elapsed())
    }

    /// Pings until an answer comes; how long that took.
    pub fn ping_until(
        &self,
        to: IpAddr,
        payload: &[u8],
        limit: Duration,
    ) -> anyhow::Result<Duration> {
        let one = Duration::from_millis(200);
        super::eventually(&format!("an echo from {to}"), limit, || {
            self.ping_within(to, payload, one).is_ok()
        })
    }
}

fn open(to: IpAddr) -> std::io::Result<Socket> {
    let (domain, protocol) = match to {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
    };
    let socket = Socket::new(domain, Type::DGRAM, Some(protocol))?;
    socket.connect(&SocketAddr::new(to, 0).into())?;
    Ok(socket)
}

/// Type, code, and room for what the kernel fills in: checksum and identifier.
fn request(to: IpAddr, payload: &[u8]) -> Vec<u8> {
    let kind = if to.is_ipv4() { 8 } else { 128 };
    [&[kind, 0, 0, 0, 0, 0, 0, 1], payload].concat()
}
