//! The preshared key that two peers may mix into their handshake.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::{KeyError, encoding};

/// 32 shared random bytes (the `psk2` of Noise IKpsk2), wiped when dropped, never printed.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct PresharedKey([u8; 32]);

impl PresharedKey {
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Reads what `wg genpsk` prints.
    pub fn from_base64(text: &str) -> Result<Self, KeyError> {
        Ok(Self(*encoding::decode(text)?))
    }

    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for PresharedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PresharedKey(hidden)")
    }
}
