//! Two meshes of our own in memory. Everything that takes long or goes wrong is in `sim`.

use std::{
    net::SocketAddr,
    time::{Duration, Instant, SystemTime},
};

use keys::{KeyEpoch, PresharedKey, PrivateKey};

use crate::{Discard, Mesh, PeerConfig, Random, Settings, workbench::Made};

/// Numbers that repeat.
pub(crate) struct Seeded(pub(crate) u64);

impl Random for Seeded {
    fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(0x9e37_79b9);
            *byte = (self.0 >> 33) as u8;
        }
    }
}

pub(crate) fn key(number: u8) -> PrivateKey {
    PrivateKey::from_bytes([number; 32])
}

pub(crate) fn address(number: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, number], 51820))
}

/// Node `number` with keys of these epochs.
pub(crate) fn peer(number: u8, keys: &[(u32, u8)]) -> PeerConfig {
    PeerConfig {
        name: format!("node-{number}"),
        keys: keys.iter().map(|(epoch, own)| (KeyEpoch(*epoch), key(*own).public())).collect(),
        send_to: None,
        follows: true,
        preshared_key: None,
        endpoint: Some(address(number)),
        keepalive: None,
        allowed: vec![format!("10.42.{number}.0/24").parse().unwrap()],
        others: Vec::new(),
        forwards: Vec::new(),
        relayed: false,
    }
}

pub(crate) fn packet(from: u8, to: u8, length: usize) -> Vec<u8> {
    let mut bytes = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 10, 42, from, 5, 10, 42, to, 5];
    bytes.resize(length, 7);
    bytes[2..4].copy_from_slice(&(length as u16).to_be_bytes());
    bytes
}

/// A clock, and a mesh at each end of a perfect link.
pub(crate) struct Pair {
    pub(crate) now: Instant,
    pub(crate) a: Mesh,
    pub(crate) b: Mesh,
}

pub(crate) fn identities(keys: &[(u32, u8)]) -> Vec<(KeyEpoch, PrivateKey)> {
    keys.iter().map(|(epoch, own)| (KeyEpoch(*epoch), key(*own))).collect()
}

pub(crate) fn mesh(keys: &[(u32, u8)], now: Instant) -> Mesh {
    mesh_after(None, keys, now)
}

/// A mesh whose earlier life put that time into its last handshake.
pub(crate) fn mesh_after(
    timestamp_floor: Option<SystemTime>,
    keys: &[(u32, u8)],
    now: Instant,
) -> Mesh {
    let settings = Settings {
        identities: identities(keys),
        sending: KeyEpoch(keys[0].0),
        random: Box::new(Seeded(keys[0].1.into())),
        timestamp_floor,
        wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000),
    };
    Mesh::new(settings, now)
}

impl Pair {
    #[allow(clippy::disallowed_methods, reason = "a moment to count from")]
    pub(crate) fn new(a: &[(u32, u8)], b: &[(u32, u8)]) -> Self {
        let now = Instant::now();
        let mut pair = Self { now, a: mesh(a, now), b: mesh(b, now) };
        pair.tell_a(peer(2, b));
        pair.tell_b(peer(1, a));
        pair
    }

    pub(crate) fn connected() -> Self {
        let mut pair = Self::new(&[(1, 1)], &[(1, 2)]);
        assert_eq!(pair.a_sends(), [packet(1, 2, 100)]);
        assert_eq!(pair.b_sends(), [packet(2, 1, 100)]);
        pair
    }

    pub(crate) fn tell_a(&mut self, config: PeerConfig) {
        let mut made = Made::default();
        assert_eq!(self.a.set_peers(vec![config], &[], &mut made, self.now), []);
        self.exchange(made.datagrams, true);
    }

    pub(crate) fn tell_b(&mut self, config: PeerConfig) {
        let mut made = Made::default();
        assert_eq!(self.b.set_peers(vec![config], &[], &mut made, self.now), []);
        self.exchange(made.datagrams, false);
    }

    /// Sends one packet and lets everything arrive; what the other side delivered.
    pub(crate) fn a_sends(&mut self) -> Vec<Vec<u8>> {
        let mut made = Made::default();
        self.a.seal(&packet(1, 2, 100), &mut made, self.now).unwrap();
        self.exchange(made.datagrams, true)
    }

    pub(crate) fn b_sends(&mut self) -> Vec<Vec<u8>> {
        let mut made = Made::default();
        self.b.seal(&packet(2, 1, 100), &mut made, self.now).unwrap();
        self.exchange(made.datagrams, false)
    }

    /// Lets time pass, timers run and datagrams arrive.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let wakes = [self.a.next_wake(), self.b.next_wake()];
            let Some(next) = wakes.into_iter().flatten().min().filter(|next| *next <= end) else {
                break;
            };
            self.now = self.now.max(next);
            self.tick();
        }
        self.now = end;
    }

    pub(crate) fn tick(&mut self) {
        let (mut from_a, mut from_b) = (Made::default(), Made::default());
        self.a.tick(&mut from_a, self.now);
        self.b.tick(&mut from_b, self.now);
        self.exchange(from_a.datagrams, true);
        self.exchange(from_b.datagrams, false);
    }

    /// Hands datagrams to and fro until both are silent; all packets that came out.
    pub(crate) fn exchange(&mut self, mut datagrams: Vec<Vec<u8>>, mut to_b: bool) -> Vec<Vec<u8>> {
        let mut packets = Vec::new();
        while !datagrams.is_empty() {
            let mut made = Made::default();
            for datagram in datagrams {
                let (to, from) = if to_b { (&mut self.b, 1) } else { (&mut self.a, 2) };
                let _ = to.open(&datagram, address(from), &mut made, self.now);
            }
            packets.extend(made.packets);
            datagrams = made.datagrams;
            to_b = !to_b;
        }
        packets
    }
}

#[test]
fn a_packet_makes_a_session_and_arrives() {
    let mut pair = Pair::new(&[(1, 1)], &[(1, 2)]);

    assert_eq!(pair.a_sends(), [packet(1, 2, 100)]);
    assert_eq!(pair.b_sends(), [packet(2, 1, 100)]);
    assert!(pair.a.status()[0].established && pair.b.status()[0].established);
}

#[test]
fn a_changed_preshared_key_ends_no_session_and_counts_from_the_next_handshake() {
    let mut pair = Pair::connected();
    let with_key = |number: u8, shared: u8| PeerConfig {
        preshared_key: Some(PresharedKey::from_bytes([shared; 32])),
        ..peer(number, &[(1, number)])
    };

    pair.tell_a(with_key(2, 9));
    assert_eq!(pair.a_sends().len(), 1, "the session stays");
    pair.pass(Duration::from_secs(121));
    assert_eq!(pair.a_sends().len(), 1, "make before break");
    assert!(pair.a.discards().get(Discard::NotAuthentic) > 0, "the next handshake fails");
    pair.tell_b(with_key(1, 9));
    pair.pass(Duration::from_secs(6));

    let age = pair.now.duration_since(pair.a.status()[0].last_handshake.unwrap());
    assert!(age < Duration::from_secs(6), "{age:?}");
    assert_eq!(pair.a_sends().len(), 1);
}

#[test]
fn packets_are_sealed_for_the_newest_key_that_is_listed_or_the_one_that_is_named() {
    for (named, expected) in [(None, 2), (Some(KeyEpoch(1)), 1), (Some(KeyEpoch(9)), 2)] {
        let mut pair = Pair::new(&[(1, 1)], &[(1, 2), (2, 3)]);
        pair.tell_a(PeerConfig { send_to: named, ..peer(2, &[(1, 2), (2, 3)]) });

        assert_eq!(pair.a_sends().len(), 1);
        assert_eq!(pair.a.status()[0].epoch, Some(KeyEpoch(expected)));
    }
}

#[test]
fn one_identity_answers_while_another_begins() {
    // A has keys 1 and 11 and begins with the new one; B knows both and still begins with the old.
    let mut pair = Pair::new(&[(2, 11), (1, 1)], &[(1, 2)]);
    pair.tell_b(PeerConfig { send_to: Some(KeyEpoch(1)), ..peer(1, &[(1, 1), (2, 11)]) });

    assert_eq!(pair.b_sends().len(), 1);
    assert_eq!(pair.b.status()[0].epoch, Some(KeyEpoch(1)), "answered by the old one");

    let mut pair = Pair::new(&[(2, 11), (1, 1)], &[(1, 2)]);
    pair.tell_b(PeerConfig { send_to: Some(KeyEpoch(1)), ..peer(1, &[(1, 1), (2, 11)]) });
    assert_eq!(pair.a_sends().len(), 1);
    assert_eq!(pair.b.status()[0].epoch, Some(KeyEpoch(2)), "begun by the new one");
    assert_eq!(pair.b_sends().len(), 1);
}

#[test]
fn a_rotation_is_a_rekey_that_loses_nothing_and_an_epoch_that_goes_takes_its_sessions() {
    let mut pair = Pair::connected();
    let both = [(1, 1), (2, 11)];
    pair.tell_b(PeerConfig { send_to: Some(KeyEpoch(1)), ..peer(1, &both) });

    let mut made = Made::default();
    pair.a.set_identities(identities(&both), KeyEpoch(1), &mut made, pair.now);
    assert_eq!(made.datagrams.len(), 0, "known, not used");
    assert_eq!(pair.b_sends().len(), 1);

    pair.a.set_identities(identities(&both), KeyEpoch(2), &mut made, pair.now);
    assert_eq!(made.datagrams.len(), 1, "renewed at once");
    assert_eq!(pair.a_sends().len(), 1, "on the old session meanwhile");
    pair.exchange(made.datagrams, true);
    assert_eq!(pair.b.status()[0].epoch, Some(KeyEpoch(2)));
    assert_eq!((pair.a_sends().len(), pair.b_sends().len()), (1, 1));

    let mut made = Made::default();
    pair.a.set_identities(identities(&both[1..]), KeyEpoch(2), &mut made, pair.now);
    pair.tell_b(peer(1, &both[1..]));
    assert!(pair.a.status()[0].established);
    assert_eq!((pair.a_sends().len(), pair.b_sends().len()), (1, 1));

    pair.a.set_identities(identities(&[(3, 12)]), KeyEpoch(3), &mut made, pair.now);
    assert!(!pair.a.status()[0].established, "no session outlives its key");
}

#[test]
fn who_follows_no_rotation_is_called_with_the_key_that_it_knows() {
    let both = [(1, 1), (2, 11)];
    let plain = PeerConfig { follows: false, ..peer(2, &[(1, 2)]) };
    let own = |pair: &Pair| pair.a.status()[0].own_epoch;
    let mut pair = Pair::new(&[(2, 11), (1, 1)], &[(1, 2)]);
    pair.tell_a(plain);
    pair.tell_b(peer(1, &both[..1]));

    assert_eq!((pair.a_sends().len(), own(&pair)), (1, Some(KeyEpoch(1))));
    let mut made = Made::default();
    pair.a.set_identities(identities(&both), KeyEpoch(2), &mut made, pair.now);
    assert_eq!(made.datagrams.len(), 0, "its session is good");
    // Somebody gives it the new key instead; it is called, not calling.
    pair.tell_b(peer(1, &[(1, 11)]));
    pair.a.seal(&packet(1, 2, 100), &mut made, pair.now).unwrap();
    pair.pass(Duration::from_secs(40));

    assert_eq!((pair.a_sends().len(), own(&pair)), (1, Some(KeyEpoch(2))));
    pair.a.set_identities(identities(&both[1..]), KeyEpoch(2), &mut made, pair.now);
    assert_eq!(pair.a_sends().len(), 1);
}

#[test]
fn a_packet_too_long_for_any_tunnel_is_refused_and_not_a_panic() {
    let mut pair = Pair::connected();
    let longest = packet(1, 2, 65_535);

    let mut made = Made::default();
    pair.a.seal(&longest, &mut made, pair.now).unwrap();

    assert_eq!(made.datagrams[0].len(), 65_536 + 32, "padded");
    assert_eq!(pair.exchange(made.datagrams, true), [longest]);
    let error = pair.a.open(&vec![4; 200_000], address(2), &mut Made::default(), pair.now);
    assert_eq!(error, Err(Discard::NotWireGuard));
}

#[test]
fn data_without_an_answer_is_acknowledged_after_ten_seconds_and_no_earlier() {
    let mut pair = Pair::connected();
    pair.pass(Duration::from_secs(30));
    pair.a_sends();
    let sent = |pair: &Pair| pair.a.status()[0].last_received.unwrap();
    let (before, at) = (sent(&pair), pair.now);

    pair.pass(Duration::from_millis(9_900));
    assert_eq!(sent(&pair), before);
    pair.pass(Duration::from_millis(200));

    let after = sent(&pair).duration_since(at);
    assert!((9_990..10_100).contains(&after.as_millis()), "{after:?}");
    let settled = sent(&pair);
    pair.pass(Duration::from_secs(60));
    assert_eq!(sent(&pair), settled, "a keepalive asks for none");
}

#[test]
fn who_hears_nothing_for_fifteen_seconds_begins_a_handshake() {
    let mut pair = Pair::connected();
    let mut made = Made::default();
    pair.a.seal(&packet(1, 2, 100), &mut made, pair.now).unwrap();

    let mut made = Made::default();
    while made.datagrams.is_empty() {
        let wake = pair.a.next_wake().unwrap();
        pair.now = wake.max(pair.now);
        pair.a.tick(&mut made, pair.now);
    }

    assert_eq!(made.datagrams[0][0], 1);
    let age = pair.now.duration_since(pair.a.status()[0].last_handshake.unwrap());
    assert!((14_990..15_100).contains(&age.as_millis()), "{age:?}");
}

#[test]
fn an_idle_mesh_wakes_for_nothing() {
    let mut pair = Pair::connected();
    pair.pass(Duration::from_secs(600));

    assert_eq!((pair.a.next_wake(), pair.b.next_wake()), (None, None));
}

#[test]
fn a_wish_that_cannot_be_fulfilled_keeps_nobody_busy() {
    let mut pair = Pair::new(&[(1, 1)], &[(1, 2)]);
    let keepalive = Some(Duration::from_millis(10));
    pair.a = mesh(&[(1, 1)], pair.now);
    pair.tell_a(PeerConfig { endpoint: None, keepalive, ..peer(2, &[(1, 2)]) });
    pair.pass(Duration::from_secs(1));
    assert_eq!(pair.a.next_wake(), None, "nowhere to send to");

    pair.tell_a(PeerConfig { keepalive, ..peer(2, &[(1, 77)]) });
    let mut wakes = 0;
    let end = pair.now + Duration::from_secs(10);
    while let Some(wake) = pair.a.next_wake().filter(|wake| *wake < end) {
        pair.now = wake;
        pair.a.tick(&mut Made::default(), wake);
        wakes += 1;
    }
    assert!(wakes < 1100, "{wakes}");
}
