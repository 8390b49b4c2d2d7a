//! Where a peer is looked for while it does not answer: wherever it may be, at once.
//!
//! ```text
//!              each initiation goes to all its places
//!   ┌─────────┐ ── an answer from one of them, or data from anywhere ─▶ ┌───────┐
//!   │ seeking │                                                         │ found │
//!   └─────────┘ ◀── silent, an initiation unanswered, other places ──── └───────┘
//! ```
//! Two ends behind NATs that let in only whom they sent to meet so: each of them sends to where the
//! other is seen, and whichever is second gets through. The other end is told of us when we are told of
//! it, give or take some seconds, so calls follow each other quickly at first:
//!
//! ```text
//!   0 s   every 250 ms   3 s   every second   15 s   every 5 s, as WireGuard has it
//! ```
//! A call within a second of an initiation is the same bytes again: it costs no computation, and an
//! answer that takes long is still an answer. All calls that WireGuard would not make come out of one
//! [`Budget`], whoever they are to. Machines that are not of the mesh are called as WireGuard does.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use crate::{
    PeerConfig,
    limiter::{Bucket, Rate},
};

/// So many calls at first, and between two of them.
const FIRST: u8 = 12;
const AT_ONCE: Duration = Duration::from_millis(250);
/// So many after those, and while packets wait.
const NEXT: u8 = 12;
pub(crate) const SOON: Duration = Duration::from_secs(1);
/// A second, and at once. It takes 100 µs of a core to make an initiation, or to refuse a stranger's.
const CALLS: Rate = Rate { per_second: 50.0, burst: 100.0 };

/// Whether a peer is looked for.
#[derive(Debug)]
pub(crate) struct Seek {
    on: bool,
    /// Calls to come that follow each other quickly.
    quick: u8,
}

/// For calls that are made sooner than WireGuard would.
#[derive(Debug)]
pub(crate) struct Budget(Bucket);

impl Budget {
    pub(crate) fn new(now: Instant) -> Self {
        Self(Bucket::full(CALLS, now))
    }

    pub(crate) fn take(&mut self, now: Instant) -> bool {
        self.0.take(CALLS, now)
    }
}

impl Seek {
    /// There are places to look at. `ours`: it is a node of the mesh.
    pub(crate) fn new(ours: bool) -> Self {
        Self { on: true, quick: if ours { FIRST + NEXT } else { 0 } }
    }

    /// It may be anywhere.
    pub(crate) fn doubt(&mut self) {
        self.on = true;
    }

    /// It answers.
    pub(crate) fn end(&mut self) {
        *self = Self { on: false, quick: 0 };
    }

    pub(crate) fn is_on(&self) -> bool {
        self.on
    }

    /// How long an answer is waited for, which takes `usual` by itself. `wanted`: packets wait for it.
    pub(crate) fn patience(&mut self, wanted: bool, usual: Duration) -> Duration {
        let left = self.quick;
        self.quick = left.saturating_sub(1);
        match left {
            0 if wanted => SOON,
            0 => usual,
            1..=NEXT => SOON,
            _ => AT_ONCE,
        }
    }
}

impl PeerConfig {
    /// Wherever it may be, the likeliest first.
    pub(crate) fn places(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.endpoint.into_iter().chain(self.others.iter().copied())
    }

    /// Where to speak to it from now on, if that changes with its configuration. It speaks from `at`
    /// and had `before`. What was learned of a peer that is heard stays, where its new places are only
    /// places that it may be at.
    pub(crate) fn moves(
        &self,
        before: &Self,
        at: Option<SocketAddr>,
        heard: bool,
    ) -> Option<SocketAddr> {
        let to = self.endpoint.filter(|_| self.endpoint != before.endpoint)?;
        let told = |config: &Self| config.places().any(|place| Some(place) == at);
        let learned = !self.others.is_empty() && (told(self) || !told(before));
        (!heard || !learned).then_some(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::tests::peer;

    fn at(number: u16) -> SocketAddr {
        ([192, 0, 2, 1], number).into()
    }

    #[test]
    fn what_was_learned_of_a_peer_that_is_heard_stays_among_places_that_it_may_be_at() {
        let of = |endpoint: u16, others: &[u16]| PeerConfig {
            endpoint: Some(at(endpoint)),
            others: others.iter().map(|number| at(*number)).collect(),
            ..peer(2, &[(1, 2)])
        };
        for (before, after, now, heard, moves) in [
            // One place is where it is.
            (of(1, &[]), of(2, &[]), 9, true, true),
            (of(1, &[]), of(1, &[]), 9, true, false),
            // Several are where it may be.
            (of(1, &[3]), of(2, &[3]), 9, true, false),
            (of(1, &[3]), of(2, &[3]), 3, true, false),
            (of(1, &[3]), of(2, &[3]), 1, true, true),
            (of(1, &[3]), of(2, &[3]), 9, false, true),
            (of(1, &[3]), of(1, &[4]), 9, false, false),
        ] {
            let to = after.moves(&before, Some(at(now)), heard);
            assert_eq!(to.is_some(), moves, "{before:?} {after:?} {now} {heard}");
        }
    }

    #[test]
    fn calls_follow_each_other_quickly_and_then_as_wireguard_has_it() {
        let usual = Duration::from_secs(5);
        let waits = |seek: &mut Seek, wanted| {
            (0..30).map(|_| seek.patience(wanted, usual).as_millis()).collect::<Vec<_>>()
        };
        let quick = [vec![250; 12], vec![1000; 12]].concat();

        let mut seek = Seek::new(true);
        assert_eq!(waits(&mut seek, false), [quick.clone(), vec![5000; 6]].concat());
        assert_eq!(waits(&mut Seek::new(true), true), [quick, vec![1000; 6]].concat());
        assert_eq!(waits(&mut Seek::new(false), false), vec![5000; 30]);
        seek.end();
        seek.doubt();
        assert_eq!(seek.patience(false, usual), usual);
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "a moment to count from")]
    fn a_thousand_that_are_looked_for_share_what_is_for_one() {
        let now = Instant::now();
        let mut budget = Budget::new(now);

        let taken = |budget: &mut Budget, after| {
            (0..1000).filter(|_| budget.take(now + Duration::from_millis(after))).count()
        };

        let at_once = taken(&mut budget, 0);
        let later: usize = (1..=12).map(|tick| taken(&mut budget, tick * 250)).sum();
        assert_eq!((at_once, later), (100, 150));
    }
}
