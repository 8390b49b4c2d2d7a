//! What the judge says of captures that are good, leaky, blind and unlucky.

use super::*;
use crate::verify::report::Outcome;

const TUN: u32 = 5;
const ETH: u32 = 2;
const POD: u32 = 9;

fn marker() -> Marker {
    Marker::new(*b"\x91secret-rnd\xfe")
}

fn tally() -> Tally {
    let device = |name: &str, role| Device { name: name.into(), role };
    let devices = BTreeMap::from([
        (TUN, device("hawser0", Role::Tunnel)),
        (ETH, device("eth0", Role::Underlay)),
        (POD, device("hwp1", Role::Inside)),
    ]);
    Tally::new(marker(), vec![51820], devices)
}

fn sent() -> Sent {
    Sent {
        node: "node-1".into(),
        tunnel: "hawser0".into(),
        accepted: BTreeMap::from([(Probe::Peer4, 2), (Probe::Peer6, 1)]),
        canaries: vec![(Probe::Canary4, "10.42.255.254".into(), 20)],
        refused: Vec::new(),
    }
}

/// An IPv4 UDP packet between tunnel ports around some bytes.
fn carrying(bytes: &[u8]) -> Vec<u8> {
    let mut packet = vec![0u8; 28];
    (packet[0], packet[9]) = (0x45, 17);
    packet[20..24].copy_from_slice(&[0xca, 0x6c, 0xca, 0x6c]);
    packet.extend_from_slice(bytes);
    packet
}

fn see(tally: &mut Tally, device: u32, direction: Direction, bytes: &[u8]) {
    tally.observe(Frame { device, link: Link::Ip, direction, bytes });
}

/// All three probes in the tunnel, three unreadable packets on the wire.
fn good() -> Tally {
    let mut tally = tally();
    for probe in [Probe::Peer4, Probe::Peer4, Probe::Peer6] {
        see(&mut tally, TUN, Direction::Out, &marker().payload(probe));
        see(&mut tally, ETH, Direction::Out, &carrying(&[0xab; 100]));
    }
    tally
}

fn failed(sent: &Sent, tally: &Tally) -> Vec<String> {
    let failed = judge(sent, tally).into_iter().filter(|check| check.outcome == Outcome::Failed);
    failed.map(|check| check.name).collect()
}

#[test]
fn an_encrypted_mesh_passes() {
    let details: Vec<String> = judge(&sent(), &good()).into_iter().map(|c| c.detail).collect();

    assert!(failed(&sent(), &good()).is_empty());
    assert_eq!(details[0], "eth0 node-1  3 packets udp/51820, marker found in clear: 0");
    assert_eq!(
        details[2],
        "canary address 10.42.255.254 without a tunnel: 20 of 20 probes blocked, 0 left in clear"
    );
}

#[test]
fn one_readable_packet_fails() {
    let mut tally = good();
    see(&mut tally, ETH, Direction::Out, &carrying(&marker().payload(Probe::Peer4)));

    assert_eq!(failed(&sent(), &tally), ["underlay/eth0"]);
}

#[test]
fn a_readable_packet_that_comes_in_fails_too() {
    let mut tally = good();
    see(&mut tally, ETH, Direction::In, &marker().payload(Probe::Peer6));

    assert_eq!(failed(&sent(), &tally), ["underlay/eth0"]);
}

#[test]
fn a_blind_capture_proves_nothing() {
    let mut blind = tally();
    see(&mut blind, ETH, Direction::Out, &carrying(&[0xab; 100]));

    assert_eq!(failed(&sent(), &blind), ["control"]);
}

#[test]
fn a_capture_that_lost_one_packet_proves_nothing() {
    let mut more = sent();
    more.accepted.insert(Probe::Peer6, 2);

    assert_eq!(failed(&more, &good()), ["control"]);
}

#[test]
fn the_families_cannot_stand_in_for_each_other() {
    let mut tally = tally();
    for _ in 0..3 {
        see(&mut tally, TUN, Direction::Out, &marker().payload(Probe::Peer4));
    }
    see(&mut tally, ETH, Direction::Out, &carrying(&[0xab; 100]));

    assert_eq!(failed(&sent(), &tally), ["control"]);
}

#[test]
fn nothing_sent_proves_nothing() {
    let nothing = Sent { accepted: BTreeMap::new(), ..sent() };

    assert!(failed(&nothing, &good()).contains(&"control".to_owned()));
}

#[test]
fn a_wire_without_tunnel_packets_was_not_the_wire() {
    let mut tally = tally();
    for probe in [Probe::Peer4, Probe::Peer4, Probe::Peer6] {
        see(&mut tally, TUN, Direction::Out, &marker().payload(probe));
    }

    assert_eq!(failed(&sent(), &tally), ["traffic"]);
}

#[test]
fn a_canary_that_flew_fails() {
    let mut tally = good();
    see(&mut tally, ETH, Direction::Out, &marker().payload(Probe::Canary4));

    assert_eq!(failed(&sent(), &tally), ["canary/ipv4"]);
}

#[test]
fn a_pod_may_see_its_own_packets() {
    let mut tally = good();
    see(&mut tally, POD, Direction::Out, &marker().payload(Probe::Peer4));

    assert!(failed(&sent(), &tally).is_empty());
}

#[test]
fn a_device_that_nobody_knows_counts_as_the_wire() {
    let mut tally = good();
    see(&mut tally, 77, Direction::Out, &marker().payload(Probe::Peer4));

    assert_eq!(failed(&sent(), &tally), ["underlay/device-77"]);
}

#[test]
fn somebody_elses_packets_are_not_ours() {
    let other = Marker::new([7; SECRET]);
    let mut tally = good();
    see(&mut tally, ETH, Direction::Out, &carrying(&other.payload(Probe::Peer4)));

    assert!(failed(&sent(), &tally).is_empty());
}

#[test]
fn a_peer_that_nothing_could_be_sent_to_is_named() {
    let refused = Sent { refused: vec!["10.42.3.1: no route".into()], ..sent() };

    let control = judge(&refused, &good()).into_iter().find(|check| check.name == "control");

    let control = control.unwrap();
    assert_eq!(control.outcome, Outcome::Failed);
    assert!(control.detail.contains("not sent: 10.42.3.1: no route"), "{}", control.detail);
    assert!(!control.detail.contains("proves nothing"), "{}", control.detail);
}
