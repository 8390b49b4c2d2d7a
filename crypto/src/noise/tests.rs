use x25519_dalek::{PublicKey, StaticSecret};

use super::*;
use crate::blake2s::tests::unhex;

/// The paper's constants, as the Linux kernel computes them at start.
#[test]
fn a_handshake_begins_where_all_others_do() {
    let chaining: Hash = unhex("60e26daef327efc02ec335e2a025d2d016eb4206f87277f52d38d1988b78cd36");
    let named: Hash = unhex("2211b361081ac566691243db458ad5322d9c6c662293e8b70ee19c65ba079ef3");
    let responder = [7; 32];

    let state = Symmetric::new(&responder);

    assert_eq!(*state.chaining, chaining);
    assert_eq!(state.hash, hash(&[&named, &responder]));
}

/// Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s of the cacophony vectors: the same rules with another
/// prologue and payloads, both messages from the initiator's side and the first two of the session.
#[test]
fn a_handshake_is_the_published_one_byte_for_byte() {
    let secret = |text| StaticSecret::from(unhex::<32>(text));
    let initiator = secret("e61ef9919cde45dd5f82166404bd08e38bceb5dfdfded0a34c8df7ed542214d1");
    let ephemeral = secret("893e28b9dc6ca8d611ab664754b8ceb7bac5117349a4439a6b0569da977c464a");
    let responder: [u8; 32] =
        unhex("31e0303fd6418d2f8c0e78b91f22e8caed0fbe48656dcf4767e4834f701b8f62");
    let preshared = unhex("54686973206973206d7920417573747269616e20706572737065637469766521");
    let first: [u8; 112] = unhex(concat!(
        "ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c7944",
        "001e21de9f98ddd8e2ad57527207feb56253c9c94a9e496782ecfcb2a75fbcaf",
        "1b52948cc48daefe660c62119ab5000980c84831215f2441eba616548e832985",
        "464cf17e51ee93109008399a21f7e13f",
    ));
    let second: [u8; 63] = unhex(concat!(
        "95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f144808843",
        "cb765f2caef0751b8f007572dab0322217755c0632f365717edbf34d33e87a",
    ));
    let agree = |ours: &StaticSecret, theirs: [u8; 32]| {
        ours.diffie_hellman(&PublicKey::from(theirs)).to_bytes()
    };

    let mut state = Symmetric { chaining: Secret::new(hash(&[CONSTRUCTION])), hash: [0; 32] };
    state.hash = *state.chaining;
    state.mix_hash(b"John Galt");
    state.mix_hash(&responder);
    let public = PublicKey::from(&ephemeral).to_bytes();
    state.mix_hash(&public);
    state.mix_key(&public);
    let key = state.mix_key_for_field(&agree(&ephemeral, responder));
    let mut field = [0; 48];
    field[..32].copy_from_slice(PublicKey::from(&initiator).as_bytes());
    state.seal(&key, &mut field);
    let key = state.mix_key_for_field(&agree(&initiator, responder));
    let mut payload = [0; 32];
    payload[..16].copy_from_slice(b"Ludwig von Mises");
    state.seal(&key, &mut payload);

    assert_eq!(first, [&public[..], &field, &payload].concat()[..]);

    let theirs = *second.first_chunk::<32>().unwrap();
    state.mix_hash(&theirs);
    state.mix_key(&theirs);
    state.mix_key(&agree(&ephemeral, theirs));
    state.mix_key(&agree(&initiator, theirs));
    let key = state.mix_preshared(&preshared);
    assert_eq!(state.open::<15>(&key, &second[32..]), Ok(*b"Murray Rothbard"));
    assert_eq!(
        state.hash,
        unhex::<32>("f5191b875290abcd41347ac3622d9679688a7e980229cb937ef748336cfde0e5")
    );

    let (send, _) = state.split();
    let mut message = *b"F. A. Hayek";
    let tag =
        cipher(&send).seal_in_place_separate_tag(zero_nonce(), Aad::empty(), &mut message).unwrap();
    assert_eq!(
        unhex::<27>("8153ca9833bc3c1b91a7e66e5f4d4f5b59bf9e64c2f20d15f0bba7"),
        [&message[..], tag.as_ref()].concat()[..]
    );
}

#[test]
fn a_field_that_was_touched_does_not_open_and_leaves_the_state_as_it_was() {
    let mut state = Symmetric::new(&[7; 32]);
    let key = Secret::new([9; 32]);
    let mut field = [1; 28];
    state.clone().seal(&key, &mut field);
    let before = state.hash;

    for at in 0..field.len() {
        let mut touched = field;
        touched[at] ^= 0x10;
        assert_eq!(state.open::<12>(&key, &touched), Err(NotAuthentic));
    }
    assert_eq!(state.open::<12>(&key, &field[..27]), Err(NotAuthentic));
    assert_eq!(state.open::<12>(&key, &[]), Err(NotAuthentic));

    assert_eq!(state.hash, before);
    assert_eq!(state.open::<12>(&key, &field), Ok([1; 12]));
}
