//! Numbered places that workers look into without a hash and without a lock.
//!
//! An index is a slot (20 bits) and a generation (12 bits). The slot says where to look; whoever
//! finds something there compares the whole index, so what is late for a thing that is gone does
//! not reach the next thing in its place.
//!
//! ```text
//!   index 0xabc_00401 → chunk 1, place 1 → is it still 0xabc_00401?
//! ```
//! Chunks are made when they are first used and stay, so a look costs two loads.

use std::sync::{Arc, OnceLock};

use arc_swap::{ArcSwapOption, Guard};

const SLOT_BITS: u32 = 20;
const SLOTS: u32 = 1 << SLOT_BITS;
const GENERATION_BITS: u32 = 32 - SLOT_BITS;
const CHUNK: usize = 1024;

type Chunk<T> = Box<[ArcSwapOption<T>]>;

/// The place of an index, without its generation.
pub(crate) fn slot(index: u32) -> u32 {
    index % SLOTS
}

/// The shared half: what is where.
pub(crate) struct Slots<T> {
    chunks: Box<[OnceLock<Chunk<T>>]>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { chunks: (0..SLOTS as usize / CHUNK).map(|_| OnceLock::new()).collect() }
    }
}

impl<T> Slots<T> {
    /// What is in the slot of `index`. The caller asks whether it is the one.
    pub(crate) fn get(&self, index: u32) -> Option<Guard<Option<Arc<T>>>> {
        let slot = slot(index) as usize;
        let chunk = self.chunks[slot / CHUNK].get()?;
        Some(chunk[slot % CHUNK].load())
    }

    pub(crate) fn put(&self, index: u32, thing: Option<Arc<T>>) {
        let slot = slot(index) as usize;
        let chunk = self.chunks[slot / CHUNK]
            .get_or_init(|| (0..CHUNK).map(|_| ArcSwapOption::empty()).collect());
        chunk[slot % CHUNK].store(thing);
    }
}

/// The control half: which indices are in use, and whose they are.
#[derive(Debug, Default)]
pub(crate) struct Indices {
    slots: Vec<Used>,
    free: Vec<u32>,
}

#[derive(Debug, Clone, Copy)]
struct Used {
    index: u32,
    owner: Option<u32>,
}

impl Indices {
    /// A new index for `owner`, of another generation than the last one in its slot; `None` when a
    /// million are in use.
    pub(crate) fn take(&mut self, owner: u32, random: u32) -> Option<u32> {
        let generation = random >> SLOT_BITS;
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if self.slots.len() < SLOTS as usize => {
                let slot = self.slots.len() as u32;
                self.slots.push(Used { index: slot, owner: None });
                slot
            }
            None => return None,
        };
        let used = &mut self.slots[slot as usize];
        let stale = used.index >> SLOT_BITS == generation;
        let generation = (generation + u32::from(stale)) % (1 << GENERATION_BITS);
        *used = Used { index: generation << SLOT_BITS | slot, owner: Some(owner) };
        Some(used.index)
    }

    /// Takes exactly this index, as an import must; false if its slot is in use.
    pub(crate) fn claim(&mut self, index: u32, owner: u32) -> bool {
        let slot = slot(index);
        while self.slots.len() <= slot as usize {
            let next = self.slots.len() as u32;
            self.slots.push(Used { index: next, owner: None });
            self.free.push(next);
        }
        let used = &mut self.slots[slot as usize];
        if used.owner.is_some() {
            return false;
        }
        *used = Used { index, owner: Some(owner) };
        self.free.retain(|free| *free != slot);
        true
    }

    pub(crate) fn owner(&self, index: u32) -> Option<u32> {
        let used = self.slots.get(slot(index) as usize)?;
        used.owner.filter(|_| used.index == index)
    }

    pub(crate) fn release(&mut self, index: u32) {
        let slot = slot(index);
        if let Some(used) = self.slots.get_mut(slot as usize)
            && used.index == index
            && used.owner.take().is_some()
        {
            self.free.push(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_late_index_does_not_find_the_next_thing_in_its_slot() {
        let mut indices = Indices::default();
        let first = indices.take(1, 0).unwrap();
        indices.release(first);

        let second = indices.take(2, 0).unwrap();

        assert_eq!(slot(first), slot(second));
        assert_eq!((indices.owner(first), indices.owner(second)), (None, Some(2)));
        indices.release(first);
        assert_eq!(indices.owner(second), Some(2), "a second release frees nobody else's");
    }

    #[test]
    fn a_slot_that_was_never_used_is_empty_and_not_a_panic() {
        let slots: Slots<u8> = Slots::default();

        assert!(slots.get(u32::MAX).is_none());
        slots.put(5, Some(Arc::new(7)));
        assert_eq!(slots.get(5).unwrap().as_deref(), Some(&7));
        assert!(slots.get(6).unwrap().is_none());
    }

    proptest! {
        #[test]
        fn every_index_in_use_is_found_and_no_other(steps in prop::collection::vec((0..3u8, any::<u32>()), 0..300)) {
            let mut indices = Indices::default();
            let mut model: BTreeMap<u32, u32> = BTreeMap::new();
            for (step, number) in steps {
                let some = model.keys().nth(number as usize % model.len().max(1)).copied();
                match (step, some) {
                    (0, Some(index)) => {
                        indices.release(index);
                        model.remove(&index);
                    }
                    (1, _) => {
                        let index = number & 0xfff0_003f;
                        let taken = model.keys().any(|used| slot(*used) == slot(index));
                        prop_assert_eq!(indices.claim(index, number), !taken);
                        if !taken {
                            model.insert(index, number);
                        }
                    }
                    _ => {
                        let index = indices.take(number, number).unwrap();
                        prop_assert!(model.insert(index, number).is_none());
                    }
                }
                for (index, owner) in &model {
                    prop_assert_eq!(indices.owner(*index), Some(*owner));
                }
            }
        }
    }
}
