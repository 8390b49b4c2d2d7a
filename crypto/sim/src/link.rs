//! What the underlay does to a datagram.

use std::time::Duration;

use crate::Random;

/// The faults of every link of a world. Delays that differ are what reorders.
#[derive(Debug, Clone, Copy)]
pub struct Link {
    pub delay: Duration,
    /// Up to so much more, drawn for each datagram.
    pub jitter: Duration,
    pub lost_per_mille: u64,
    pub doubled_per_mille: u64,
    /// One bit of the datagram is turned.
    pub corrupted_per_mille: u64,
}

impl Link {
    pub const PERFECT: Self = Self {
        delay: Duration::from_millis(1),
        jitter: Duration::ZERO,
        lost_per_mille: 0,
        doubled_per_mille: 0,
        corrupted_per_mille: 0,
    };

    pub const BAD: Self = Self {
        delay: Duration::from_millis(20),
        jitter: Duration::from_millis(30),
        lost_per_mille: 100,
        doubled_per_mille: 100,
        corrupted_per_mille: 50,
    };

    /// When the copies of a datagram arrive, and whether each is corrupted.
    pub(crate) fn fates(&self, random: &mut Random) -> Vec<(Duration, bool)> {
        let copies = if random.chance(self.doubled_per_mille) { 2 } else { 1 };
        let mut fates = Vec::with_capacity(copies);
        for _ in 0..copies {
            if !random.chance(self.lost_per_mille) {
                let jitter = random.below(self.jitter.as_micros() as u64);
                let corrupted = random.chance(self.corrupted_per_mille);
                fates.push((self.delay + Duration::from_micros(jitter), corrupted));
            }
        }
        fates
    }
}
