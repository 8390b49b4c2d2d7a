//! The private half of a node's identity.

use std::{fmt, hint::black_box};

use x25519_dalek::StaticSecret;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::{KeyError, PublicKey, encoding};

/// A Curve25519 private key (RFC 7748), wiped when dropped. It has neither `Display` nor
/// `Serialize`; [`PrivateKey::to_base64`] is for the key file alone.
///
/// Its bytes stay in one place: whoever moves it, sorts it or puts it into a list that grows leaves
/// no copy behind.
#[derive(Clone)]
pub struct PrivateKey(Box<[u8; 32]>);

impl Drop for PrivateKey {
    fn drop(&mut self) {
        self.0.as_mut_slice().zeroize();
    }
}

impl ZeroizeOnDrop for PrivateKey {}

impl PrivateKey {
    /// A new key from the operating system's random numbers.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut key = Self::zero();
        getrandom::fill(key.0.as_mut_slice())?;
        Ok(key)
    }

    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        let mut key = Self::zero();
        key.0.copy_from_slice(&bytes);
        key
    }

    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Reads the form that [`PrivateKey::to_base64`] writes.
    pub fn from_base64(text: &str) -> Result<Self, KeyError> {
        let mut key = Self::zero();
        let decoded = encoding::decode(text).map(|bytes| key.0.copy_from_slice(&*bytes));
        scrub_stack();
        decoded.map(|()| key)
    }

    /// The text for a key file of mode 0600, wiped when dropped.
    pub fn to_base64(&self) -> Zeroizing<String> {
        Zeroizing::new(encoding::encode(&self.0))
    }

    pub fn public(&self) -> PublicKey {
        let secret = StaticSecret::from(*self.0);
        let public = x25519_dalek::PublicKey::from(&secret).to_bytes();
        drop(secret);
        scrub_stack();
        PublicKey::from_bytes(public)
    }

    fn zero() -> Self {
        Self(Box::new([0; 32]))
    }
}

/// Overwrites what calls before it left on the stack, such as a key that was handed over by value.
/// Costs a tenth of a microsecond.
#[inline(never)]
pub fn scrub_stack() {
    black_box(&mut [0u8; 8192]);
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(hidden)")
    }
}
