use std::net::IpAddr;

use proptest::prelude::*;

use super::{IpPacket, is_martian};

/// How many random buffers the property tests try.
const CASES: u32 = 20_000;

fn v4(total: u16, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length.max(20)];
    bytes[0] = 0x45;
    bytes[2..4].copy_from_slice(&total.to_be_bytes());
    bytes[12..16].copy_from_slice(&[10, 42, 1, 5]);
    bytes[16..20].copy_from_slice(&[10, 42, 2, 6]);
    bytes.truncate(length);
    bytes
}

fn v6(payload: u16, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length.max(40)];
    bytes[0] = 0x60;
    bytes[4..6].copy_from_slice(&payload.to_be_bytes());
    bytes[8] = 0xfd;
    bytes[24] = 0xfc;
    bytes.truncate(length);
    bytes
}

#[test]
fn a_whole_packet_says_from_whom_and_to_whom() {
    let bytes = v4(28, 28);
    let packet = IpPacket::parse(&bytes).unwrap();
    assert_eq!(packet.source(), "10.42.1.5".parse::<IpAddr>().unwrap());
    assert_eq!(packet.destination(), "10.42.2.6".parse::<IpAddr>().unwrap());

    let bytes = v6(8, 48);
    let packet = IpPacket::parse(&bytes).unwrap();
    assert_eq!(packet.source(), "fd00::".parse::<IpAddr>().unwrap());
    assert_eq!(packet.destination(), "fc00::".parse::<IpAddr>().unwrap());
}

#[test]
fn a_packet_that_says_more_than_it_has_is_none() {
    assert_eq!(IpPacket::parse(&v4(29, 28)), None);
    assert_eq!(IpPacket::parse(&v6(9, 48)), None);
    assert_eq!(IpPacket::parse(&v4(20, 19)), None);
    assert_eq!(IpPacket::parse(&v6(0, 39)), None);
    assert_eq!(IpPacket::parse(&[]), None);
}

#[test]
fn bytes_after_the_packet_are_cut_off() {
    assert_eq!(IpPacket::parse(&v4(28, 64)).unwrap().bytes().len(), 28);
    assert_eq!(IpPacket::parse(&v6(8, 64)).unwrap().bytes().len(), 48);
}

#[test]
fn a_header_shorter_than_a_header_is_none() {
    let mut bytes = v4(28, 28);
    bytes[0] = 0x44;
    assert_eq!(IpPacket::parse(&bytes), None);
    assert_eq!(IpPacket::parse(&v4(19, 28)), None);
}

#[test]
fn addresses_of_nobody_are_martians_and_others_are_not() {
    let martians = [
        "0.0.0.0",
        "0.1.2.3",
        "127.0.0.1",
        "169.254.1.1",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::10.0.0.1",
        "::ffff:10.0.0.1",
        "ff02::1",
        "fe80::1",
    ];
    for martian in martians {
        assert!(is_martian(martian.parse().unwrap()), "{martian}");
    }
    for fine in ["10.42.1.5", "192.168.0.1", "1.1.1.1", "fd42::1", "2001:db8::1", "64:ff9b::1"] {
        assert!(!is_martian(fine.parse().unwrap()), "{fine}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn garbage_never_panics_and_never_grows(
        version in prop_oneof![Just(0x45u8), Just(0x60), any::<u8>()],
        mut bytes in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        if let Some(first) = bytes.first_mut() {
            *first = version;
        }
        if let Some(packet) = IpPacket::parse(&bytes) {
            prop_assert!(packet.bytes().len() <= bytes.len());
            prop_assert!(packet.bytes().len() >= 20);
            prop_assert_eq!(IpPacket::parse(packet.bytes()), Some(packet));
        }
    }
}
