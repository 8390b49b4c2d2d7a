//! The symmetric half of a Noise handshake: a chaining key and a hash over all that was said.
//!
//! `Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s` as the WireGuard paper uses it (section 5.4): each key
//! seals one field, with a nonce of zero and the hash so far as associated data.
//!
//! ring keeps the expanded form of a field's key on the stack for the time of one call and does
//! not wipe it; the same is true of the RustCrypto hash states. Everything that outlives a call is
//! wiped.

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use crate::blake2s::{Hash, Secret, hash, kdf};

pub(crate) const TAG: usize = 16;
const CONSTRUCTION: &[u8] = b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s";
const IDENTIFIER: &[u8] = b"WireGuard v1 zx2c4 Jason@zx2c4.com";

/// The field did not open: forged, or meant for somebody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotAuthentic;

#[derive(Clone)]
pub(crate) struct Symmetric {
    chaining: Secret,
    hash: Hash,
}

impl Symmetric {
    /// Before the first message. `responder`: its static public key.
    pub(crate) fn new(responder: &[u8; 32]) -> Self {
        let chaining = hash(&[CONSTRUCTION]);
        let hash = hash(&[&hash(&[&chaining, IDENTIFIER]), responder]);
        Self { chaining: Secret::new(chaining), hash }
    }

    pub(crate) fn mix_hash(&mut self, data: &[u8]) {
        self.hash = hash(&[&self.hash, data]);
    }

    /// Takes `input` into the chaining key alone.
    pub(crate) fn mix_key(&mut self, input: &[u8]) {
        let [chaining] = kdf(&self.chaining, input);
        self.chaining = chaining;
    }

    /// The same, and gives a key for one field.
    pub(crate) fn mix_key_for_field(&mut self, input: &[u8]) -> Secret {
        let [chaining, key] = kdf(&self.chaining, input);
        self.chaining = chaining;
        key
    }

    /// Takes the preshared key in (all zero if there is none) and gives a key for one field.
    pub(crate) fn mix_preshared(&mut self, preshared: &[u8; 32]) -> Secret {
        let [chaining, heard, key] = kdf(&self.chaining, preshared);
        self.chaining = chaining;
        self.mix_hash(heard.as_slice());
        key
    }

    /// Seals `field` in place; its last 16 bytes become the tag.
    pub(crate) fn seal(&mut self, key: &Secret, field: &mut [u8]) {
        let (plain, tag) = field.split_at_mut(field.len() - TAG);
        let sealed = cipher(key)
            .seal_in_place_separate_tag(zero_nonce(), Aad::from(self.hash), plain)
            .expect("a handshake field is short");
        tag.copy_from_slice(sealed.as_ref());
        self.mix_hash(field);
    }

    /// Opens `field`, of which `N` bytes are no tag.
    pub(crate) fn open<const N: usize>(
        &mut self,
        key: &Secret,
        field: &[u8],
    ) -> Result<[u8; N], NotAuthentic> {
        let mut open = [0; N];
        let (sealed, tag) = field.split_at_checked(N).ok_or(NotAuthentic)?;
        let tag = tag.try_into().map_err(|_| NotAuthentic)?;
        open.copy_from_slice(sealed);
        cipher(key)
            .open_in_place_separate_tag(zero_nonce(), Aad::from(self.hash), tag, &mut open, 0..)
            .map_err(|_| NotAuthentic)?;
        self.mix_hash(field);
        Ok(open)
    }

    /// The two keys of the session: the initiator's for sending, the responder's for sending.
    pub(crate) fn split(&self) -> (Secret, Secret) {
        let [initiator, responder] = kdf(&self.chaining, &[]);
        (initiator, responder)
    }
}

fn cipher(key: &Secret) -> LessSafeKey {
    let key = UnboundKey::new(&CHACHA20_POLY1305, key.as_slice()).expect("a key has 32 bytes");
    LessSafeKey::new(key)
}

fn zero_nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

#[cfg(test)]
mod tests;
