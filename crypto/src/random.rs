//! Where random bytes come from: an argument, like the time.

/// Random bytes for keys, nonces and indices. The agent gives the operating system's, the
/// simulator a seeded sequence.
pub trait Random: Send {
    /// Fills the whole slice. A source that cannot must not return.
    fn fill(&mut self, bytes: &mut [u8]);
}
