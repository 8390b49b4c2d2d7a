//! Two meshes with sessions between them, by nothing but the public interface.

#![allow(dead_code, reason = "each user takes a part")]
#![allow(unreachable_pub, reason = "a test has no face")]
#![allow(clippy::disallowed_methods, reason = "a moment to count from")]
#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers as well")]

use std::{
    net::{IpAddr, SocketAddr},
    ops::Range,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use crypto::{Discard, Event, Inbox, Mesh, Outbox, Paths, PeerConfig, Random, Settings};
use keys::{KeyEpoch, PrivateKey};

/// Numbers that repeat.
struct Seeded(u64);

impl Random for Seeded {
    fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(0x9e37_79b9);
            *byte = (self.0 >> 33) as u8;
        }
    }
}

/// The last datagram and what was delivered, in place: the owner of memory is nobody's business.
pub struct Last {
    pub datagram: Box<[u8]>,
    pub length: usize,
    pub sent: usize,
}

impl Default for Last {
    fn default() -> Self {
        Self { datagram: vec![0; 70_000].into(), length: 0, sent: 0 }
    }
}

impl Last {
    pub fn bytes(&self) -> &[u8] {
        &self.datagram[..self.length]
    }
}

impl Outbox for Last {
    fn send(&mut self, _: SocketAddr, datagram: &[u8]) {
        self.datagram[..datagram.len()].copy_from_slice(datagram);
        self.length = datagram.len();
        self.sent += 1;
    }

    fn deliver(&mut self, _: &[u8]) {}

    fn event(&mut self, _: Event<'_>) {}
}

/// Counts what it gets.
#[derive(Default)]
pub struct Counted {
    pub packets: usize,
    pub others: usize,
}

impl Inbox for Counted {
    fn packet(&mut self, _: Range<usize>) {
        self.packets += 1;
    }

    fn handshake(&mut self, _: Range<usize>) {
        self.others += 1;
    }

    fn discard(&mut self, _: Discard) {
        self.others += 1;
    }
}

pub fn key(number: u32) -> PrivateKey {
    let mut bytes = [3; 32];
    // Not the first byte: its low bits are no part of a key.
    bytes[8..12].copy_from_slice(&number.to_le_bytes());
    PrivateKey::from_bytes(bytes)
}

pub fn address(number: u32) -> SocketAddr {
    let [_, a, b, c] = number.to_be_bytes();
    SocketAddr::from(([198, a, b, c], 51820))
}

/// An address of node `number`, in its own /24.
pub fn pod(number: u32) -> IpAddr {
    let [_, a, b, _] = (number << 8).to_be_bytes();
    IpAddr::from([10, a, b, 5])
}

pub fn peer(number: u32) -> PeerConfig {
    let [_, a, b, _] = (number << 8).to_be_bytes();
    PeerConfig {
        name: format!("node-{number}"),
        keys: vec![(KeyEpoch::FIRST, key(number).public())],
        send_to: None,
        follows: true,
        preshared_key: None,
        endpoint: Some(address(number)),
        keepalive: Some(Duration::from_secs(25)),
        allowed: vec![
            format!("10.{a}.{b}.0/24").parse().unwrap(),
            format!("fd42:0:0:{number:x}::/64").parse().unwrap(),
        ],
        others: Vec::new(),
        forwards: Vec::new(),
        relayed: false,
    }
}

pub fn mesh(number: u32, now: Instant) -> Mesh {
    let settings = Settings {
        identities: vec![(KeyEpoch::FIRST, key(number))],
        sending: KeyEpoch::FIRST,
        random: Box::new(Seeded(number.into())),
        timestamp_floor: None,
        wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000),
    };
    Mesh::new(settings, now)
}

/// An IPv4 packet between pods of two nodes.
pub fn packet(from: u32, to: u32, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    bytes[0] = 0x45;
    bytes[2..4].copy_from_slice(&(length as u16).to_be_bytes());
    let pods = [pod(from), pod(to)].map(|pod| match pod {
        IpAddr::V4(v4) => v4.octets(),
        IpAddr::V6(_) => unreachable!("pods are of IPv4 here"),
    });
    bytes[12..16].copy_from_slice(&pods[0]);
    bytes[16..20].copy_from_slice(&pods[1]);
    bytes
}

/// Node 1 with so many peers, and node 2 with a session between them.
pub struct Pair {
    pub now: Instant,
    pub a: Mesh,
    pub b: Mesh,
    pub from: Arc<Paths>,
    pub to: Arc<Paths>,
}

impl Pair {
    pub fn with_peers(peers: u32) -> Self {
        let now = Instant::now();
        let (mut a, mut b) = (mesh(1, now), mesh(2, now));
        let mut out = Last::default();
        let idle = (3..peers + 2).map(|number| PeerConfig { keepalive: None, ..peer(number) });
        let list = idle.chain([PeerConfig { keepalive: None, ..peer(2) }]).collect();
        assert_eq!(a.set_peers(list, &[], &mut out, now), []);
        b.set_peers(vec![PeerConfig { keepalive: None, ..peer(1) }], &[], &mut out, now);
        a.seal(&packet(1, 2, 100), &mut out, now).unwrap();
        for number in 0..3 {
            let datagram = out.bytes().to_vec();
            let (to, from) = if number % 2 == 0 { (&mut b, 1) } else { (&mut a, 2) };
            to.open(&datagram, address(from), &mut out, now).unwrap();
        }
        Self { now, from: a.paths(), to: b.paths(), a, b }
    }

    /// Seals so many packets of that length into `train`, one behind the other.
    pub fn seal(&self, packets: usize, length: usize, train: &mut [u8]) -> usize {
        let mut sealed = self.from.train(pod(2), packets as u32, self.now).ok().unwrap();
        let stride = crypto::Train::length(length, 1420.max(length));
        for record in train.chunks_mut(stride).take(packets) {
            assert_eq!(sealed.seal(record, length), stride);
        }
        stride
    }
}
