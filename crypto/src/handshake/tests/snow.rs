//! The same handshake by snow, a Noise implementation of its own: the same bytes on the wire, the
//! same keys at the end.

use ::snow::{Builder, HandshakeState};
use proptest::prelude::*;

use super::*;

const PATTERN: &str = "Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s";
const PROLOGUE: &[u8] = b"WireGuard v1 zx2c4 Jason@zx2c4.com";

/// Gives the same bytes each time.
struct Fixed([u8; 32]);

impl Random for Fixed {
    fn fill(&mut self, bytes: &mut [u8]) {
        bytes.copy_from_slice(&self.0[..bytes.len()]);
    }
}

#[derive(Debug)]
struct Case {
    alice: [u8; 32],
    bob: [u8; 32],
    alice_ephemeral: [u8; 32],
    bob_ephemeral: [u8; 32],
    preshared: [u8; 32],
    timestamp: [u8; 12],
}

impl Case {
    fn identities(&self) -> [Identity; 2] {
        [self.alice, self.bob]
            .map(|key| Identity::new(KeyEpoch::FIRST, &PrivateKey::from_bytes(key)))
    }

    fn builder<'a>(&'a self, private: &'a [u8; 32], ephemeral: &'a [u8; 32]) -> Builder<'a> {
        Builder::new(PATTERN.parse().unwrap())
            .prologue(PROLOGUE)
            .unwrap()
            .psk(2, &self.preshared)
            .unwrap()
            .local_private_key(private)
            .unwrap()
            .fixed_ephemeral_key_for_testing_only(ephemeral)
    }

    fn snow(&self) -> [HandshakeState; 2] {
        let [_, bob] = self.identities();
        let alice = self
            .builder(&self.alice, &self.alice_ephemeral)
            .remote_public_key(bob.public().as_bytes())
            .unwrap()
            .build_initiator()
            .unwrap();
        let bob = self.builder(&self.bob, &self.bob_ephemeral).build_responder().unwrap();
        [alice, bob]
    }

    /// All the bytes and all the keys, by us and by them.
    fn run(&self) {
        let [alice, bob] = self.identities();
        let preshared = PresharedKey::from_bytes(self.preshared);
        let preshared = Some(&preshared);
        let bob_at_alice = Remote::new(&alice, bob.public()).ok().unwrap();
        let alice_at_bob = Remote::new(&bob, alice.public()).ok().unwrap();
        let ours = Ends { identity: &alice, remote: &bob_at_alice, preshared };
        let theirs = Ends { identity: &bob, remote: &alice_at_bob, preshared };
        let [mut snow_alice, mut snow_bob] = self.snow();
        let (mut snow_first, mut snow_second, mut open) = ([0; 108], [0; 48], [0; 64]);

        let mut first = [0; INITIATION];
        let at = Timestamp::from_bytes(self.timestamp);
        let mut random = Fixed(self.alice_ephemeral);
        let flight = initiate(&ours, &index(1), at, &mut random, &mut first);
        snow_alice.write_message(&self.timestamp, &mut snow_first).unwrap();
        assert_eq!(first[8..116], snow_first);

        let length = snow_bob.read_message(&first[8..116], &mut open).unwrap();
        assert_eq!(open[..length], self.timestamp);
        let claim = receive(&bob, initiation(&first)).ok().unwrap();
        let verified = claim.verify(&alice_at_bob).ok().unwrap();

        let mut second = [0; RESPONSE];
        let mut random = Fixed(self.bob_ephemeral);
        let bobs = verified.answer(&theirs, &index(2), &mut random, &mut second);
        snow_bob.write_message(&[], &mut snow_second).unwrap();
        assert_eq!(second[12..60], snow_second);

        snow_alice.read_message(&second[12..60], &mut open).unwrap();
        let alices = flight.finish(&ours, response(&second)).ok().unwrap();

        let (forth, back) = snow_alice.dangerously_get_raw_split();
        assert_eq!((*alices.send, *alices.receive), (forth, back));
        assert_eq!(snow_bob.dangerously_get_raw_split(), (forth, back));
        assert_eq!((*bobs.receive, *bobs.send), (forth, back));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn our_handshake_is_snows_byte_for_byte(
        alice: [u8; 32], bob: [u8; 32], alice_ephemeral: [u8; 32], bob_ephemeral: [u8; 32],
        preshared in prop_oneof![Just([0; 32]), any::<[u8; 32]>()], timestamp: [u8; 12],
    ) {
        Case { alice, bob, alice_ephemeral, bob_ephemeral, preshared, timestamp }.run();
    }
}
