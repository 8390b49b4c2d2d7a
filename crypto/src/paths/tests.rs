use std::net::SocketAddr;

use proptest::prelude::*;

use super::*;
use crate::{
    HEADER, PeerConfig, TAG,
    mesh::tests::{Pair, address, packet, peer},
};

/// Everything that came of a train.
#[derive(Debug, Default)]
struct Found {
    packets: Vec<Range<usize>>,
    handshakes: Vec<Range<usize>>,
    discards: Vec<Discard>,
}

impl Inbox for Found {
    fn packet(&mut self, place: Range<usize>) {
        self.packets.push(place);
    }

    fn handshake(&mut self, place: Range<usize>) {
        self.handshakes.push(place);
    }

    fn discard(&mut self, discard: Discard) {
        self.discards.push(discard);
    }
}

fn to_b() -> IpAddr {
    "10.42.2.5".parse().unwrap()
}

/// A train from node 1 to node 2, one record behind the other.
fn sealed(pair: &Pair, packets: &[Vec<u8>]) -> Vec<u8> {
    let mut train = pair.a.paths().train(to_b(), packets.len() as u32, pair.now).unwrap();
    let mut datagrams = Vec::new();
    for packet in packets {
        let start = datagrams.len();
        let length = Train::length(packet.len(), 1420);
        datagrams.resize(start + length, 0xee);
        datagrams[start + HEADER..][..packet.len()].copy_from_slice(packet);
        assert_eq!(train.seal(&mut datagrams[start..], packet.len()), length);
    }
    datagrams
}

fn opened(pair: &Pair, train: &mut [u8], stride: usize, from: SocketAddr) -> Found {
    let mut found = Found::default();
    pair.b.paths().open(train, stride, from, pair.now, &mut found);
    found
}

#[test]
fn a_train_longer_than_a_window_word_arrives_whole_and_in_order_once() {
    let pair = Pair::connected();
    let packets: Vec<_> = (0..200).map(|_| packet(1, 2, 100)).collect();
    let mut train = sealed(&pair, &packets);
    let mut again = train.clone();

    let found = opened(&pair, &mut train, 144, address(1));

    assert_eq!(found.packets.len(), 200);
    assert!(found.packets.is_sorted_by_key(|place| place.start));
    assert!(found.packets.iter().all(|place| train[place.clone()] == packet(1, 2, 100)));
    let found = opened(&pair, &mut again, 144, address(1));
    assert_eq!(found.discards, [Discard::Replay; 200]);
}

#[test]
fn records_of_one_super_packet_have_one_length_and_fit_the_tunnel() {
    for mtu in [576, 1280, 1419, 1420, 8900] {
        for packet in 0..=mtu {
            let length = Train::length(packet, mtu);
            let body = length - HEADER - TAG;
            assert!(body >= packet && body <= mtu, "{packet} of {mtu}");
            assert!(body.is_multiple_of(16) || body == mtu, "{packet} of {mtu}");
        }
    }
}

#[test]
fn a_record_without_room_and_a_message_that_was_not_reserved_are_not_sealed() {
    let pair = Pair::connected();
    let mut train = pair.a.paths().train(to_b(), 2, pair.now).unwrap();
    let mut record = vec![0; 200];

    assert_eq!(train.seal(&mut record[..31], 0), 0);
    assert_eq!(train.seal(&mut record, 169), 0);
    assert_eq!(train.seal(&mut record, usize::MAX), 0);
    assert_eq!(train.seal(&mut [], 0), 0);
    assert_eq!(train.seal(&mut record, 168), 200, "padded as far as there is room");
    assert_eq!(train.seal(&mut record, 0), 32);
    assert_eq!(train.seal(&mut record, 0), 0);
}

#[test]
fn no_packet_of_a_train_hides_behind_its_neighbours_source() {
    let mut pair = Pair::connected();
    let mut allowed = peer(1, &[(1, 1)]);
    allowed.allowed.push("10.43.0.0/16".parse().unwrap());
    let mut third = peer(3, &[(1, 3)]);
    third.allowed = vec!["10.43.7.0/24".parse().unwrap()];
    pair.b.set_peers(vec![allowed, third], &[], &mut crate::workbench::Made::default(), pair.now);
    let mut stolen = packet(1, 2, 100);
    stolen[12..16].copy_from_slice(&[10, 43, 7, 1]);
    let mut martian = packet(1, 2, 100);
    martian[16] = 127;
    let mut train = sealed(
        &pair,
        &[
            packet(1, 2, 100),
            stolen,
            packet(1, 2, 100),
            martian,
            vec![0x45; 100],
            packet(1, 2, 100),
        ],
    );

    let found = opened(&pair, &mut train, 144, address(1));

    assert_eq!(found.packets.len(), 3);
    let expected = [Discard::NotTheirAddress, Discard::Martian, Discard::MalformedPacket];
    assert_eq!(found.discards, expected);
}

#[test]
fn a_replayed_train_moves_nobody_and_a_fresh_one_does() {
    let pair = Pair::connected();
    let mut train = sealed(&pair, &[packet(1, 2, 100), packet(1, 2, 100)]);
    let mut replayed = train.clone();
    opened(&pair, &mut train, 144, address(1));

    opened(&pair, &mut replayed, 144, address(9));
    assert_eq!(pair.b.status()[0].endpoint, Some(address(1)));

    let mut fresh = sealed(&pair, &[packet(1, 2, 100)]);
    opened(&pair, &mut fresh, 144, address(9));
    assert_eq!(pair.b.status()[0].endpoint, Some(address(9)));
    assert!(pair.b.paths().wants_control());
    assert!(!pair.b.paths().wants_control(), "once");
}

#[test]
fn who_has_no_session_is_sent_to_the_control_half_and_who_has_no_route_dies() {
    let mut pair = Pair::connected();
    let paths = pair.a.paths();
    let elsewhere = paths.train("10.99.0.1".parse().unwrap(), 1, pair.now);
    assert_eq!(elsewhere.err(), Some(Refused::Discard(Discard::NoRoute)));
    let too_many = paths.train(to_b(), 1025, pair.now);
    assert_eq!(too_many.err(), Some(Refused::Control));

    pair.pass(Duration::from_secs(181));

    assert_eq!(paths.train(to_b(), 1, pair.now).err(), Some(Refused::Control));
    assert_eq!(paths.discards().get(Discard::NoRoute), 1);
}

/// A train as a hostile network would make it: genuine parts, cut, turned, repeated, and junk.
fn hostile() -> impl Strategy<Value = Vec<(u8, usize, usize, u8)>> {
    prop::collection::vec((0..6u8, 0..3000usize, 0..3000usize, any::<u8>()), 0..20)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn every_datagram_of_any_train_is_a_packet_or_counted(
        parts in hostile(), stride in prop_oneof![Just(0), Just(144), 1..2000usize]
    ) {
        let pair = Pair::connected();
        let genuine = sealed(&pair, &vec![packet(1, 2, 100); 30]);
        let mut train = Vec::new();
        for (kind, at, length, byte) in parts {
            let from = at % genuine.len();
            match kind {
                0..=2 => train.extend(&genuine[from / 144 * 144..][..144]),
                3 => train.extend(&genuine[from..(from + length).min(genuine.len())]),
                4 => train.extend(std::iter::repeat_n(byte, length)),
                _ => {
                    train.extend([byte % 6, 0, 0, 0]);
                    train.extend(std::iter::repeat_n(byte, 28));
                }
            }
            if let Some(last) = train.last_mut().filter(|_| kind == 1 && at % 2 == 0) {
                *last ^= byte;
            }
        }
        let before: u64 = pair.b.discards().iter().map(|(_, count)| count).sum();

        let found = opened(&pair, &mut train, stride, address(1));

        let pieces = if stride == 0 { 1 } else { train.len().div_ceil(stride).max(1) };
        prop_assert_eq!(found.packets.len() + found.handshakes.len() + found.discards.len(), pieces);
        let after: u64 = pair.b.discards().iter().map(|(_, count)| count).sum();
        prop_assert_eq!(after - before, found.discards.len() as u64);
        for place in found.packets {
            prop_assert_eq!(&train[place], &packet(1, 2, 100)[..]);
        }
    }
}

#[test]
fn a_peer_that_is_relayed_no_more_is_sent_to_where_it_is() {
    let mut pair = Pair::connected();
    let told = |relayed| PeerConfig { relayed, ..peer(2, &[(1, 2)]) };
    let to = |pair: &Pair| pair.a.paths().train(to_b(), 1, pair.now).unwrap().endpoint();
    let id = relay::id("node-2");
    let relay = relay::address(id, 1);

    pair.tell_a(told(true));
    pair.a.paths().set_detour(id, Detour::Relay(1));
    assert_eq!(to(&pair), relay);
    pair.tell_a(told(false));

    assert_eq!(to(&pair), address(2));
    assert_eq!(pair.a.paths().contact(id, pair.now), None, "and is known by no such name");
}

/// Node 2 knows node 1 by its name, and hears one packet of it from there.
fn hears(pair: &mut Pair, from: SocketAddr) {
    let told = PeerConfig { relayed: true, ..peer(1, &[(1, 1)]) };
    pair.b.set_peers(vec![told], &[], &mut crate::workbench::Made::default(), pair.now);
    let mut train = sealed(pair, &[packet(1, 2, 100)]);
    assert_eq!(opened(pair, &mut train, 144, from).packets.len(), 1);
}

fn answered(pair: &Pair) -> SocketAddr {
    let to = "10.42.1.5".parse().unwrap();
    pair.b.paths().train(to, 1, pair.now).unwrap().endpoint()
}

#[test]
fn a_bridge_is_used_when_it_is_asked_for_and_is_never_where_a_peer_is() {
    let mut pair = Pair::connected();
    let (id, bridge) = (relay::id("node-1"), relay::bridge(40_001));
    let (paths, now) = (pair.b.paths(), pair.now);
    hears(&mut pair, bridge);

    assert_eq!(answered(&pair), address(1));
    assert_eq!(paths.contact(id, now), Some(address(1)));
    assert!(paths.speaks_from(id, bridge, now) && paths.speaks_from(id, address(1), now));
    assert!(!paths.speaks_from(id, relay::bridge(40_002), now));
    assert_eq!((paths.bridge(id), paths.bridged(bridge)), (Some(bridge), Some(id)));

    paths.set_detour(id, Detour::Bridge);
    assert_eq!(answered(&pair), bridge);
    assert_eq!(
        paths.contact(id, now),
        Some(bridge),
        "it is a contact that others are passed on to"
    );
    let other = relay::bridge(40_002);
    hears(&mut pair, other);
    assert_eq!(answered(&pair), other, "another stream, the same peer");

    paths.drop_bridge(bridge);
    assert_eq!(answered(&pair), other, "that was not the one in use");
    paths.drop_bridge(other);
    assert_eq!(answered(&pair), address(1));
    hears(&mut pair, bridge);
    assert_eq!(answered(&pair), bridge, "it was asked for, and there is one again");
    paths.set_detour(id, Detour::None);
    assert_eq!(answered(&pair), address(1));
}

#[test]
fn only_what_is_authentic_crosses_a_bridge_and_only_of_who_may_be_relayed() {
    let mut pair = Pair::connected();
    let (id, bridge) = (relay::id("node-1"), relay::bridge(40_001));
    let mut early = sealed(&pair, &[packet(1, 2, 100)]);
    assert_eq!(opened(&pair, &mut early, 144, bridge).packets.len(), 1);
    assert_eq!(pair.b.paths().bridge(id), None, "it is known by no such name");
    let told = PeerConfig { relayed: true, ..peer(1, &[(1, 1)]) };
    pair.b.set_peers(vec![told], &[], &mut crate::workbench::Made::default(), pair.now);
    let mut forged = sealed(&pair, &[packet(1, 2, 100)]);
    forged[60] ^= 1;

    assert_eq!(opened(&pair, &mut forged, 144, bridge).discards.len(), 1);
    assert_eq!(pair.b.paths().bridge(id), None);
    hears(&mut pair, bridge);
    assert_eq!(pair.b.paths().bridge(id), Some(bridge));
}

#[test]
fn what_is_sent_and_not_followed_shows_unless_it_is_a_probe() {
    let mut pair = Pair::connected();
    let id = relay::id("node-2");
    pair.tell_a(PeerConfig { relayed: true, ..peer(2, &[(1, 2)]) });
    let unanswered = |pair: &Pair| pair.a.paths().signs(id).unwrap().unanswered;
    pair.pass(Duration::from_secs(40));
    let before = unanswered(&pair);

    pair.a.paths().probes(to_b(), 1, pair.now).unwrap();
    assert_eq!(unanswered(&pair), before);
    pair.a.paths().train(to_b(), 1, pair.now).unwrap();

    let signs = pair.a.paths().signs(id).unwrap();
    assert!(signs.session && signs.unanswered.is_some() && signs.heard.is_some());
    assert_eq!(pair.a.paths().signs(1), None);
}
