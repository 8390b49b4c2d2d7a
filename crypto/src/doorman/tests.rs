#![allow(clippy::disallowed_methods, reason = "a moment to count from")]

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use keys::{KeyEpoch, PrivateKey};

use super::*;
use crate::{
    cookie::{Cookie, Door},
    message::{INITIATION, Message, RESPONSE},
    random::Sequence,
};

struct House {
    identities: Vec<Identity>,
    doorman: Doorman,
    random: Sequence,
    now: Instant,
}

impl House {
    fn new(identities: u8) -> Self {
        let now = Instant::now();
        let identity = |n| Identity::new(KeyEpoch(n), &PrivateKey::from_bytes([n as u8 + 1; 32]));
        Self {
            identities: (0..u32::from(identities)).map(identity).collect(),
            doorman: Doorman::new(now),
            random: Sequence::new(1),
            now,
        }
    }

    /// A message with a valid mac1 for one identity; nothing else in it is looked at.
    fn message<const N: usize>(&self, identity: usize, cookie: Option<&Cookie>) -> [u8; N] {
        let mut message = [7; N];
        message[..4].copy_from_slice(&[if N == INITIATION { 1 } else { 2 }, 0, 0, 0]);
        self.identities[identity].door().stamp(&mut message, cookie);
        message
    }

    fn judge(&mut self, datagram: &[u8], from: SocketAddr, known: bool) -> Verdict {
        let arrival = Arrival { datagram, from, known };
        self.doorman.judge(&self.identities, arrival, self.now, &mut self.random)
    }

    /// How many of so many initiations from one source are answered.
    fn answered(&mut self, count: usize, from: SocketAddr, known: bool) -> usize {
        let message = self.message::<INITIATION>(0, None);
        (0..count)
            .filter(|_| matches!(self.judge(&message, from, known), Verdict::Answer(_)))
            .count()
    }

    /// So many initiations, each from another source.
    fn flood(&mut self, count: u32) -> Tally {
        let message = self.message::<INITIATION>(0, None);
        let mut tally = Tally::default();
        for n in 0..count {
            match self.judge(&message, source(n), false) {
                Verdict::Answer(_) => tally.answered += 1,
                Verdict::Demand(_) => tally.demanded += 1,
                Verdict::Drop(Discard::CookieLimit) => tally.dropped += 1,
                Verdict::Drop(other) => panic!("{other:?}"),
            }
        }
        tally
    }
}

#[derive(Debug, Default, PartialEq)]
struct Tally {
    answered: u32,
    demanded: u32,
    dropped: u32,
}

fn source(n: u32) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::from_bits(0x0100_0000 + n)), 51820)
}

fn reason(verdict: Verdict) -> Option<Discard> {
    match verdict {
        Verdict::Drop(discard) => Some(discard),
        Verdict::Answer(_) | Verdict::Demand(_) => None,
    }
}

#[test]
fn what_is_no_handshake_message_is_not_for_the_doorman() {
    let mut house = House::new(1);
    for datagram in [&[][..], &[1, 0, 0, 0], &[3; 64], &[4; 148], &[1; 148]] {
        assert_eq!(reason(house.judge(datagram, source(1), false)), Some(Discard::NotWireGuard));
    }
}

#[test]
fn a_message_for_somebody_else_is_dropped_and_uses_up_nothing() {
    let mut house = House::new(2);
    let mut stranger = house.message::<INITIATION>(0, None);
    Door::new(&[99; 32]).stamp(&mut stranger, None);

    for _ in 0..10_000 {
        assert_eq!(reason(house.judge(&stranger, source(1), false)), Some(Discard::BadMac));
    }

    assert_eq!(house.answered(100, source(1), false), 40);
}

#[test]
fn our_identities_are_told_apart_by_mac1() {
    let mut house = House::new(3);
    for place in 0..3 {
        let first = house.message::<INITIATION>(place, None);
        let second = house.message::<RESPONSE>(place, None);
        for message in [&first[..], &second] {
            let verdict = house.judge(message, source(1), false);
            assert!(matches!(verdict, Verdict::Answer(at) if at == place));
        }
    }
}

#[test]
fn one_flooder_must_prove_its_address_and_nobody_else_must() {
    let mut house = House::new(1);

    assert_eq!(house.answered(10_000, source(1), false), 40);

    assert_eq!(house.answered(1, source(2), false), 1);
}

#[test]
fn who_proves_an_address_is_answered_and_only_so_often() {
    let mut house = House::new(1);
    house.answered(100, source(1), false);
    let message = house.message::<INITIATION>(0, None);

    let Verdict::Demand(reply) = house.judge(&message, source(1), false) else { panic!() };
    let Ok(Message::Cookie(reply)) = Message::parse(&reply) else { panic!() };
    let mac1 = Maced::parse(&message).unwrap().mac1();
    let cookie = house.identities[0].door().open(reply, &mac1).ok();
    let proven = house.message::<INITIATION>(0, cookie.as_ref());

    let verdicts: Vec<_> = (0..20).map(|_| house.judge(&proven, source(1), false)).collect();
    assert!(verdicts[..10].iter().all(|verdict| matches!(verdict, Verdict::Answer(0))));
    assert!(verdicts.into_iter().skip(10).all(|v| reason(v) == Some(Discard::HandshakeLimit)));

    let mut elsewhere = source(1);
    elsewhere.set_port(1);
    assert!(matches!(house.judge(&proven, elsewhere, false), Verdict::Demand(_)));
}

#[test]
fn a_flood_from_forged_sources_gets_so_many_answers_and_so_many_cookies_a_second() {
    let mut house = House::new(1);

    let first = house.flood(100_000);
    assert_eq!(first, Tally { answered: 1000, demanded: 2000, dropped: 97_000 });

    house.now += Duration::from_secs(1);
    let next = house.flood(100_000);
    assert!(next.answered <= 1000 && next.demanded == 2000, "{next:?}");
}

/// Over ten seconds, at 40,000 a second.
#[test]
fn cookies_are_bounded_over_time() {
    let mut house = House::new(1);
    let mut demanded = 0;

    for _ in 0..200 {
        house.now += Duration::from_millis(50);
        demanded += house.flood(2000).demanded;
    }

    assert!((190_000..=202_000).contains(&demanded), "{demanded}");
}

#[test]
fn a_flood_from_elsewhere_never_keeps_a_member_out() {
    let mut house = House::new(1);
    house.flood(100_000);

    assert_eq!(house.answered(1, source(500_000), false), 0);
    for member in 0..1000 {
        assert_eq!(house.answered(1, source(600_000 + member), true), 1);
    }
}

#[test]
fn whoever_forges_a_members_address_must_prove_it_too_and_so_does_the_member() {
    let mut house = House::new(1);

    assert_eq!(house.answered(1000, source(1), true), 40);

    let message = house.message::<INITIATION>(0, None);
    assert!(matches!(house.judge(&message, source(1), true), Verdict::Demand(_)));
    house.now += Duration::from_secs(1);
    assert_eq!(house.answered(1000, source(1), true), 20);
}
