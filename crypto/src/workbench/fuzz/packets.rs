//! Inner packets: what is one, and whose.

use std::net::IpAddr;

use super::input::Input;
use crate::{
    Discard, IpPacket, Routes, is_martian,
    source::{Owner, Sender, theirs},
};

/// A packet is a beginning of the bytes, as long as its header says, and reading it again gives
/// the same.
pub(super) fn ip_packet(data: &[u8]) {
    let Some(packet) = IpPacket::parse(data) else {
        return;
    };
    let said = match data[0] >> 4 {
        4 => usize::from(u16::from_be_bytes([data[2], data[3]])),
        _ => 40 + usize::from(u16::from_be_bytes([data[4], data[5]])),
    };
    assert_eq!(packet.bytes(), &data[..said]);
    assert_eq!(IpPacket::parse(packet.bytes()), Some(packet));
    assert_eq!(packet.source().is_ipv4(), packet.destination().is_ipv4());
    if let IpAddr::V6(v6) = packet.source()
        && v6.to_ipv4_mapped().is_some()
    {
        assert!(is_martian(packet.source()));
    }
}

/// Two peers, one inside of the other's prefix, and a node with an address inside of both:
/// only the most specific owner may speak.
pub(super) fn source(data: &[u8]) {
    let mut routes = Routes::default();
    for (prefix, owner) in [
        ("10.0.0.0/8", Owner::Peer(0)),
        ("10.1.0.0/16", Owner::Peer(1)),
        ("10.1.2.0/24", Owner::Us),
        ("fd00::/8", Owner::Peer(0)),
        ("fd42::/16", Owner::Peer(1)),
        ("fd42:7::/32", Owner::Us),
    ] {
        routes.insert(prefix.parse().expect("a prefix"), owner);
    }
    let mut input = Input::new(data);
    let sender = Owner::Peer((input.byte() % 2).into());
    let bytes = input.rest();
    match theirs(bytes, Sender { owner: sender, forwards: None }, &routes, None) {
        Ok(packet) => assert_eq!(routes.owner_of(packet.source()), Some(sender)),
        Err(Discard::MalformedPacket) => assert_eq!(IpPacket::parse(bytes), None),
        Err(Discard::Martian | Discard::OwnSource | Discard::NotTheirAddress) => {}
        Err(other) => panic!("{other:?}"),
    }
}
