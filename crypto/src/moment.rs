//! Coarse time in one word, so that workers can share it: milliseconds since the mesh began.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// Milliseconds since the [`Origin`], counted from 1: 0 means never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Moment(pub(crate) u64);

impl Moment {
    pub(crate) const NEVER: Self = Self(0);

    pub(crate) fn after(self, time: Duration) -> Self {
        Self(self.0.saturating_add(millis(time)))
    }

    /// How long ago `earlier` was; nothing if it is yet to come.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    pub(crate) fn happened(self) -> Option<Self> {
        (self != Self::NEVER).then_some(self)
    }
}

/// What moments count from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin(Instant);

impl Origin {
    pub(crate) fn new(now: Instant) -> Self {
        Self(now)
    }

    pub(crate) fn moment(self, now: Instant) -> Moment {
        Moment(millis(now.saturating_duration_since(self.0)) + 1)
    }

    /// Not before the moment began.
    pub(crate) fn instant(self, moment: Moment) -> Instant {
        let since = Duration::from_millis(moment.0.saturating_sub(1));
        // A century is as good as the end, and every clock can count it.
        self.0 + since.min(Duration::from_secs(100 * 365 * 86_400))
    }
}

/// A moment that workers write and read.
#[derive(Debug, Default)]
pub(crate) struct SharedMoment(AtomicU64);

impl SharedMoment {
    pub(crate) fn get(&self) -> Moment {
        Moment(self.0.load(Ordering::SeqCst))
    }

    pub(crate) fn set(&self, moment: Moment) {
        self.0.store(moment.0, Ordering::Relaxed);
    }

    /// Sets it if it is unset; true if it was.
    pub(crate) fn begin(&self, moment: Moment) -> bool {
        let unset = self.0.load(Ordering::Relaxed) == 0;
        if unset {
            // Ordered with the flag that says that somebody watches it.
            self.0.store(moment.0, Ordering::SeqCst);
        }
        unset
    }

    /// Unsets it, without a write if it is so already.
    pub(crate) fn end(&self) {
        if self.0.load(Ordering::Relaxed) != 0 {
            self.0.store(0, Ordering::Relaxed);
        }
    }
}

fn millis(time: Duration) -> u64 {
    time.as_secs().saturating_mul(1000).saturating_add(u64::from(time.subsec_millis()))
}
