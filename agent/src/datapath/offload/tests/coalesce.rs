//! Packets of a train merged into super packets.

use std::ops::Range;

use proptest::{collection::vec, prelude::*};

use super::{
    super::{Coalesce, Full, Gso, Merging, Super, VNET, VnetHeader, coalesce::PARTS, merge},
    ACK, CWR, Described, FIN, PSH, described, is_valid,
};

const ALL: Merging = Merging { tcp: true, udp: true };

/// One write: how many packets, the offload header, and the packet.
type Written = (Vec<Range<usize>>, VnetHeader, Vec<u8>);

fn train(packets: &[Vec<u8>]) -> (Vec<u8>, Vec<Range<usize>>) {
    let mut arena = Vec::new();
    let mut ranges = Vec::new();
    for packet in packets {
        // As between the records of a train.
        arena.extend([0xee; 16]);
        ranges.push(arena.len()..arena.len() + packet.len());
        arena.extend(packet);
        arena.extend([0xee; 16]);
    }
    (arena, ranges)
}

fn merged(packets: &[Vec<u8>], merging: Merging) -> Vec<Written> {
    let (arena, ranges) = train(packets);
    let mut coalesce = Coalesce::new(packets.len() as u16, merging);
    for range in ranges {
        coalesce.push(&arena, range).unwrap();
    }
    let mut written = Vec::new();
    coalesce.emit(&arena, |group| {
        let bytes = group.with_slices(|slices| {
            assert!(slices.len() <= 1 + PARTS);
            slices.iter().flat_map(|slice| slice.to_vec()).collect::<Vec<_>>()
        });
        let (header, packet) = bytes.split_first_chunk::<VNET>().unwrap();
        let header = VnetHeader::parse(header).unwrap();
        assert_eq!(group.count(), group.packets().count());
        written.push((group.packets().collect(), header, packet.to_vec()));
    });
    assert!(coalesce.is_empty());
    written
}

/// How many packets each write carries.
fn counts(packets: &[Described]) -> Vec<usize> {
    let packets: Vec<_> = packets.iter().map(Described::build).collect();
    merged(&packets, ALL).iter().map(|(parts, ..)| parts.len()).collect()
}

fn cut(header: &VnetHeader, packet: &mut [u8]) -> Vec<Vec<u8>> {
    let Super::Many(split) = Super::parse(header, packet).unwrap() else { panic!("one packet") };
    let write = |number| {
        let mut into = vec![0; split.segment_length()];
        let length = split.write(number, &mut into);
        into.truncate(length);
        into
    };
    (0..split.count()).map(write).collect()
}

/// Without the id of a packet that may not be fragmented, and with one zero.
fn normal(mut packet: Vec<u8>) -> Vec<u8> {
    if packet[0] >> 4 == 4 && packet[6] & 0x40 != 0 {
        packet[4..6].fill(0);
        packet[10..12].fill(0);
    }
    packet
}

/// What may befall a packet of a burst on its way here.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Arrives,
    Lost,
    Flipped(usize),
    Twice,
    ShorterThanItSays,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        12 => Just(Fate::Arrives),
        1 => Just(Fate::Lost),
        1 => any::<usize>().prop_map(Fate::Flipped),
        1 => Just(Fate::Twice),
        1 => Just(Fate::ShorterThanItSays),
    ]
}

fn befall(packets: Vec<Vec<u8>>, fates: &[Fate]) -> Vec<Vec<u8>> {
    let mut arrived = Vec::new();
    for (mut packet, fate) in packets.into_iter().zip(fates.iter().cycle()) {
        match *fate {
            Fate::Arrives => {}
            Fate::Lost => continue,
            Fate::Flipped(bit) => {
                let bit = bit % (packet.len() * 8);
                packet[bit / 8] ^= 1 << (bit % 8);
            }
            Fate::Twice => arrived.push(packet.clone()),
            Fate::ShorterThanItSays => {
                packet.pop();
            }
        }
        arrived.push(packet);
    }
    arrived
}

fn burst() -> impl Strategy<Value = Vec<Vec<u8>>> {
    (described(2_000), 1_usize..600, vec(fate(), 1..8)).prop_map(|(whole, size, fates)| {
        let packets = whole.segments(size).iter().map(Described::build).collect();
        befall(packets, &fates)
    })
}

/// `bursts` in one order, each in its own.
fn interleaved(bursts: Vec<Vec<Vec<u8>>>, order: &[usize]) -> Vec<Vec<u8>> {
    let mut bursts: Vec<_> = bursts.into_iter().map(|burst| burst.into_iter()).collect();
    let count = bursts.len();
    let mut packets = Vec::new();
    for choice in order {
        packets.extend(bursts[choice % count].next());
    }
    packets.extend(bursts.into_iter().flatten());
    packets
}

proptest! {
    #[test]
    fn cutting_what_was_merged_gives_the_same_packets_in_the_same_order(
        bursts in vec(burst(), 1..5), order in vec(any::<usize>(), 0..40),
    ) {
        let packets = interleaved(bursts, &order);
        let (arena, pushed) = train(&packets);

        let written = merged(&packets, ALL);

        for (parts, header, mut packet) in written.clone() {
            prop_assert!(packet.len() <= 65_535);
            if let [part] = &parts[..] {
                prop_assert_eq!(header, VnetHeader::default());
                prop_assert_eq!(&packet, &arena[part.clone()]);
                continue;
            }
            let originals = parts.iter().map(|part| arena[part.clone()].to_vec());
            let originals: Vec<_> = originals.collect();
            prop_assert!(originals.iter().all(|packet| is_valid(packet)), "merged an invalid one");
            let segments: Vec<_> = cut(&header, &mut packet).into_iter().map(normal).collect();
            let originals: Vec<_> = originals.into_iter().map(normal).collect();
            prop_assert_eq!(segments, originals);
        }
        let mut all: Vec<_> = written.iter().flat_map(|(parts, ..)| parts.clone()).collect();
        prop_assert!(in_order_within_flows(&arena, &all));
        all.sort_by_key(|part| part.start);
        prop_assert_eq!(all, pushed);
    }

    #[test]
    fn what_was_cut_is_merged_into_the_same_super_packet(
        whole in described(40_000), size in 700_u16..3_000,
    ) {
        let whole = Described { extensions: 0, id: 9, ..whole };
        let (header, packet) = whole.build_super(size);
        prop_assume!(whole.payload.len() > size.into());

        let written = merged(&cut(&header, &mut packet.clone()), ALL);

        let [(_, again, merged)] = &written[..] else { panic!("{} writes", written.len()) };
        prop_assert_eq!(again, &header);
        prop_assert_eq!(merged, &packet);
    }

    #[test]
    fn nothing_that_a_peer_can_send_panics(
        packets in vec(vec(any::<u8>(), 0..90), 1..20), like in any::<bool>(),
    ) {
        let like = |mut packet: Vec<u8>| {
            if let (true, Some(first)) = (like, packet.first_mut()) {
                *first = if *first & 1 == 0 { 0x45 } else { 0x60 };
            }
            packet
        };
        let packets: Vec<_> = packets.into_iter().map(like).collect();
        prop_assert!(merged(&packets, ALL).len() <= packets.len());
    }
}

/// Holds every two packets of one flow, and every packet of no flow, against the order of arrival.
fn in_order_within_flows(arena: &[u8], written: &[Range<usize>]) -> bool {
    let flow = |range: &Range<usize>| {
        let packet = &arena[range.clone()];
        let enough = match packet[0] {
            0x45 => packet.len() >= 28,
            0x60..=0x6f => packet.len() >= 48,
            _ => false,
        };
        enough.then_some(packet)
    };
    written.iter().enumerate().all(|(at, later)| {
        written[..at].iter().all(|earlier| {
            let same = match (flow(earlier), flow(later)) {
                (Some(a), Some(b)) => merge::same_flow(a, b),
                (None, _) | (_, None) => true,
            };
            !same || earlier.start < later.start
        })
    })
}

#[test]
fn a_full_train_becomes_one_write() {
    for (v4, tcp) in [(true, true), (true, false), (false, true), (false, false)] {
        let whole = Described { v4, tcp, payload: vec![7; 44 * 1_368 - 5], ..Described::default() };
        assert_eq!(counts(&whole.segments(1_368)), [44], "v4 {v4}, tcp {tcp}");
    }
}

#[test]
fn a_super_packet_ends_at_64_kibibytes_and_at_so_many_parts() {
    let long = Described { payload: vec![7; 66_000], ..Described::default() };
    assert_eq!(counts(&long.segments(1_400)), [46, 2]);

    let many = Described { payload: vec![7; 150], ..Described::default() };
    assert_eq!(counts(&many.segments(1)), [PARTS, PARTS, 150 - 2 * PARTS]);
}

#[test]
fn a_packet_that_says_something_else_begins_a_group_of_its_own() {
    let whole = Described { flags: ACK, payload: vec![7; 400], ..Described::default() };
    let differs = |change: fn(&mut Described)| {
        let mut segments = whole.segments(100);
        change(&mut segments[2]);
        counts(&segments)
    };

    assert_eq!(counts(&whole.segments(100)), [4]);
    assert_eq!(differs(|packet| packet.acknowledged += 1), [2, 1, 1]);
    assert_eq!(differs(|packet| packet.window += 1), [2, 1, 1]);
    assert_eq!(differs(|packet| packet.ttl -= 1), [2, 1, 1]);
    assert_eq!(differs(|packet| packet.traffic_class = 3), [2, 1, 1]);
    assert_eq!(differs(|packet| packet.sequence += 1), [2, 1, 1]);
    assert_eq!(differs(|packet| packet.options = 4), [2, 1, 1]);
    assert_eq!(differs(|packet| packet.flags |= CWR), [2, 2]);
    assert_eq!(differs(|packet| packet.flags |= PSH), [3, 1]);
    assert_eq!(differs(|packet| packet.flags |= FIN), [3, 1]);
    assert_eq!(differs(|packet| packet.flags |= 0x02), [2, 1, 1]);
    assert_eq!(differs(|packet| packet.payload.truncate(99)), [3, 1]);
    assert_eq!(differs(|packet| packet.payload.push(1)), [2, 1, 1]);
    assert_eq!(differs(|packet| packet.payload.clear()), [2, 1, 1]);
    assert_eq!(differs(|packet| packet.source_port += 1), [2, 1, 1]);
}

#[test]
fn only_packets_that_may_be_fragmented_must_count_their_ids() {
    for (dont_fragment, expected) in [(true, vec![3]), (false, vec![1, 2])] {
        let whole = Described { dont_fragment, payload: vec![7; 300], ..Described::default() };
        let mut segments = whole.segments(100);
        segments[0].id = 77;
        assert_eq!(counts(&segments), expected);
    }
}

#[test]
fn a_wrong_checksum_stays_wrong_and_alone() {
    let whole = Described { payload: vec![7; 400], ..Described::default() };
    for wrong in 0..4 {
        for at in [10, 36, 60] {
            let mut packets: Vec<_> = whole.segments(100).iter().map(Described::build).collect();
            packets[wrong][at] ^= 0x10;

            let written = merged(&packets, ALL);

            let (_, header, packet) =
                written.iter().find(|(.., packet)| *packet == packets[wrong]).unwrap();
            assert_eq!(*header, VnetHeader::default());
            assert!(!is_valid(packet));
        }
    }
}

#[test]
fn udp_is_merged_only_where_the_device_takes_it_and_never_without_a_checksum() {
    let whole = Described { tcp: false, payload: vec![7; 400], ..Described::default() };
    let mut packets: Vec<_> = whole.segments(100).iter().map(Described::build).collect();

    assert_eq!(merged(&packets, Merging { tcp: true, udp: false }).len(), 4);
    assert_eq!(merged(&packets, ALL)[0].1.gso, Gso::Udp);

    for packet in &mut packets {
        packet[26..28].fill(0);
    }
    assert_eq!(merged(&packets, ALL).len(), 4);
}

#[test]
fn a_packet_of_no_flow_is_not_overtaken() {
    let whole = Described { payload: vec![7; 400], ..Described::default() };
    let mut packets: Vec<_> = whole.segments(100).iter().map(Described::build).collect();
    let mut fragment = packets[0].clone();
    fragment[6] = 0x20;
    packets.insert(2, fragment);

    let parts: Vec<_> = merged(&packets, ALL).iter().map(|(parts, ..)| parts.len()).collect();

    assert_eq!(parts, [2, 1, 2]);
}

#[test]
fn more_flows_than_are_looked_at_lose_merging_and_no_packet() {
    let burst = |port: u16| {
        let whole = Described { source_port: port, payload: vec![7; 300], ..Described::default() };
        whole.segments(100)
    };
    let bursts: Vec<_> = (0..40).map(burst).collect();
    let packets: Vec<_> = (0..3).flat_map(|at| bursts.iter().map(move |b| b[at].clone())).collect();

    assert_eq!(counts(&packets).iter().sum::<usize>(), 120);
    assert_eq!(counts(&bursts[..16].concat()), [3; 16]);
}

#[test]
fn a_full_one_says_so_and_starts_again_after_it_was_emptied() {
    let packets = [Described::default().build(), Described::default().build()];
    let (arena, ranges) = train(&packets);
    let mut coalesce = Coalesce::new(1, ALL);

    assert_eq!(coalesce.push(&arena, ranges[0].clone()), Ok(()));
    assert_eq!(coalesce.push(&arena, ranges[1].clone()), Err(Full));
    coalesce.emit(&arena, |_| ());
    assert_eq!(coalesce.push(&arena, ranges[1].clone()), Ok(()));
}
