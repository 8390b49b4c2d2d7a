//! BLAKE2s (RFC 7693) in the forms that WireGuard uses: hash, keyed MAC, HMAC, HKDF.
//!
//! The keyed form hashes its key as a first block of its own. [`Keyed`] holds the state after that
//! block, so that a MAC over a handshake message costs two compressions instead of three.

use blake2::{
    Blake2s256, Blake2sVarCore, Digest,
    digest::{
        Output,
        block_buffer::LazyBuffer,
        core_api::{Block, UpdateCore, VariableOutputCore},
    },
};
use zeroize::Zeroizing;

pub(crate) const HASH: usize = 32;
pub(crate) const MAC: usize = 16;
const BLOCK: usize = 64;

pub(crate) type Hash = [u8; HASH];
pub(crate) type Secret = Zeroizing<Hash>;

/// HASH(a || b || …).
pub(crate) fn hash(parts: &[&[u8]]) -> Hash {
    let mut digest = Blake2s256::new();
    for part in parts {
        digest.update(part);
    }
    digest.finalize().into()
}

/// MAC(key, ·): keyed BLAKE2s with 16 bytes of output, the key already taken in.
#[derive(Clone)]
pub(crate) struct Keyed(Blake2sVarCore);

impl Keyed {
    /// `key` has at most 32 bytes.
    pub(crate) fn new(key: &[u8]) -> Self {
        let mut core = Blake2sVarCore::new_with_params(&[], &[], key.len(), MAC);
        let mut block = Zeroizing::new([0; BLOCK]);
        block[..key.len()].copy_from_slice(key);
        core.update_blocks(&[Block::<Blake2sVarCore>::clone_from_slice(block.as_slice())]);
        Self(core)
    }

    /// `message` has at least one byte.
    pub(crate) fn mac(&self, message: &[u8]) -> [u8; MAC] {
        let mut core = self.0.clone();
        let mut buffer = LazyBuffer::default();
        buffer.digest_blocks(message, |blocks| core.update_blocks(blocks));
        let mut whole = Output::<Blake2sVarCore>::default();
        core.finalize_variable_core(&mut buffer, &mut whole);
        let mut mac = [0; MAC];
        mac.copy_from_slice(&whole[..MAC]);
        mac
    }
}

/// HMAC (RFC 2104) over BLAKE2s, with the key already taken in.
struct Hmac {
    inner: Blake2s256,
    outer: Blake2s256,
}

impl Hmac {
    fn new(key: &Hash) -> Self {
        let pad = |byte: u8| {
            let mut block = Zeroizing::new([byte; BLOCK]);
            for (to, from) in block.iter_mut().zip(key) {
                *to ^= from;
            }
            Blake2s256::new_with_prefix(block.as_slice())
        };
        Self { inner: pad(0x36), outer: pad(0x5c) }
    }

    fn over(&self, parts: &[&[u8]]) -> Secret {
        let mut inner = self.inner.clone();
        for part in parts {
            inner.update(part);
        }
        let mut outer = self.outer.clone();
        outer.update(inner.finalize());
        Zeroizing::new(outer.finalize().into())
    }
}

/// KDF of the WireGuard paper, section 5.4 (HKDF, RFC 5869): `N` keys of 32 bytes.
pub(crate) fn kdf<const N: usize>(key: &Hash, input: &[u8]) -> [Secret; N] {
    let extracted = Hmac::new(key).over(&[input]);
    let expand = Hmac::new(&extracted);
    let mut last = Secret::default();
    let mut count = 0;
    std::array::from_fn(|_| {
        let previous: &[u8] = if count == 0 { &[] } else { last.as_slice() };
        count += 1;
        last = expand.over(&[previous, &[count]]);
        last.clone()
    })
}

#[cfg(test)]
mod tests;
