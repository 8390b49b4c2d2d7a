//! Timestamps of initiations (TAI64N), and a clock of them that never goes back.
//!
//! A responder remembers the greatest timestamp of each peer and refuses what is not greater, so
//! a clock that goes back makes a node deaf to its peers. Ours therefore counts on from the
//! greatest value it ever gave, or was told to begin after, whatever happens to the wall clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// 2^62 is the beginning of 1970 TAI; 37 s is what TAI is ahead of UTC by since 2017. (The Linux
/// kernel adds 10, boringtun 37. A node that changes from them to this engine goes forward.)
const BASE: u64 = (1 << 62) + 37;
const NANOS: u32 = 1_000_000_000;
/// Finer steps would tell an observer about our clock and our load (the kernel's 2^25 ns).
const GRAIN: u32 = 1 << 25;

/// Big endian, so that the order of the bytes is the order of the times. Those of others may be
/// any 12 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Timestamp([u8; Timestamp::LENGTH]);

impl Timestamp {
    pub(crate) const LENGTH: usize = 12;

    pub(crate) fn from_bytes(bytes: [u8; Self::LENGTH]) -> Self {
        Self(bytes)
    }

    pub(crate) fn as_bytes(&self) -> &[u8; Self::LENGTH] {
        &self.0
    }

    /// Times before 1970 are 1970.
    pub(crate) fn at(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::from_parts(BASE.saturating_add(since.as_secs()), since.subsec_nanos())
    }

    /// The wall clock time it stands for; the nearest representable one for odd bytes.
    pub(crate) fn time(self) -> SystemTime {
        let (seconds, nanos) = self.parts();
        let since = Duration::new(seconds.saturating_sub(BASE), nanos.min(NANOS - 1));
        UNIX_EPOCH.checked_add(since).unwrap_or(UNIX_EPOCH)
    }

    fn from_parts(seconds: u64, nanos: u32) -> Self {
        let mut bytes = [0; Self::LENGTH];
        bytes[..8].copy_from_slice(&seconds.to_be_bytes());
        bytes[8..].copy_from_slice(&nanos.to_be_bytes());
        Self(bytes)
    }

    fn parts(self) -> (u64, u32) {
        let (mut seconds, mut nanos) = ([0; 8], [0; 4]);
        seconds.copy_from_slice(&self.0[..8]);
        nanos.copy_from_slice(&self.0[8..]);
        (u64::from_be_bytes(seconds), u32::from_be_bytes(nanos))
    }

    fn coarse(self) -> Self {
        let (seconds, nanos) = self.parts();
        Self::from_parts(seconds, nanos & !(GRAIN - 1))
    }

    fn successor(self) -> Self {
        let (seconds, nanos) = self.parts();
        if nanos + 1 < NANOS {
            Self::from_parts(seconds, nanos + 1)
        } else {
            Self::from_parts(seconds.saturating_add(1), 0)
        }
    }
}

/// Gives timestamps, each greater than the one before.
#[derive(Debug, Clone)]
pub(crate) struct Clock {
    wall: SystemTime,
    at: Instant,
    latest: Timestamp,
}

impl Clock {
    /// `wall` is the wall clock `now`. Every timestamp will be greater than `floor`.
    pub(crate) fn new(wall: SystemTime, floor: Option<SystemTime>, now: Instant) -> Self {
        let latest = floor.map(Timestamp::at).unwrap_or_default();
        Self { wall, at: now, latest }
    }

    /// The wall clock was set, or drifted.
    pub(crate) fn set_wall(&mut self, wall: SystemTime, now: Instant) {
        self.wall = wall;
        self.at = now;
    }

    pub(crate) fn next(&mut self, now: Instant) -> Timestamp {
        let passed = now.saturating_duration_since(self.at);
        let wall = self.wall.checked_add(passed).unwrap_or(self.wall);
        self.latest = Timestamp::at(wall).coarse().max(self.latest.successor());
        self.latest
    }

    /// The greatest ever given (or the floor): to be kept over a restart.
    pub(crate) fn latest(&self) -> SystemTime {
        self.latest.time()
    }
}

#[cfg(test)]
mod tests;
