//! A whole node that has a session with a peer, and datagrams that are almost genuine.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::LazyLock,
    time::Instant,
};

use keys::{KeyEpoch, PrivateKey};

use super::input::Input;
use crate::{PeerConfig, boringtun, workbench::Made};

#[allow(clippy::disallowed_methods, reason = "a moment to count from")]
pub(super) static START: LazyLock<Instant> = LazyLock::new(Instant::now);

pub(super) fn private(n: u8) -> PrivateKey {
    PrivateKey::from_bytes([n; 32])
}

pub(super) fn address(n: u8) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, n)), 51_820)
}

/// The peer with that private key, at 192.0.2.n, with 10.n.0.0/16.
pub(super) fn config(name: &str, n: u8) -> PeerConfig {
    PeerConfig {
        name: name.to_owned(),
        keys: vec![(KeyEpoch::FIRST, private(n).public())],
        send_to: None,
        follows: true,
        preshared_key: None,
        endpoint: Some(address(n)),
        keepalive: None,
        allowed: vec![format!("10.{n}.0.0/16").parse().expect("a prefix")],
        others: Vec::new(),
        forwards: Vec::new(),
        relayed: false,
    }
}

/// A UDP packet of 28 bytes from 10.1.0.1 to 10.2.0.1.
pub(super) fn packet() -> Vec<u8> {
    let mut packet = vec![0; 28];
    packet[0] = 0x45;
    packet[3] = 28;
    packet[12..20].copy_from_slice(&[10, 1, 0, 1, 10, 2, 0, 1]);
    packet
}

/// Each round sends one packet from the first node to the second and changes the datagram on its
/// way; only what arrives unchanged is delivered, and whatever is not is counted.
pub(super) fn boringtun(data: &[u8]) {
    let now = *START;
    let mut input = Input::new(data);
    let mut made = Made::default();
    let [mut a, mut b] = [1, 2].map(|n| boringtun::Mesh::new(&private(n), now));
    a.set_peers(vec![config("b", 2)], &[], &mut made, now);
    b.set_peers(vec![config("a", 1)], &[], &mut made, now);
    let _ = a.seal(&packet(), &mut made, now);
    let mut to_b = made.datagrams;
    while !to_b.is_empty() {
        let (mut from_a, mut from_b) = (Made::default(), Made::default());
        for datagram in &to_b {
            let _ = b.open(datagram, address(1), &mut from_b, now);
        }
        for datagram in &from_b.datagrams {
            let _ = a.open(datagram, address(2), &mut from_a, now);
        }
        to_b = from_a.datagrams;
    }
    for _ in 0..8 {
        let mut sealed = Made::default();
        a.seal(&packet(), &mut sealed, now).expect("there is a session");
        let genuine = &sealed.datagrams[0];
        let length = usize::from(input.short());
        let touched = Input::new(input.slice(length)).touched(genuine);
        let mut opened = Made::default();
        let result = b.open(&touched, address(1), &mut opened, now);
        assert_eq!(opened.packets.len(), usize::from(touched == *genuine));
        assert_eq!(result.is_ok(), touched == *genuine);
    }
}
