//! The replay window: which of the last 8,192 counters of a session were seen.
//!
//! A ring of bits, as in RFC 6479: moving forward clears whole words and shifts nothing. One word
//! more than the window holds, so that the word at the edge is never half stale.
//!
//! ```text
//!   too old │ ..1101101111 │ next ▶
//!           └── 8,192 ─────┘
//! ```

/// How far behind the newest a counter may be.
pub(crate) const WINDOW: u64 = 8192;
const BITS: u64 = u64::BITS as u64;
const WORDS: usize = (WINDOW / BITS) as usize + 1;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Window {
    /// One more than the greatest counter seen.
    next: u64,
    seen: [u64; WORDS],
}

impl Default for Window {
    fn default() -> Self {
        Self { next: 0, seen: [0; WORDS] }
    }
}

impl Window {
    /// True if `counter` is new; from then on it is not.
    pub(crate) fn mark(&mut self, counter: u64) -> bool {
        if counter >= self.next {
            if counter == u64::MAX {
                return false;
            }
            self.advance(counter);
        } else if self.next - counter > WINDOW {
            return false;
        }
        let (word, bit) = place(counter);
        let new = self.seen[word] & bit == 0;
        self.seen[word] |= bit;
        new
    }

    /// One more than the greatest counter seen.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// A window in which every counter below `next` was seen.
    pub(crate) fn all_below(next: u64) -> Self {
        let mut window = Self { next, seen: [u64::MAX; WORDS] };
        let (word, bit) = place(next);
        window.seen[word] &= bit - 1;
        window
    }

    /// The bits of the window, the oldest first; see [`Window::restore`].
    pub(crate) fn words(&self) -> &[u64] {
        &self.seen
    }

    /// What [`Window::next`] and [`Window::words`] gave; `None` if the length is another.
    pub(crate) fn restore(next: u64, words: &[u64]) -> Option<Self> {
        Some(Self { next, seen: words.try_into().ok()? })
    }

    fn advance(&mut self, counter: u64) {
        let before = self.next.saturating_sub(1) / BITS;
        let words = (counter / BITS - before).min(WORDS as u64);
        for word in 1..=words {
            self.seen[((before + word) % WORDS as u64) as usize] = 0;
        }
        self.next = counter + 1;
    }
}

fn place(counter: u64) -> (usize, u64) {
    ((counter / BITS % WORDS as u64) as usize, 1 << (counter % BITS))
}

#[cfg(test)]
mod tests;
