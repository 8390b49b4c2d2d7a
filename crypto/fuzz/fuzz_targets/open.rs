//! Any datagrams, in any order, to a mesh in the middle of a handshake: nothing is delivered, and
//! nothing panics.

#![no_main]

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use crypto::{Event, Mesh, Outbox, PeerConfig};
use keys::{KeyEpoch, PrivateKey};
use libfuzzer_sys::fuzz_target;

struct Nowhere;

impl Outbox for Nowhere {
    fn send(&mut self, _: SocketAddr, _: &[u8]) {}

    fn deliver(&mut self, _: &[u8]) {
        panic!("a packet that nobody with a key made was delivered");
    }

    fn event(&mut self, _: Event<'_>) {}
}

fuzz_target!(|datagrams: Vec<Vec<u8>>| {
    let now = Instant::now();
    let mut mesh = Mesh::new(&PrivateKey::from_bytes([1; 32]), now);
    let from: SocketAddr = "192.0.2.1:51820".parse().expect("an address");
    let peer = PeerConfig {
        name: "peer".to_owned(),
        keys: vec![(KeyEpoch::FIRST, PrivateKey::from_bytes([2; 32]).public())],
        preshared_key: None,
        endpoint: Some(from),
        keepalive: Some(Duration::from_secs(25)),
        allowed: vec!["0.0.0.0/0".parse().expect("a prefix")],
    };
    mesh.set_peers(vec![peer], &[], &mut Nowhere, now);
    for datagram in datagrams {
        let _ = mesh.open(&datagram, from, &mut Nowhere, now);
        let _ = mesh.seal(&datagram, &mut Nowhere, now);
    }
    mesh.tick(&mut Nowhere, now + Duration::from_secs(1));
});
