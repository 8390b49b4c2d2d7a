//! boringtun as the other end, in both roles.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Instant,
};

use ::boringtun::{
    noise::{Tunn, TunnResult, rate_limiter::RateLimiter},
    x25519,
};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

use super::*;
use crate::doorman::{Arrival, Doorman, Verdict};

const PACKET: [u8; 28] =
    [0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 1, 2, 3, 4, 5, 6, 7, 8];
const HERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 51820);

/// Ours, and a boringtun that knows it.
struct Pair {
    us: Node,
    it: Remote,
    preshared: Option<PresharedKey>,
    tunn: Tunn,
}

impl Pair {
    /// `limit`: handshakes that boringtun answers before it demands cookies.
    fn new(preshared: Option<[u8; 32]>, limit: u64) -> Self {
        let us = Node::new(1);
        let private = x25519::StaticSecret::from(*private(2).as_bytes());
        let public = x25519::PublicKey::from(&private);
        let ours = x25519::PublicKey::from(*us.identity.public().as_bytes());
        let limiter = std::sync::Arc::new(RateLimiter::new(&public, limit));
        let tunn = Tunn::new(private, ours, preshared, None, 3, Some(limiter));
        let it = Remote::new(&us.identity, PublicKey::from_bytes(public.to_bytes())).ok().unwrap();
        Self { us, it, preshared: preshared.map(PresharedKey::from_bytes), tunn }
    }

    fn ends(&self) -> Ends<'_> {
        Ends { identity: &self.us.identity, remote: &self.it, preshared: self.preshared.as_ref() }
    }

    fn begin(&self, n: u8, cookie: Option<Cookie>) -> (Initiation, [u8; INITIATION]) {
        let mut out = [0; INITIATION];
        let mut random = Sequence::new(u64::from(n) + 50);
        let ours = Ours { index: 7, cookie };
        let flight = initiate(&self.ends(), &ours, stamp(n), &mut random, &mut out);
        (flight, out)
    }

    fn answer(&self, first: &[u8], cookie: Option<Cookie>) -> (Keys, [u8; RESPONSE]) {
        let claim = receive(&self.us.identity, initiation(first)).ok().unwrap();
        assert_eq!(claim.sender(), self.it.public());
        let verified = claim.verify(&self.it).ok().unwrap();
        let mut second = [0; RESPONSE];
        let ours = Ours { index: 9, cookie };
        let keys = verified.answer(&self.ends(), &ours, &mut Sequence::new(8), &mut second);
        (keys, second)
    }

    /// What boringtun sends back.
    fn says(&mut self, datagram: &[u8]) -> Vec<u8> {
        let mut out = [0; 2048];
        match self.tunn.decapsulate(Some(HERE.ip()), datagram, &mut out) {
            TunnResult::WriteToNetwork(datagram) => datagram.to_vec(),
            TunnResult::Done => Vec::new(),
            _ => panic!("boringtun refused it"),
        }
    }

    fn its_initiation(&mut self) -> Vec<u8> {
        let mut out = [0; 2048];
        match self.tunn.format_handshake_initiation(&mut out, true) {
            TunnResult::WriteToNetwork(datagram) => datagram.to_vec(),
            _ => panic!("boringtun began nothing"),
        }
    }

    /// A packet each way, with the keys and indices.
    fn talk(&mut self, keys: &Keys) {
        let mut out = [0; 2048];
        let ours = seal(keys, 0, &PACKET);
        match self.tunn.decapsulate(Some(HERE.ip()), &ours, &mut out) {
            TunnResult::WriteToTunnelV4(packet, _) => assert_eq!(packet, PACKET),
            _ => panic!("boringtun did not take our packet"),
        }
        match self.tunn.encapsulate(&PACKET, &mut out) {
            TunnResult::WriteToNetwork(datagram) => assert_eq!(open(keys, datagram), PACKET),
            _ => panic!("boringtun has no session"),
        }
    }
}

fn cipher(key: &Secret) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key.as_slice()).unwrap())
}

fn nonce(counter: [u8; 8]) -> Nonce {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter);
    Nonce::assume_unique_for_key(nonce)
}

fn seal(keys: &Keys, counter: u64, packet: &[u8]) -> Vec<u8> {
    let mut body = packet.to_vec();
    let counter = counter.to_le_bytes();
    let key = cipher(&keys.send);
    key.seal_in_place_append_tag(nonce(counter), Aad::empty(), &mut body).unwrap();
    [&[4, 0, 0, 0][..], &keys.theirs.to_le_bytes(), &counter, &body].concat()
}

fn open(keys: &Keys, datagram: &[u8]) -> Vec<u8> {
    let mut body = datagram[16..].to_vec();
    assert_eq!(datagram[4..8], keys.ours.to_le_bytes());
    let counter = *datagram[8..].first_chunk().unwrap();
    let key = cipher(&keys.receive);
    key.open_in_place(nonce(counter), Aad::empty(), &mut body).unwrap().to_vec()
}

fn cookie(it: &Remote, demand: &[u8], index: u32, mac1: &[u8; MAC]) -> Option<Cookie> {
    let Ok(Message::Cookie(reply)) = Message::parse(demand) else { panic!("no cookie") };
    assert_eq!(reply.receiver(), index);
    it.door().open(reply, mac1).ok()
}

#[test]
fn we_begin_and_boringtun_answers() {
    for preshared in [None, Some([5; 32])] {
        let mut pair = Pair::new(preshared, 100);
        let (flight, first) = pair.begin(1, None);

        let second = pair.says(&first);
        let keys = flight.finish(&pair.ends(), response(&second)).ok().unwrap();

        assert!(pair.us.identity.made_for_us(&second));
        pair.talk(&keys);
    }
}

#[test]
fn boringtun_begins_and_we_answer() {
    for preshared in [None, Some([5; 32])] {
        let mut pair = Pair::new(preshared, 100);
        let first = pair.its_initiation();
        assert!(pair.us.identity.made_for_us(&first));

        let (keys, second) = pair.answer(&first, None);

        let confirmation = pair.says(&second);
        assert_eq!(open(&keys, &confirmation), []);
        pair.talk(&keys);
    }
}

#[test]
fn boringtun_under_load_gives_us_a_cookie_and_takes_it_back() {
    let mut pair = Pair::new(None, 0);
    let (flight, first) = pair.begin(1, None);

    let demand = pair.says(&first);
    let cookie = cookie(&pair.it, &demand, flight.index(), flight.mac1());
    let (flight, first) = pair.begin(2, cookie);

    let second = pair.says(&first);
    let keys = flight.finish(&pair.ends(), response(&second)).ok().unwrap();
    pair.talk(&keys);
}

/// A response is met with a demand for a cookie too; the next one carries it.
#[test]
fn boringtun_under_load_demands_a_cookie_for_a_response() {
    let mut pair = Pair::new(None, 0);
    let first = pair.its_initiation();
    let (_, second) = pair.answer(&first, None);

    let demand = pair.says(&second);
    let mac1 = Maced::parse(&second).unwrap().mac1();
    let cookie = cookie(&pair.it, &demand, 9, &mac1);

    let first = pair.its_initiation();
    let (keys, second) = pair.answer(&first, cookie);
    assert_eq!(open(&keys, &pair.says(&second)), []);
    pair.talk(&keys);
}

#[test]
#[allow(clippy::disallowed_methods, reason = "a moment to count from")]
fn we_under_load_give_boringtun_a_cookie_and_take_it_back() {
    let now = Instant::now();
    let mut pair = Pair::new(None, 100);
    let identities = [Node::new(1).identity];
    let mut doorman = Doorman::new(now);
    let judge = |doorman: &mut Doorman, datagram: &[u8]| {
        let arrival = Arrival { datagram, from: HERE, known: false };
        doorman.judge(&identities, arrival, now, &mut Sequence::new(9))
    };
    let first = pair.its_initiation();
    let demand = loop {
        if let Verdict::Demand(reply) = judge(&mut doorman, &first) {
            break reply;
        }
    };

    assert_eq!(pair.says(&demand), []);
    let first = pair.its_initiation();
    assert!(matches!(judge(&mut doorman, &first), Verdict::Answer(0)));

    let (keys, second) = pair.answer(&first, None);
    assert_eq!(open(&keys, &pair.says(&second)), []);
    pair.talk(&keys);
}
