//! What needs the real clock, or no clock at all. Everything that takes time is in `sim`.

#![allow(clippy::disallowed_methods, reason = "the engine reads the real clock here")]

use keys::PresharedKey;

use super::*;
use crate::workbench::Made;

fn address(number: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, number], 51820))
}

fn peer(number: u8, key: &PrivateKey) -> PeerConfig {
    PeerConfig {
        name: format!("node-{number}"),
        keys: vec![(KeyEpoch::FIRST, key.public())],
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

fn packet(from: u8, to: u8) -> Vec<u8> {
    let mut bytes = vec![0x45, 0, 0, 20, 0, 0, 0, 0, 64, 17, 0, 0];
    bytes.extend([10, 42, from, 5, 10, 42, to, 5]);
    bytes
}

/// A mesh of node `own` with one peer.
fn mesh(own: &PrivateKey, config: PeerConfig) -> Mesh {
    let now = Instant::now();
    let mut mesh = Mesh::new(own, now);
    assert_eq!(mesh.set_peers(vec![config], &[], &mut Made::default(), now), []);
    mesh
}

/// Hands datagrams to and fro until both are silent; returns the packets that `b` delivered.
fn exchange(a: &mut Mesh, b: &mut Mesh, first: Made) -> Vec<Vec<u8>> {
    let (mut to_b, mut delivered) = (first.datagrams, Vec::new());
    while !to_b.is_empty() {
        let (mut from_b, mut from_a) = (Made::default(), Made::default());
        for datagram in to_b {
            let _ = b.open(&datagram, address(1), &mut from_b, Instant::now());
        }
        for datagram in &from_b.datagrams {
            let _ = a.open(datagram, address(2), &mut from_a, Instant::now());
        }
        delivered.extend(from_b.packets);
        to_b = from_a.datagrams;
    }
    delivered
}

fn send(a: &mut Mesh, b: &mut Mesh) -> Vec<Vec<u8>> {
    let mut made = Made::default();
    a.seal(&packet(1, 2), &mut made, Instant::now()).unwrap();
    exchange(a, b, made)
}

#[test]
fn a_node_that_restarts_has_its_sessions_back_at_once() {
    let keys = [1, 2].map(|byte| PrivateKey::from_bytes([byte; 32]));
    let mut b = mesh(&keys[1], peer(1, &keys[0]));

    for _ in 0..3 {
        let mut a = mesh(&keys[0], peer(2, &keys[1]));
        assert_eq!(send(&mut a, &mut b), [packet(1, 2)]);
    }

    assert_eq!(b.discards().get(Discard::StaleHandshake), 0);
}

#[test]
fn packets_are_sealed_for_the_newest_key_that_is_listed() {
    let keys = [1, 2, 3].map(|byte| PrivateKey::from_bytes([byte; 32]));
    let mut config = peer(2, &keys[1]);
    config.keys.push((KeyEpoch(2), keys[2].public()));
    let mut a = mesh(&keys[0], config);
    let mut new = mesh(&keys[2], peer(1, &keys[0]));

    assert_eq!(send(&mut a, &mut new), [packet(1, 2)]);
    assert_eq!(a.status()[0].epoch, Some(KeyEpoch(2)));
}

#[test]
fn every_key_that_is_listed_may_speak() {
    let keys = [1, 2, 3].map(|byte| PrivateKey::from_bytes([byte; 32]));
    let mut config = peer(1, &keys[0]);
    config.keys.push((KeyEpoch(2), keys[2].public()));
    let mut b = mesh(&keys[1], config);

    for own in [&keys[0], &keys[2]] {
        let mut a = mesh(own, peer(2, &keys[1]));
        assert_eq!(send(&mut a, &mut b), [packet(1, 2)]);
    }
}

#[test]
fn a_changed_preshared_key_ends_the_sessions_made_with_the_old_one() {
    let keys = [1, 2].map(|byte| PrivateKey::from_bytes([byte; 32]));
    let (mut a, mut b) = (mesh(&keys[0], peer(2, &keys[1])), mesh(&keys[1], peer(1, &keys[0])));
    send(&mut a, &mut b);
    assert!(a.status()[0].established);

    let mut changed = peer(2, &keys[1]);
    changed.preshared_key = Some(PresharedKey::from_bytes([9; 32]));
    a.set_peers(vec![changed], &[], &mut Made::default(), Instant::now());

    assert!(!a.status()[0].established);
    assert_eq!(send(&mut a, &mut b), [] as [Vec<u8>; 0]);
}

#[test]
fn what_is_printed_of_a_peer_holds_no_preshared_key() {
    let mut config = peer(1, &PrivateKey::from_bytes([1; 32]));
    config.preshared_key = Some(PresharedKey::from_bytes([0xab; 32]));

    let printed = format!("{config:?}").to_lowercase();

    assert!(!printed.contains("abab") && !printed.contains("171, 171"), "{printed}");
}

#[test]
fn a_packet_too_long_for_any_tunnel_is_refused_and_not_a_panic() {
    let keys = [1, 2].map(|byte| PrivateKey::from_bytes([byte; 32]));
    let (mut a, mut b) = (mesh(&keys[0], peer(2, &keys[1])), mesh(&keys[1], peer(1, &keys[0])));
    send(&mut a, &mut b);
    let mut longest = packet(1, 2);
    longest.resize(65_535, 0);
    longest[2..4].copy_from_slice(&u16::MAX.to_be_bytes());

    let mut made = Made::default();
    a.seal(&longest, &mut made, Instant::now()).unwrap();

    assert_eq!(made.datagrams[0].len(), 65_535 + 32);
    assert_eq!(exchange(&mut a, &mut b, made), [longest]);
    let datagram = vec![4; 200_000];
    let error = a.open(&datagram, address(2), &mut Made::default(), Instant::now());
    assert_eq!(error, Err(Discard::NotWireGuard));
}

#[test]
fn a_clock_that_was_put_forward_costs_no_session_and_lets_the_others_begin() {
    let keys = [1, 2, 3].map(|byte| PrivateKey::from_bytes([byte; 32]));
    let mut a = mesh(&keys[0], peer(2, &keys[1]));
    let both = vec![peer(2, &keys[1]), peer(3, &keys[2])];
    a.set_peers(both, &[], &mut Made::default(), Instant::now());
    let (mut b, mut c) = (mesh(&keys[1], peer(1, &keys[0])), mesh(&keys[2], peer(1, &keys[0])));
    send(&mut a, &mut b);
    a.seal(&packet(1, 3), &mut Made::default(), Instant::now()).unwrap();

    a.clock_put_forward();

    assert!(a.status()[0].established);
    let mut made = Made::default();
    a.seal(&packet(1, 3), &mut made, Instant::now()).unwrap();
    assert_eq!(exchange(&mut a, &mut c, made).len(), 2);
}
