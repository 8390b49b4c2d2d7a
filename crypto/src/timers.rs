//! A wheel of timers that costs what is due, however many wait (Varghese and Lauck, 1987).
//!
//! ```text
//!   level 0: 64 slots of 4 ms ─▶ level 1: 64 of 256 ms ─▶ … ─▶ level 6: centuries
//! ```
//! An entry lies on the level of the highest six bits in which its time differs from now. When the
//! wheel reaches its slot there, it moves to a lower level, or is due. A bit a slot says which are
//! in use, so the next one is found without a search.

use crate::moment::Moment;

/// Milliseconds a tick.
const GRAIN: u64 = 4;
const BITS: u32 = 6;
const SLOTS: usize = 1 << BITS;
const LEVELS: usize = 7;
const END: u64 = (1 << (BITS * LEVELS as u32)) - 1;

/// When an entry is due, in the wheel's own ticks: to know it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Due(u64);

#[derive(Debug)]
struct Level {
    used: u64,
    slots: [Vec<(Due, u32)>; SLOTS],
}

#[derive(Debug)]
pub(crate) struct Wheel {
    now: u64,
    levels: [Level; LEVELS],
}

impl Default for Wheel {
    fn default() -> Self {
        let level = || Level { used: 0, slots: [const { Vec::new() }; SLOTS] };
        Self { now: 0, levels: std::array::from_fn(|_| level()) }
    }
}

impl Wheel {
    /// The tick in which something at that moment would be due: never before it.
    pub(crate) fn due(moment: Moment) -> Due {
        Due(moment.0.div_ceil(GRAIN).min(END))
    }

    /// Puts `what` in. What should have been long ago is due in the next tick.
    pub(crate) fn insert(&mut self, due: Due, what: u32) {
        let at = due.0.max(self.now + 1).min(END);
        let level = ((at ^ self.now).max(1).ilog2() / BITS) as usize;
        let slot = place(at, level);
        let level = &mut self.levels[level.min(LEVELS - 1)];
        level.used |= 1 << slot;
        level.slots[slot].push((due, what));
    }

    /// When something may be due next; at most a few times too early, never too late.
    pub(crate) fn next(&self) -> Option<Moment> {
        self.first().map(|(_, _, tick)| Moment(tick * GRAIN))
    }

    /// Moves on to `now` and gives what is due, in the order of its ticks.
    pub(crate) fn advance(&mut self, now: Moment, due: &mut Vec<(Due, u32)>) {
        let now = now.0 / GRAIN;
        while let Some((level, slot, tick)) = self.first().filter(|(_, _, tick)| *tick <= now) {
            self.now = tick;
            let level = &mut self.levels[level];
            level.used &= !(1 << slot);
            for entry in std::mem::take(&mut level.slots[slot]) {
                if entry.0.0 <= tick {
                    due.push(entry);
                } else {
                    self.insert(entry.0, entry.1);
                }
            }
        }
        self.now = self.now.max(now);
    }

    /// The first slot in use, and the tick in which it begins. All of a lower level is before
    /// everything on a higher one.
    fn first(&self) -> Option<(usize, usize, u64)> {
        let (number, level) = self.levels.iter().enumerate().find(|(_, level)| level.used != 0)?;
        let slot = level.used.trailing_zeros() as usize;
        let shift = BITS * number as u32;
        let above = self.now >> shift >> BITS << BITS;
        Some((number, slot, (above | slot as u64) << shift))
    }
}

fn place(tick: u64, level: usize) -> usize {
    (tick >> (BITS * level as u32)) as usize % SLOTS
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_gives_what_a_sorted_list_gives(
            steps in prop::collection::vec((0..3u8, 0..40_u32, 0..1000u64), 1..200)
        ) {
            let mut wheel = Wheel::default();
            let mut model: Vec<(Due, u32)> = Vec::new();
            let mut now = Moment(1);
            for (number, (step, shift, by)) in (0..).zip(steps) {
                let by = by << (shift / 2);
                if step == 0 {
                    now = Moment(now.0 + by);
                    let mut given = Vec::new();
                    wheel.advance(now, &mut given);
                    let mut expected: Vec<_> =
                        model.extract_if(.., |(due, _)| due.0 <= now.0 / GRAIN).collect();
                    given.sort_unstable();
                    expected.sort_unstable();
                    prop_assert_eq!(given, expected);
                } else {
                    // Never in the tick that is now: it is over.
                    let due = Due(Wheel::due(now.after(std::time::Duration::from_millis(by))).0.max(now.0 / GRAIN + 1));
                    wheel.insert(due, number);
                    model.push((due, number));
                }
                let first = model.iter().map(|(due, _)| due.0 * GRAIN).min();
                prop_assert_eq!(wheel.next().is_some(), first.is_some());
                prop_assert!(wheel.next().is_none_or(|next| next.0 <= first.unwrap_or(0) && next.0 > now.0 / GRAIN * GRAIN));
            }
        }
    }

    #[test]
    fn what_should_have_been_long_ago_is_due_at_once() {
        let mut wheel = Wheel::default();
        let mut due = Vec::new();
        wheel.advance(Moment(1_000_000), &mut due);

        wheel.insert(Wheel::due(Moment(3)), 7);
        wheel.insert(Wheel::due(Moment(u64::MAX)), 8);

        assert_eq!(wheel.next(), Some(Moment(1_000_004)));
        wheel.advance(Moment(1_000_004), &mut due);
        assert_eq!(due, [(Wheel::due(Moment(3)), 7)]);
    }

    #[test]
    fn ten_thousand_that_wait_cost_nothing_before_their_time() {
        let mut wheel = Wheel::default();
        for peer in 0..10_000 {
            wheel.insert(Wheel::due(Moment(120_000)), peer);
        }
        let mut due = Vec::new();

        // From one wake to the next: two cascades, then all of them.
        let mut wakes = 0;
        while due.is_empty() {
            let next = wheel.next().unwrap();
            wheel.advance(next, &mut due);
            wakes += 1;
        }

        assert_eq!(due.len(), 10_000);
        assert!(wakes <= LEVELS, "{wakes}");
    }
}
