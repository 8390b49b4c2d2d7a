//! Where random bytes come from: an argument, like the time.

/// Random bytes for keys, nonces and indices. The agent gives the operating system's, the
/// simulator a seeded sequence.
pub trait Random: Send {
    /// Fills the whole slice. A source that cannot must not return.
    fn fill(&mut self, bytes: &mut [u8]);
}

/// A fixed sequence of random-looking bytes, for tests.
#[cfg(any(test, feature = "workbench"))]
pub(crate) struct Sequence(u64);

#[cfg(any(test, feature = "workbench"))]
impl Sequence {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed << 32)
    }
}

#[cfg(any(test, feature = "workbench"))]
impl Random for Sequence {
    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(crate::blake2s::HASH) {
            self.0 += 1;
            chunk.copy_from_slice(&crate::blake2s::hash(&[&self.0.to_le_bytes()])[..chunk.len()]);
        }
    }
}
