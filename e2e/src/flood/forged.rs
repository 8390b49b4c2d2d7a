//! Initiations that a node must look at: their mac1 is made with its public key, which everybody
//! knows; all the rest is random.

use std::net::Ipv4Addr;

use anyhow::Context as _;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use blake2::digest::consts::U16;
use blake2::digest::{FixedOutput as _, KeyInit as _, Update as _};
use blake2::{Blake2s256, Blake2sMac, Digest as _};

pub(super) const INITIATION: usize = 148;
const MAC1: usize = 116;

/// Numbers that need not be good, only different (xorshift64).
pub(super) struct Numbers(u64);

impl Numbers {
    pub(super) fn new() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// Makes initiations for one node.
pub(super) struct Forger {
    mac1_key: [u8; 32],
}

impl Forger {
    /// `public_key` in base64.
    pub(super) fn new(public_key: &str) -> anyhow::Result<Self> {
        let key = BASE64_STANDARD.decode(public_key.trim()).context("reading a public key")?;
        anyhow::ensure!(key.len() == 32, "a public key of {} bytes", key.len());
        let hash = Blake2s256::new().chain(b"mac1----").chain(&key);
        Ok(Self { mac1_key: hash.finalize().into() })
    }

    pub(super) fn initiation(&self, numbers: &mut Numbers) -> [u8; INITIATION] {
        let mut message = [0; INITIATION];
        message[0] = 1;
        for chunk in message[4..MAC1].chunks_mut(8) {
            chunk.copy_from_slice(&numbers.next().to_le_bytes()[..chunk.len()]);
        }
        let mac = Blake2sMac::<U16>::new_from_slice(&self.mac1_key).expect("32 bytes are a key");
        let mac1 = mac.chain(&message[..MAC1]).finalize_fixed();
        message[MAC1..MAC1 + 16].copy_from_slice(&mac1);
        message
    }
}

/// A source out of 198.18.0.0/15, which is set aside for benchmarks (RFC 2544).
pub(super) fn forged_source(numbers: &mut Numbers) -> Ipv4Addr {
    Ipv4Addr::from_bits(0xc612_0000 | (numbers.next() as u32 & 0x0001_ffff))
}
