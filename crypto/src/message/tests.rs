use boringtun::noise::{Packet, Tunn};
use proptest::prelude::*;

use super::*;

fn kind(datagram: &[u8]) -> Option<u8> {
    Some(match Message::parse(datagram).ok()? {
        Message::Initiation(_) => 1,
        Message::Response(_) => 2,
        Message::Cookie(_) => 3,
        Message::Data { .. } => 4,
    })
}

fn kind_by_boringtun(datagram: &[u8]) -> Option<u8> {
    Some(match Tunn::parse_incoming_packet(datagram).ok()? {
        Packet::HandshakeInit(_) => 1,
        Packet::HandshakeResponse(_) => 2,
        Packet::PacketCookieReply(_) => 3,
        Packet::PacketData(_) => 4,
    })
}

#[test]
fn every_length_of_every_type_is_told_apart_as_boringtun_does() {
    for first in 0..=5 {
        for length in 0..2000 {
            let mut datagram = vec![0; length];
            if let Some(byte) = datagram.first_mut() {
                *byte = first;
            }
            assert_eq!(kind(&datagram), kind_by_boringtun(&datagram), "{first} {length}");
        }
    }
}

#[test]
fn reserved_bytes_are_zero() {
    for (first, length) in [(1, INITIATION), (2, RESPONSE), (3, COOKIE), (4, DATA)] {
        let mut datagram = vec![0; length];
        datagram[0] = first;
        assert_eq!(kind(&datagram), Some(first));
        assert_eq!(Maced::parse(&datagram).is_some(), first <= 2);
        for at in 1..4 {
            let mut odd = datagram.clone();
            odd[at] = 1;
            assert_eq!(kind(&odd), None);
            assert!(Maced::parse(&odd).is_none());
        }
    }
}

#[test]
fn fields_lie_where_the_paper_says() {
    let counting = |first: u8, length: u8| {
        let mut bytes: Vec<u8> = (0..length).collect();
        bytes[..4].copy_from_slice(&[first, 0, 0, 0]);
        bytes
    };

    let bytes = counting(1, 148);
    let Ok(Message::Initiation(initiation)) = Message::parse(&bytes) else { panic!() };
    assert_eq!(initiation.sender(), 0x0706_0504);
    assert_eq!(initiation.ephemeral(), bytes[8..40]);
    assert_eq!(initiation.sealed_static(), &bytes[40..88]);
    assert_eq!(initiation.sealed_timestamp(), &bytes[88..116]);
    let maced = Maced::parse(&bytes).unwrap();
    assert_eq!(maced.sender(), 0x0706_0504);
    assert_eq!(maced.before_mac1(), &bytes[..116]);
    assert_eq!(maced.mac1(), bytes[116..132]);
    assert_eq!(maced.before_mac2(), &bytes[..132]);
    assert_eq!(maced.mac2(), bytes[132..]);

    let bytes = counting(2, 92);
    let Ok(Message::Response(response)) = Message::parse(&bytes) else { panic!() };
    assert_eq!(response.sender(), 0x0706_0504);
    assert_eq!(response.receiver(), 0x0b0a_0908);
    assert_eq!(response.ephemeral(), bytes[12..44]);
    assert_eq!(response.sealed_nothing(), &bytes[44..60]);
    assert_eq!(Maced::parse(&bytes).unwrap().mac1(), bytes[60..76]);

    let bytes = counting(3, 64);
    let Ok(Message::Cookie(cookie)) = Message::parse(&bytes) else { panic!() };
    assert_eq!(cookie.receiver(), 0x0706_0504);
    assert_eq!(cookie.nonce(), bytes[8..32]);
    assert_eq!(cookie.sealed_cookie(), &bytes[32..]);

    let bytes = counting(4, 32);
    let Ok(Message::Data { receiver, counter }) = Message::parse(&bytes) else { panic!() };
    assert_eq!((receiver, counter), (0x0706_0504, 0x0f0e_0d0c_0b0a_0908));
}

proptest! {
    #[test]
    fn no_datagram_is_read_otherwise_than_boringtun_reads_it(
        first in 0u8..6,
        mut datagram in proptest::collection::vec(any::<u8>(), 0..300),
        reserved in proptest::option::of(any::<[u8; 3]>()),
    ) {
        if datagram.len() >= 4 {
            datagram[0] = first;
            datagram[1..4].copy_from_slice(&reserved.unwrap_or_default());
        }
        prop_assert_eq!(kind(&datagram), kind_by_boringtun(&datagram));
    }
}
