//! Proof that somebody holds the private half of a public key. Curve25519 has no signatures of its
//! own: whoever asks sends a fresh public key, and the secret that both then share keys a MAC.
//!
//! ```text
//! asker: e, E = e·G ── E ──▶ holder of k, K = k·G:  BLAKE2s(key = k·E, label ‖ E ‖ K ‖ context)
//! asker: the same with key = e·K; equal only if the other had k
//! ```

use std::{fmt, str::FromStr};

use blake2::{Blake2sMac256, digest::Mac};
use subtle::ConstantTimeEq;
use x25519_dalek::StaticSecret;
use zeroize::Zeroizing;

use crate::{KeyError, PrivateKey, PublicKey, encoding, scrub_stack};

/// Keeps this MAC apart from everything else that is made with a node's key.
const LABEL: &[u8] = b"hawser possession 1";

/// What the holder answers: 32 bytes, as public as the challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proof([u8; 32]);

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encoding::encode(&self.0))
    }
}

impl FromStr for Proof {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        Ok(Self(*encoding::decode(text)?))
    }
}

/// A question that only the holder of a key can answer. Good for one answer: drop it afterwards.
#[derive(Debug)]
pub struct Challenge {
    secret: PrivateKey,
    public: PublicKey,
}

impl Challenge {
    /// A fresh one, from the operating system's random numbers.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let secret = PrivateKey::generate()?;
        let public = secret.public();
        Ok(Self { secret, public })
    }

    /// What the holder needs to answer.
    pub fn public(&self) -> PublicKey {
        self.public
    }

    /// True if `proof` was made for this challenge and `context` with the private half of `claimed`.
    pub fn is_met(&self, claimed: &PublicKey, context: &[u8], proof: &Proof) -> bool {
        let made = possession(&self.secret, claimed, (&self.public, claimed), context);
        made.is_ok_and(|made| bool::from(made.0.ct_eq(&proof.0)))
    }
}

impl PrivateKey {
    /// Answers a challenge for `context`, which is the asker's to choose a meaning for.
    /// Fails on a challenge with which every holder's secret would be the same.
    pub fn prove(&self, challenge: &PublicKey, context: &[u8]) -> Result<Proof, KeyError> {
        possession(self, challenge, (challenge, &self.public()), context)
    }
}

fn possession(
    own: &PrivateKey,
    other: &PublicKey,
    (challenge, claimed): (&PublicKey, &PublicKey),
    context: &[u8],
) -> Result<Proof, KeyError> {
    let secret = StaticSecret::from(*own.as_bytes());
    let shared = secret.diffie_hellman(&x25519_dalek::PublicKey::from(*other.as_bytes()));
    drop(secret);
    if !shared.was_contributory() {
        return Err(KeyError::LowOrder);
    }
    let key = Zeroizing::new(shared.to_bytes());
    let mut mac = <Blake2sMac256 as Mac>::new((&*key).into());
    for part in [LABEL, challenge.as_bytes(), claimed.as_bytes(), context] {
        mac.update(part);
    }
    let proof = Proof(mac.finalize().into_bytes().into());
    scrub_stack();
    Ok(proof)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_holder_of_a_key_meets_a_challenge_for_it() {
        let (holder, other) = (PrivateKey::from_bytes([1; 32]), PrivateKey::from_bytes([2; 32]));
        let challenge = Challenge::generate().unwrap();
        let proof = holder.prove(&challenge.public(), b"context").unwrap();
        let strangers = other.prove(&challenge.public(), b"context").unwrap();
        let met = |claimed: &PrivateKey, context: &[u8], proof| {
            challenge.is_met(&claimed.public(), context, proof)
        };

        assert!(met(&holder, b"context", &proof));
        let read: Proof = proof.to_string().parse().unwrap();
        assert!(met(&holder, b"context", &read));
        assert!(!met(&holder, b"another", &proof));
        assert!(!met(&holder, b"context", &strangers));
        assert!(!met(&other, b"context", &proof));
        assert!(!Challenge::generate().unwrap().is_met(&holder.public(), b"context", &proof));
    }

    #[test]
    fn a_challenge_or_a_key_of_small_order_proves_nothing() {
        let holder = PrivateKey::from_bytes([1; 32]);
        for point in crate::public::LOW_ORDER.map(PublicKey::from_bytes) {
            assert_eq!(holder.prove(&point, b""), Err(KeyError::LowOrder));
            assert!(!Challenge::generate().unwrap().is_met(&point, b"", &Proof([0; 32])));
        }
    }
}
