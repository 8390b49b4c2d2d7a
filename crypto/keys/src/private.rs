//! The private half of a node's identity.

use std::fmt;

use x25519_dalek::StaticSecret;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::{KeyError, PublicKey, encoding};

/// A Curve25519 private key (RFC 7748), wiped when dropped. It has neither `Display` nor
/// `Serialize`; [`PrivateKey::to_base64`] is for the key file alone.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct PrivateKey([u8; 32]);

impl PrivateKey {
    /// A new key from the operating system's random numbers.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut bytes = Zeroizing::new([0u8; 32]);
        getrandom::fill(bytes.as_mut_slice())?;
        Ok(Self(*bytes))
    }

    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Reads the form that [`PrivateKey::to_base64`] writes.
    pub fn from_base64(text: &str) -> Result<Self, KeyError> {
        Ok(Self(*encoding::decode(text)?))
    }

    /// The text for a key file of mode 0600, wiped when dropped.
    pub fn to_base64(&self) -> Zeroizing<String> {
        Zeroizing::new(encoding::encode(&self.0))
    }

    pub fn public(&self) -> PublicKey {
        let secret = StaticSecret::from(self.0);
        PublicKey::from_bytes(x25519_dalek::PublicKey::from(&secret).to_bytes())
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(hidden)")
    }
}
