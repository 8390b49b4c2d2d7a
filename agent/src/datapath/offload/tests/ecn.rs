//! The outer header's traffic class.

use crypto::Discard;
use proptest::prelude::*;

use super::{
    super::ecn::{Dscp, combine, outer, traffic_class},
    Described, described, is_valid,
};

/// RFC 6040, figure 4: rows are what the packet has, columns what the underlay says, both in the
/// order not-ECT, ECT(0), ECT(1), CE.
const RFC_6040: [[Option<u8>; 4]; 4] = [
    [Some(0b00), Some(0b00), Some(0b00), None],
    [Some(0b10), Some(0b10), Some(0b01), Some(0b11)],
    [Some(0b01), Some(0b01), Some(0b01), Some(0b11)],
    [Some(0b11), Some(0b11), Some(0b11), Some(0b11)],
];
const ORDER: [u8; 4] = [0b00, 0b10, 0b01, 0b11];

#[test]
fn marks_of_the_underlay_are_combined_as_rfc_6040_says() {
    for (row, inner) in RFC_6040.iter().zip(ORDER) {
        for (&expected, mark) in row.iter().zip(ORDER) {
            for v4 in [true, false] {
                let class = 0b1011_1000 | inner;
                let packet = Described { v4, traffic_class: class, ..Described::default() };
                let mut bytes = packet.build();

                let combined = combine(0b0100_0000 | mark, &mut bytes);

                let Some(expected) = expected else {
                    assert_eq!(combined, Err(Discard::CongestionNotEct));
                    assert_eq!(bytes, packet.build());
                    continue;
                };
                assert_eq!(combined, Ok(()));
                let traffic_class = 0b1011_1000 | expected;
                assert_eq!(bytes, Described { traffic_class, ..packet }.build());
            }
        }
    }
}

#[test]
fn the_mark_goes_out_and_the_code_point_is_the_users_choice() {
    let inner = 0b1011_1001;

    assert_eq!(outer(inner, Dscp::Zero), 0b01);
    assert_eq!(outer(inner, Dscp::Copy), inner);
    assert_eq!(outer(inner, Dscp::Fixed(0b00_1010)), 0b0010_1001);
}

proptest! {
    #[test]
    fn a_mark_never_makes_a_wrong_header_right(
        whole in described(20), mark in 0_u8..4, flipped in 0_usize..160,
    ) {
        let mut packet = Described { v4: true, ..whole }.build();
        packet[flipped / 8] ^= 1 << (flipped % 8);
        let version_is_intact = packet[0] == 0x45;
        if combine(mark, &mut packet).is_ok() && version_is_intact {
            prop_assert!(!is_valid(&packet));
        }
    }

    #[test]
    fn garbage_is_left_alone(mut packet in proptest::collection::vec(any::<u8>(), 0..30), mark: u8) {
        let class = traffic_class(&packet);
        if combine(mark, &mut packet).is_ok() {
            prop_assert_eq!(traffic_class(&packet) & !0b11, class & !0b11);
        }
    }
}

#[test]
fn a_code_point_has_six_bits_or_a_name() {
    assert_eq!("zero".parse::<Dscp>().unwrap(), Dscp::Zero);
    assert_eq!("copy".parse::<Dscp>().unwrap(), Dscp::Copy);
    assert_eq!("46".parse::<Dscp>().unwrap(), Dscp::Fixed(46));
    for text in ["64", "-1", "", "Copy", "0x2e"] {
        assert!(text.parse::<Dscp>().is_err(), "{text}");
    }
}
