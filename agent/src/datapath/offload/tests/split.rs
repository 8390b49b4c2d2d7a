//! Super packets cut into segments.

use std::net::IpAddr;

use crypto::Discard;
use proptest::{collection::vec, prelude::*};

use super::{
    super::{Gso, Super, VNET, VnetHeader, checksum::Sum},
    ACK, CWR, Described, FIN, PSH, described, naive_sum,
};

fn split(header: &VnetHeader, packet: &mut [u8]) -> Result<Vec<Vec<u8>>, Discard> {
    let Super::Many(split) = Super::parse(header, packet)? else { panic!("one packet") };
    let write = |number| {
        let mut into = vec![0xee; split.segment_length()];
        let length = split.write(number, &mut into);
        into.truncate(length);
        into
    };
    Ok((0..split.count()).map(write).collect())
}

fn refusal(header: &VnetHeader, packet: &mut [u8]) -> Discard {
    Super::parse(header, packet).unwrap_err()
}

proptest! {
    #[test]
    fn the_segments_of_a_super_packet_are_those_of_the_naive_model(
        whole in described(20_000), size in 1_u16..3_000,
    ) {
        let (header, mut packet) = whole.build_super(size);

        let segments = split(&header, &mut packet).unwrap();

        let expected: Vec<_> =
            whole.segments(size.into()).iter().map(Described::build).collect();
        prop_assert_eq!(segments, expected);
    }

    #[test]
    fn a_checksum_left_to_us_is_completed(whole in described(3_000)) {
        let (header, mut packet) = whole.build_super(0);
        let header = VnetHeader { gso: Gso::None, ..header };

        let Super::One(packet) = Super::parse(&header, &mut packet).unwrap() else { panic!("many") };

        prop_assert_eq!(&*packet, whole.build());
    }

    #[test]
    fn the_fast_sum_is_the_slow_one(from in vec(any::<u8>(), 0..300), start in 0_usize..8) {
        let from = &from[start.min(from.len())..];
        let mut into = vec![0; from.len()];

        let copied = Sum::of_copy(&mut into, from);

        prop_assert_eq!(&into, from);
        prop_assert_eq!(copied.partial(), naive_sum(&[from]).to_be_bytes());
        prop_assert_eq!(Sum::of(from).partial(), naive_sum(&[from]).to_be_bytes());
    }

    #[test]
    fn nothing_that_a_device_can_say_panics(
        header in any::<[u8; VNET]>(), gso in any::<[u8; 2]>(),
        mut packet in described(300).prop_map(|whole| whole.build()),
        changes in vec((0_usize..120, any::<u8>()), 0..6), cut in 0_usize..400,
    ) {
        let mut bytes = header;
        bytes[1] = [0, 1, 4, 5][usize::from(gso[0] % 4)] | gso[1] & 0x80;
        for (at, byte) in changes {
            let at = at % packet.len();
            packet[at] = byte;
        }
        packet.truncate(cut);
        let Ok(header) = VnetHeader::parse(&bytes) else { panic!("a known kind") };
        prop_assert_eq!(VnetHeader::parse(&header.to_bytes()), Ok(header));
        if let Ok(Super::Many(split)) = Super::parse(&header, &mut packet) {
            let mut into = vec![0; split.segment_length()];
            let total: usize = (0..split.count()).map(|number| split.write(number, &mut into)).sum();
            prop_assert!(total >= split.segment_length());
        }
    }
}

#[test]
fn sixty_four_kibibytes_are_cut_without_a_wrapped_length() {
    for (v4, tcp) in [(true, true), (true, false), (false, true), (false, false)] {
        let mut whole = Described { v4, tcp, ..Described::default() };
        let headers = whole.build().len();
        whole.payload = (0..65_535 - headers).map(|at| (at * 7) as u8).collect();
        let (header, mut packet) = whole.build_super(1_368);

        let segments = split(&header, &mut packet).unwrap();

        let expected: Vec<_> = whole.segments(1_368).iter().map(Described::build).collect();
        assert!(segments == expected, "v4 {v4}, tcp {tcp}");
    }
}

#[test]
fn flags_that_end_a_stream_stand_on_the_last_segment_alone_and_cwr_on_the_first() {
    let flags = ACK | FIN | PSH | CWR;
    let whole = Described { flags, payload: vec![1; 250], ..Described::default() };
    let (header, mut packet) = whole.build_super(100);

    let segments = split(&header, &mut packet).unwrap();

    let flags: Vec<_> = segments.iter().map(|segment| segment[33]).collect();
    assert_eq!(flags, [ACK | CWR, ACK, ACK | FIN | PSH]);
}

#[test]
fn a_super_packet_names_its_destination_and_its_size() {
    for (v4, to) in [(true, "10.42.2.3"), (false, "f0f1:f2f3:f4f5:f6f7:f8f9:fafb:fcfd:feff")] {
        let whole =
            Described { v4, traffic_class: 0xb9, payload: vec![1; 250], ..Described::default() };
        let (header, mut packet) = whole.build_super(100);
        let headers = packet.len() - 250;
        let Super::Many(split) = Super::parse(&header, &mut packet).unwrap() else { panic!("one") };

        if v4 {
            assert_eq!(split.destination(), to.parse::<IpAddr>().unwrap());
        }
        assert_eq!((split.count(), split.segment_length()), (3, headers + 100));
        assert_eq!(split.traffic_class(), 0xb9);
    }
}

#[test]
fn every_truncation_is_refused() {
    for (v4, tcp) in [(true, true), (true, false), (false, true), (false, false)] {
        let whole = Described { v4, tcp, payload: vec![1; 50], ..Described::default() };
        let (header, packet) = whole.build_super(20);
        for length in 0..packet.len() {
            assert_eq!(refusal(&header, &mut packet[..length].to_vec()), Discard::NotIp);
        }
    }
}

#[test]
fn every_refusal_has_a_name_of_its_own() {
    let plain = Described { payload: vec![1; 50], ..Described::default() };
    let (header, packet) = plain.build_super(20);
    let refused = |header: VnetHeader, change: &dyn Fn(&mut Vec<u8>)| {
        let mut packet = packet.clone();
        change(&mut packet);
        refusal(&header, &mut packet)
    };
    let set = |at: usize, byte: u8| move |packet: &mut Vec<u8>| packet[at] = byte;

    assert_eq!(VnetHeader::parse(&[0, 3, 0, 0, 0, 0, 0, 0, 0, 0]), Err(Discard::UnknownOffload));
    let kinds = [Gso::Tcp6, Gso::Udp];
    for gso in kinds {
        assert_eq!(refused(VnetHeader { gso, ..header }, &|_| ()), Discard::UnknownOffload);
    }
    assert_eq!(refused(header, &set(9, 50)), Discard::UnknownOffload);
    assert_eq!(refused(VnetHeader { segment_size: 0, ..header }, &|_| ()), Discard::SegmentSize);
    let unchecked = VnetHeader { needs_checksum: false, ..header };
    assert_eq!(refused(unchecked, &|_| ()), Discard::ChecksumRange);
    assert_eq!(refused(header, &set(32, 0x40)), Discard::TruncatedTransport);
    let longer_than_the_packet = |packet: &mut Vec<u8>| {
        packet.truncate(70);
        (packet[3], packet[32]) = (70, 0xf0);
    };
    assert_eq!(refused(header, &longer_than_the_packet), Discard::TruncatedTransport);
    assert_eq!(refused(header, &set(6, 0x20)), Discard::UnsupportedExtension);
    assert_eq!(refused(header, &set(7, 1)), Discard::UnsupportedExtension);
    assert_eq!(refused(header, &set(0, 0x55)), Discard::NotIp);
    assert_eq!(refused(header, &set(0, 0x44)), Discard::NotIp);
    assert_eq!(refused(header, &set(2, 0xff)), Discard::NotIp);
}

#[test]
fn an_ipv6_header_that_must_not_be_repeated_is_refused_and_others_are_not() {
    let whole =
        Described { v4: false, extensions: 2, payload: vec![1; 50], ..Described::default() };
    let (header, packet) = whole.build_super(20);
    assert_eq!(split(&header, &mut packet.clone()).unwrap().len(), 3);

    for unsupported in [43, 44, 50, 51, 59, 135] {
        let mut packet = packet.clone();
        packet[6] = unsupported;
        assert_eq!(refusal(&header, &mut packet), Discard::UnsupportedExtension);
    }
    let mut endless = packet.clone();
    endless[41] = 255;
    assert_eq!(refusal(&header, &mut endless), Discard::TruncatedTransport);
}

#[test]
fn a_checksum_outside_of_the_packet_is_refused() {
    let packet = Described { payload: vec![1; 50], ..Described::default() }.build();
    let one = VnetHeader { needs_checksum: true, ..VnetHeader::default() };
    let length = packet.len() as u16;
    for (checksum_start, checksum_offset) in
        [(0, 10), (19, 6), (length, 0), (length - 1, 0), (20, length - 21), (20, u16::MAX)]
    {
        let header = VnetHeader { checksum_start, checksum_offset, ..one };
        assert_eq!(refusal(&header, &mut packet.clone()), Discard::ChecksumRange);
    }
}
