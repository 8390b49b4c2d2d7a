//! Any bytes as a script: numbers and slices until nothing is left, then zeros.

pub(super) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let taken = self.slice(N);
        array[..taken.len()].copy_from_slice(taken);
        array
    }

    pub(super) fn byte(&mut self) -> u8 {
        u8::from_le_bytes(self.array())
    }

    pub(super) fn short(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    pub(super) fn long(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    /// Up to so many bytes.
    pub(super) fn slice(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// All that is left.
    pub(super) fn rest(&mut self) -> &'a [u8] {
        self.slice(usize::MAX)
    }

    /// A copy of something genuine with the rest of the input laid over it, bit by bit: what is
    /// reached only with a valid message is reached so. The first byte cuts or lengthens it.
    pub(super) fn touched(&mut self, genuine: &[u8]) -> Vec<u8> {
        let cut = usize::from(self.byte());
        let mut copy = genuine.to_vec();
        let mask = self.rest();
        for (to, from) in copy.iter_mut().zip(mask) {
            *to ^= from;
        }
        match cut {
            0..128 => {}
            128..192 => copy.truncate(copy.len().saturating_sub(cut - 127)),
            _ => copy.resize(copy.len() + cut - 191, 0),
        }
        copy
    }
}
