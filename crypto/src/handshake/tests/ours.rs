//! Both ends ours.

use super::*;

struct Pair {
    alice: Node,
    bob: Node,
    bob_at_alice: Remote,
    alice_at_bob: Remote,
}

impl Pair {
    fn new() -> Self {
        let (alice, bob) = (Node::new(1), Node::new(2));
        let (bob_at_alice, alice_at_bob) = (alice.knows(&bob), bob.knows(&alice));
        Self { alice, bob, bob_at_alice, alice_at_bob }
    }

    fn begin(&mut self, n: u8) -> (Initiation, [u8; INITIATION]) {
        let mut out = [0xff; INITIATION];
        let ends =
            Ends { identity: &self.alice.identity, remote: &self.bob_at_alice, preshared: None };
        let flight = initiate(&ends, &index(7), stamp(n), &mut self.alice.random, &mut out);
        (flight, out)
    }

    fn verify(&self, first: &[u8]) -> Result<Verified, Discard> {
        receive(&self.bob.identity, initiation(first))?.verify(&self.alice_at_bob)
    }

    fn answer(
        &mut self,
        first: &[u8],
        preshared: Option<&PresharedKey>,
    ) -> Result<(Keys, [u8; RESPONSE]), Discard> {
        let verified = self.verify(first)?;
        let mut out = [0xff; RESPONSE];
        let ends = Ends { identity: &self.bob.identity, remote: &self.alice_at_bob, preshared };
        let keys = verified.answer(&ends, &index(9), &mut self.bob.random, &mut out);
        Ok((keys, out))
    }

    fn finish(
        &self,
        flight: &Initiation,
        second: &[u8],
        preshared: Option<&PresharedKey>,
    ) -> Result<Keys, Discard> {
        let ends = Ends { identity: &self.alice.identity, remote: &self.bob_at_alice, preshared };
        flight.finish(&ends, response(second))
    }
}

#[test]
fn both_ends_come_to_the_same_keys_and_never_twice_to_the_same() {
    let preshared = PresharedKey::from_bytes([5; 32]);
    let mut seen = Vec::new();
    for preshared in [None, Some(&preshared), None] {
        let mut pair = Pair::new();
        pair.alice.random = Sequence::new(100 + seen.len() as u64);
        let (flight, first) = pair.begin(1);
        let (theirs, second) = pair.answer(&first, preshared).ok().unwrap();
        let ours = pair.finish(&flight, &second, preshared).ok().unwrap();

        assert_eq!(ours.send, theirs.receive);
        assert_eq!(ours.receive, theirs.send);
        assert_ne!(ours.send, ours.receive);
        assert_eq!((ours.ours, ours.theirs, theirs.ours, theirs.theirs), (7, 9, 9, 7));
        assert!(!seen.contains(&ours.send));
        seen.push(ours.send.clone());
    }
}

#[test]
fn the_responder_learns_who_and_when() {
    let mut pair = Pair::new();
    let (_, first) = pair.begin(42);

    let claim = receive(&pair.bob.identity, initiation(&first)).ok().unwrap();
    assert_eq!(claim.sender(), pair.alice.identity.public());

    let verified = claim.verify(&pair.alice_at_bob).ok().unwrap();
    assert_eq!(verified.timestamp(), stamp(42));
    assert_eq!(verified.index, 7);
}

#[test]
fn each_identity_takes_only_what_was_made_for_it() {
    let mut pair = Pair::new();
    let (_, first) = pair.begin(1);
    let next = Node::new(3);

    assert!(pair.bob.identity.made_for_us(&first));
    assert!(!next.identity.made_for_us(&first));
    assert_eq!(fate(receive(&next.identity, initiation(&first))), Some(Discard::NotAuthentic));
}

/// Whoever knows both public keys can name anybody as the sender, but prove nobody.
#[test]
fn a_claim_is_not_a_proof() {
    let mut pair = Pair::new();
    let mut mallory = Node::new(66);
    mallory.identity.public = pair.alice.identity.public();
    let bob_at_mallory = mallory.knows(&pair.bob);
    let ends = Ends { identity: &mallory.identity, remote: &bob_at_mallory, preshared: None };
    let mut first = [0; INITIATION];
    initiate(&ends, &index(1), stamp(9), &mut mallory.random, &mut first);

    let claim = receive(&pair.bob.identity, initiation(&first)).ok().unwrap();

    assert_eq!(claim.sender(), pair.alice.identity.public());
    assert_eq!(fate(claim.verify(&pair.alice_at_bob)), Some(Discard::NotAuthentic));
    let (_, first) = pair.begin(1);
    let claim = receive(&pair.bob.identity, initiation(&first)).ok().unwrap();
    assert_eq!(fate(claim.verify(&pair.bob.knows(&Node::new(66)))), Some(Discard::UnknownPeer));
}

#[test]
fn a_message_that_was_touched_is_refused() {
    let mut pair = Pair::new();
    let (flight, first) = pair.begin(1);
    let (_, second) = pair.answer(&first, None).ok().unwrap();

    for at in 8..116 {
        let mut touched = first;
        touched[at] ^= 1;
        assert_eq!(fate(pair.verify(&touched)), Some(Discard::NotAuthentic), "byte {at}");
    }
    for at in 12..60 {
        let mut touched = second;
        touched[at] ^= 1;
        let refused = fate(pair.finish(&flight, &touched, None));
        assert_eq!(refused, Some(Discard::NotAuthentic), "byte {at}");
    }
}

#[test]
fn a_forged_response_does_not_destroy_the_initiation_in_flight() {
    let mut pair = Pair::new();
    let (flight, first) = pair.begin(1);
    let (theirs, second) = pair.answer(&first, None).ok().unwrap();

    for seed in 0..20 {
        let mut forged = [0; RESPONSE];
        Sequence::new(seed).fill(&mut forged);
        forged[..4].copy_from_slice(&[2, 0, 0, 0]);
        forged[8..12].copy_from_slice(&7u32.to_le_bytes());
        assert_eq!(fate(pair.finish(&flight, &forged, None)), Some(Discard::NotAuthentic));
    }

    let ours = pair.finish(&flight, &second, None).ok().unwrap();
    assert_eq!(ours.send, theirs.receive);
}

#[test]
fn a_response_is_for_the_initiation_it_names() {
    let mut pair = Pair::new();
    let (flight, first) = pair.begin(1);
    let (later, _) = pair.begin(2);
    let (_, second) = pair.answer(&first, None).ok().unwrap();
    let mut renamed = second;
    renamed[8..12].copy_from_slice(&8u32.to_le_bytes());

    assert_eq!(fate(pair.finish(&flight, &renamed, None)), Some(Discard::UnexpectedHandshake));
    assert_eq!(fate(pair.finish(&later, &second, None)), Some(Discard::NotAuthentic));
}

#[test]
fn ends_with_different_preshared_keys_never_meet() {
    let (one, other) = (PresharedKey::from_bytes([1; 32]), PresharedKey::from_bytes([2; 32]));
    for (ours, theirs) in [(Some(&one), Some(&other)), (None, Some(&one)), (Some(&one), None)] {
        let mut pair = Pair::new();
        let (flight, first) = pair.begin(1);
        let (_, second) = pair.answer(&first, theirs).ok().unwrap();

        assert_eq!(fate(pair.finish(&flight, &second, ours)), Some(Discard::NotAuthentic));
    }
}

/// The points of small order on the curve and its twist, with and without the ignored top bit.
fn low_order() -> Vec<[u8; 32]> {
    let hex = [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ];
    let plain = hex.map(blake2s::tests::unhex::<32>);
    let flagged = plain.map(|mut point| {
        point[31] |= 0x80;
        point
    });
    [plain, flagged].concat()
}

#[test]
fn keys_of_low_order_are_refused_wherever_they_stand() {
    let mut pair = Pair::new();
    let (flight, first) = pair.begin(1);
    let (_, second) = pair.answer(&first, None).ok().unwrap();

    for point in low_order() {
        let remote = Remote::new(&pair.bob.identity, PublicKey::from_bytes(point));
        assert_eq!(fate(remote), Some(Discard::LowOrderKey));

        let mut ephemeral = first;
        ephemeral[8..40].copy_from_slice(&point);
        assert_eq!(fate(pair.verify(&ephemeral)), Some(Discard::LowOrderKey));

        let mut ephemeral = second;
        ephemeral[12..44].copy_from_slice(&point);
        assert_eq!(fate(pair.finish(&flight, &ephemeral, None)), Some(Discard::LowOrderKey));
    }
}

/// Nothing in an initiation says that it is new: the timestamp does, and the caller compares it.
#[test]
fn a_replayed_initiation_carries_the_timestamp_it_was_made_with() {
    let mut pair = Pair::new();
    let (_, first) = pair.begin(3);

    for _ in 0..2 {
        assert_eq!(pair.verify(&first).ok().unwrap().timestamp(), stamp(3));
    }
    let (_, later) = pair.begin(4);
    assert!(pair.verify(&later).ok().unwrap().timestamp() > stamp(3));
}
