#![allow(clippy::disallowed_methods, reason = "a moment to count from")]

use chacha20poly1305::{
    XChaCha20Poly1305,
    aead::{Aead, KeyInit, Payload},
};
use proptest::prelude::*;

use super::*;
use crate::{message::Message, random::Sequence};

const SECOND: Duration = Duration::from_secs(1);

fn initiation(sender: u32) -> [u8; message::INITIATION] {
    let mut message = [7; message::INITIATION];
    message[..4].copy_from_slice(&[1, 0, 0, 0]);
    message[4..8].copy_from_slice(&sender.to_le_bytes());
    message
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// What the source gets: a message of its own with the cookie used.
fn proven(secrets: &mut Secrets, from: SocketAddr, now: Instant) -> [u8; message::INITIATION] {
    let door = Door::new(&[1; 32]);
    let mut random = Sequence::new(1);
    let mut message = initiation(5);
    let mac1 = door.stamp(&mut message, None);
    let cookie = secrets.cookie(from, now, &mut random);
    let reply = door.reply(Maced::parse(&message).unwrap(), &cookie, &mut random);
    let Ok(Message::Cookie(reply)) = Message::parse(&reply) else { panic!() };
    assert_eq!(reply.receiver(), 5);
    let Ok(cookie) = door.open(reply, &mac1) else { panic!() };
    door.stamp(&mut message, Some(&cookie));
    message
}

#[test]
fn a_cookie_proves_the_address_and_port_it_was_given_to() {
    let now = Instant::now();
    for home in ["192.0.2.1:51820", "[2001:db8::1]:51820"] {
        let mut secrets = Secrets::new();
        let message = proven(&mut secrets, at(home), now);
        let message = Maced::parse(&message).unwrap();

        assert!(secrets.proves(message, at(home), now));
        for elsewhere in
            ["192.0.2.1:51821", "192.0.2.2:51820", "[2001:db8::1]:51821", "[2001:db8::2]:51820"]
        {
            assert!(!secrets.proves(message, at(elsewhere), now), "{home} as {elsewhere}");
        }
    }
}

#[test]
fn an_ipv4_source_is_the_same_through_an_ipv6_socket() {
    let now = Instant::now();
    let mut secrets = Secrets::new();
    let message = proven(&mut secrets, at("192.0.2.1:51820"), now);

    assert!(secrets.proves(Maced::parse(&message).unwrap(), at("[::ffff:192.0.2.1]:51820"), now));
}

#[test]
fn a_cookie_is_good_for_two_minutes_at_least_and_for_four_at_most() {
    let start = Instant::now();
    let from = at("192.0.2.1:51820");
    for asked in [0, 1, 60, 119, 120, 200] {
        for others in [None, Some(125), Some(230)] {
            let mut secrets = Secrets::new();
            secrets.cookie(at("198.51.100.1:1"), start, &mut Sequence::new(2));
            let message = proven(&mut secrets, from, start + asked * SECOND);
            if let Some(others) = others.filter(|&others| others > asked) {
                secrets.cookie(
                    at("198.51.100.1:1"),
                    start + others * SECOND,
                    &mut Sequence::new(3),
                );
            }
            let message = Maced::parse(&message).unwrap();
            let proves =
                |after: u32| secrets.proves(message, from, start + (asked + after) * SECOND);

            assert!(proves(0) && proves(119), "asked after {asked} s, others {others:?}");
            assert!(!proves(240), "asked after {asked} s, others {others:?}");
        }
    }
}

#[test]
fn a_new_secret_is_made_after_two_minutes_of_the_old_one() {
    let now = Instant::now();
    let from = at("192.0.2.1:51820");
    let mut random = Sequence::new(1);
    let mut secrets = Secrets::new();

    let first = secrets.cookie(from, now, &mut random);
    let same = secrets.cookie(from, now + 119 * SECOND, &mut random);
    let other = secrets.cookie(from, now + 120 * SECOND, &mut random);

    assert!(first == same && same != other);
}

#[test]
fn no_mac2_proves_nothing() {
    let now = Instant::now();
    let from = at("192.0.2.1:51820");
    let mut secrets = Secrets::new();
    let mut message = initiation(1);
    Door::new(&[1; 32]).stamp(&mut message, None);

    assert!(!secrets.proves(Maced::parse(&message).unwrap(), from, now));
    secrets.cookie(from, now, &mut Sequence::new(1));
    assert!(!secrets.proves(Maced::parse(&message).unwrap(), from, now));
}

#[test]
fn a_message_that_was_touched_loses_its_proof_and_its_mac1() {
    let now = Instant::now();
    let from = at("192.0.2.1:51820");
    let door = Door::new(&[1; 32]);
    let mut secrets = Secrets::new();
    let message = proven(&mut secrets, from, now);
    assert!(door.opens_to(Maced::parse(&message).unwrap()));

    for byte in 4..message.len() {
        let mut touched = message;
        touched[byte] ^= 1;
        let touched = Maced::parse(&touched).unwrap();
        assert!(!secrets.proves(touched, from, now), "byte {byte}");
        assert_eq!(door.opens_to(touched), byte >= 132, "byte {byte}");
    }
}

#[test]
fn a_reply_opens_only_for_the_message_it_answers_and_only_from_its_maker() {
    let (door, other) = (Door::new(&[1; 32]), Door::new(&[2; 32]));
    let mut message = initiation(5);
    let mac1 = door.stamp(&mut message, None);
    let reply =
        door.reply(Maced::parse(&message).unwrap(), &Cookie([3; 16]), &mut Sequence::new(1));

    let open = |door: &Door, reply: &[u8], mac1: &[u8; 16]| {
        let Ok(Message::Cookie(reply)) = Message::parse(reply) else { panic!() };
        door.open(reply, mac1)
    };

    assert!(open(&door, &reply, &mac1).is_ok_and(|cookie| cookie == Cookie([3; 16])));
    assert_eq!(open(&other, &reply, &mac1).err(), Some(Discard::NotAuthentic));
    assert_eq!(open(&door, &reply, &[0; 16]).err(), Some(Discard::NotAuthentic));
    for byte in 8..reply.len() {
        let mut touched = reply;
        touched[byte] ^= 1;
        assert_eq!(open(&door, &touched, &mac1).err(), Some(Discard::NotAuthentic));
    }
}

#[test]
fn a_cookie_that_somebody_gave_us_is_used_while_it_is_good() {
    let now = Instant::now();
    let stored = StoredCookie::new(Cookie([3; 16]), now);

    assert!(stored.get(now).is_some());
    assert!(stored.get(now + 114 * SECOND).is_some());
    assert!(stored.get(now + 115 * SECOND).is_none());
}

proptest! {
    #[test]
    fn replies_are_sealed_as_the_crate_for_it_seals(
        public: [u8; 32], secret: [u8; 16], seed: u32, sender: u32,
    ) {
        let door = Door::new(&public);
        let mut message = initiation(sender);
        let mac1 = door.stamp(&mut message, None);

        let reply = door.reply(
            Maced::parse(&message).unwrap(),
            &Cookie(secret),
            &mut Sequence::new(seed.into()),
        );

        let cipher = XChaCha20Poly1305::new(&hash(&[b"cookie--", &public]).into());
        let sealed = Payload { msg: &reply[32..], aad: &mac1 };
        prop_assert_eq!(cipher.decrypt(reply[8..32].into(), sealed).unwrap(), secret);
    }
}
