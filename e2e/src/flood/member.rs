//! A member of the mesh who makes one handshake after the other, with boringtun on this side, and
//! takes the time of each.

use std::net::{SocketAddr, SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519::{PublicKey, StaticSecret};

use crate::lab::Namespace;

/// A responder takes one initiation in 20 ms from a peer.
const PAUSE: Duration = Duration::from_millis(50);
const TICK: Duration = Duration::from_millis(100);

pub struct Member {
    private: StaticSecret,
    node: PublicKey,
    to: SocketAddrV4,
    namespace: Namespace,
}

/// How often a member tries.
#[derive(Clone, Copy, Debug)]
pub struct Attempts {
    pub count: usize,
    /// Each is given up after that.
    pub limit: Duration,
    /// And no more are begun after that.
    pub within: Duration,
}

/// How long each handshake took, in ascending order.
#[derive(Clone, Debug, Default)]
pub struct HandshakeTimes {
    pub done: Vec<Duration>,
    /// Those that never came to an end.
    pub failed: usize,
}

impl HandshakeTimes {
    /// The time that so many of a hundred stayed below; none if too many failed.
    pub fn percentile(&self, percent: usize) -> Option<Duration> {
        let all = self.done.len() + self.failed;
        self.done.get((all * percent).div_ceil(100).max(1) - 1).copied()
    }
}

impl Member {
    /// A member in `namespace` that knows the node at `to` by its public key in base64.
    pub fn new(namespace: &Namespace, to: SocketAddrV4, node: &str) -> anyhow::Result<Self> {
        let key = BASE64_STANDARD.decode(node.trim()).context("reading a public key")?;
        let key: [u8; 32] = key.try_into().ok().context("a public key has 32 bytes")?;
        let mut private = [0; 32];
        getrandom::fill(&mut private).context("making a key")?;
        let (private, node) = (StaticSecret::from(private), PublicKey::from(key));
        Ok(Self { private, node, to, namespace: namespace.clone() })
    }

    /// In base64.
    pub fn public_key(&self) -> String {
        BASE64_STANDARD.encode(PublicKey::from(&self.private).as_bytes())
    }

    /// Makes handshakes from `port`, or from a new port each time if that is 0. Each is a session
    /// of its own that knows no cookie yet.
    pub fn handshakes(&self, port: u16, attempts: Attempts) -> anyhow::Result<HandshakeTimes> {
        let mut times = HandshakeTimes::default();
        let start = Instant::now();
        for number in 0..attempts.count {
            if start.elapsed() > attempts.within {
                break;
            }
            let at: SocketAddr = ([0, 0, 0, 0], port).into();
            let socket = self.namespace.run(move || UdpSocket::bind(at)).context("binding")?;
            socket.connect(self.to).context("connecting")?;
            socket.set_read_timeout(Some(TICK)).context("setting a timeout")?;
            match self.handshake(&socket, number as u32 + 1, attempts.limit) {
                Some(took) => times.done.push(took),
                None => times.failed += 1,
            }
            std::thread::sleep(PAUSE);
        }
        times.done.sort();
        Ok(times)
    }

    fn handshake(&self, socket: &UdpSocket, index: u32, limit: Duration) -> Option<Duration> {
        let mut tunnel = Tunn::new(self.private.clone(), self.node, None, None, index, None);
        let (mut datagram, mut out) = ([0; 2048], [0; 2048]);
        let start = Instant::now();
        send(socket, &tunnel.format_handshake_initiation(&mut out, false));
        while start.elapsed() < limit {
            // After a cookie, or nothing at all, it tries again when WireGuard does: in 5 s.
            let Ok(length) = socket.recv(&mut datagram) else {
                send(socket, &tunnel.update_timers(&mut out));
                continue;
            };
            // Only a response makes it send something at once: the first packet of the session.
            let answer = tunnel.decapsulate(None, &datagram[..length], &mut out);
            if send(socket, &answer) {
                return Some(start.elapsed());
            }
        }
        None
    }
}

fn send(socket: &UdpSocket, result: &TunnResult<'_>) -> bool {
    let TunnResult::WriteToNetwork(datagram) = result else { return false };
    let _ = socket.send(datagram); // a refused datagram is a lost one
    true
}
