//! The one text form of a key: 32 bytes as 44 characters of standard base64.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

/// Why a text is no key. The text itself is never part of the error: it may be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("a key is 44 characters of base64, this has {0}")]
    Length(usize),
    #[error("not base64; a key looks like the output of `wg pubkey`")]
    NotBase64,
    #[error("a low-order point: whoever published it has no private key for it")]
    LowOrder,
}

pub(crate) fn decode(text: &str) -> Result<Zeroizing<[u8; 32]>, KeyError> {
    let text = text.trim();
    if text.len() != 44 {
        return Err(KeyError::Length(text.chars().count()));
    }
    let mut bytes = Zeroizing::new([0u8; 33]);
    match STANDARD.decode_slice(text, bytes.as_mut_slice()) {
        Ok(32) => {
            let mut key = Zeroizing::new([0u8; 32]);
            key.copy_from_slice(&bytes[..32]);
            Ok(key)
        }
        Ok(_) | Err(_) => Err(KeyError::NotBase64),
    }
}

pub(crate) fn encode(bytes: &[u8; 32]) -> String {
    STANDARD.encode(bytes)
}
