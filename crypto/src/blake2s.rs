//! BLAKE2s (RFC 7693) in the forms that WireGuard uses: hash, keyed MAC, HMAC, HKDF.
//!
//! A keyed MAC hashes its key as a first block of its own, HMAC does so twice. [`Primed`] is the
//! state after such a block: a MAC over a handshake message then costs two compressions instead
//! of three, which is what a flood of junk costs us.

use std::hint::black_box;

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

/// A hash that has taken in one block made of a key; overwritten when dropped.
#[derive(Clone)]
struct Primed(Blake2sVarCore);

impl Primed {
    fn new(mut core: Blake2sVarCore, block: &[u8; BLOCK]) -> Self {
        core.update_blocks(&[Block::<Blake2sVarCore>::clone_from_slice(block)]);
        Self(core)
    }

    /// The hash of the block and at least one byte more.
    fn finish(&self, parts: &[&[u8]]) -> Output<Blake2sVarCore> {
        let mut core = self.0.clone();
        let mut buffer = LazyBuffer::default();
        for part in parts {
            buffer.digest_blocks(part, |blocks| core.update_blocks(blocks));
        }
        let mut hash = Output::<Blake2sVarCore>::default();
        core.finalize_variable_core(&mut buffer, &mut hash);
        hash
    }
}

impl Drop for Primed {
    fn drop(&mut self) {
        self.0 = Blake2sVarCore::new_with_params(&[], &[], 0, HASH);
        black_box(&self.0);
    }
}

/// MAC(key, ·): keyed BLAKE2s with 16 bytes of output.
#[derive(Clone)]
pub(crate) struct Keyed(Primed);

impl Keyed {
    /// `key` has at most 32 bytes.
    pub(crate) fn new(key: &[u8]) -> Self {
        let mut block = Zeroizing::new([0; BLOCK]);
        block[..key.len()].copy_from_slice(key);
        Self(Primed::new(Blake2sVarCore::new_with_params(&[], &[], key.len(), MAC), &block))
    }

    /// `message` has at least one byte.
    pub(crate) fn mac(&self, message: &[u8]) -> [u8; MAC] {
        let mut mac = [0; MAC];
        mac.copy_from_slice(&self.0.finish(&[message])[..MAC]);
        mac
    }
}

/// KDF of the WireGuard paper, section 5.4 (HKDF, RFC 5869): `N` keys of 32 bytes.
pub(crate) fn kdf<const N: usize>(key: &Hash, input: &[u8]) -> [Secret; N] {
    let inner = hash(&[pad(key, 0x36).as_slice(), input]);
    let extracted = Secret::new(hash(&[pad(key, 0x5c).as_slice(), &inner]));
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

/// HMAC (RFC 2104) over at least one byte. (Over none, the block would be the last, which a primed
/// hash has passed.)
struct Hmac {
    inner: Primed,
    outer: Primed,
}

impl Hmac {
    fn new(key: &Hash) -> Self {
        let plain = || Blake2sVarCore::new_with_params(&[], &[], 0, HASH);
        Self {
            inner: Primed::new(plain(), &pad(key, 0x36)),
            outer: Primed::new(plain(), &pad(key, 0x5c)),
        }
    }

    fn over(&self, parts: &[&[u8]]) -> Secret {
        let inner = self.inner.finish(parts);
        Secret::new(self.outer.finish(&[&inner]).into())
    }
}

fn pad(key: &Hash, byte: u8) -> Zeroizing<[u8; BLOCK]> {
    let mut block = Zeroizing::new([byte; BLOCK]);
    for (to, from) in block.iter_mut().zip(key) {
        *to ^= from;
    }
    block
}

#[cfg(test)]
pub(crate) mod tests;
