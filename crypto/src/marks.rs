//! Peers that the control half should look at, marked by workers without a lock.
//!
//! A bit a slot, and a bit a word above them: taking all of them costs what is marked, not what
//! there is.

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering},
};

use crate::slots::slot;

const WORD: usize = u64::BITS as usize;
/// Slots in a chunk.
const CHUNK: usize = WORD * WORD;
const CHUNKS: usize = (1 << 20) / CHUNK;

struct Chunk {
    summary: AtomicU64,
    words: [AtomicU64; WORD],
}

pub(crate) struct Marks {
    chunks: Box<[OnceLock<Box<Chunk>>]>,
}

impl Default for Marks {
    fn default() -> Self {
        Self { chunks: (0..CHUNKS).map(|_| OnceLock::new()).collect() }
    }
}

impl Marks {
    /// Prepares the place of `index`, so that marking it allocates nothing.
    pub(crate) fn prepare(&self, index: u32) {
        self.chunks[slot(index) as usize / CHUNK].get_or_init(|| {
            Box::new(Chunk {
                summary: AtomicU64::new(0),
                words: [const { AtomicU64::new(0) }; WORD],
            })
        });
    }

    pub(crate) fn set(&self, index: u32) {
        let slot = slot(index) as usize;
        let Some(chunk) = self.chunks[slot / CHUNK].get() else {
            return;
        };
        let place = slot % CHUNK;
        chunk.words[place / WORD].fetch_or(1 << (place % WORD), Ordering::AcqRel);
        chunk.summary.fetch_or(1 << (place / WORD), Ordering::AcqRel);
    }

    /// Takes all marks; `f` gets each slot.
    pub(crate) fn take(&self, mut f: impl FnMut(u32)) {
        for (number, chunk) in self.chunks.iter().enumerate() {
            let Some(chunk) = chunk.get() else {
                continue;
            };
            for word in bits(chunk.summary.swap(0, Ordering::AcqRel)) {
                for bit in bits(chunk.words[word].swap(0, Ordering::AcqRel)) {
                    f((number * CHUNK + word * WORD + bit) as u32);
                }
            }
        }
    }
}

/// The places of the bits that are set.
fn bits(mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let place = word.trailing_zeros() as usize;
        let found = word != 0;
        word &= word.wrapping_sub(1);
        found.then_some(place)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_marked_is_taken_once(slots in prop::collection::btree_set(0..20_000u32, 0..200)) {
            let marks = Marks::default();
            for slot in &slots {
                marks.prepare(*slot);
                marks.set(*slot);
                marks.set(*slot);
            }

            let mut taken = Vec::new();
            marks.take(|slot| taken.push(slot));

            prop_assert_eq!(taken.iter().copied().collect::<BTreeSet<_>>(), slots);
            prop_assert!(taken.is_sorted_by(|a, b| a < b));
            marks.take(|slot| panic!("{slot} again"));
        }
    }
}
