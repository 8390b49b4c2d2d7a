//! Where a peer is looked for while it does not answer: wherever it may be, at once.
//!
//! ```text
//!              each initiation goes to all its places
//!   ┌─────────┐ ── an answer from one of them, or data from anywhere ─▶ ┌───────┐
//!   │ seeking │                                                         │ found │
//!   └─────────┘ ◀── silent, an initiation unanswered, other places ──── └───────┘
//! ```
//! Two ends behind NATs that let in only whom they sent to meet so: each of them sends to where the
//! other is seen, and whichever is second gets through. A few attempts follow each other quickly, for
//! the other end is told of us when we are told of it; then the pace is that of any handshake.

use std::{net::SocketAddr, time::Duration};

use crate::PeerConfig;

/// Attempts that follow each other quickly, and after how long.
const QUICK: u8 = 5;
const SOON: Duration = Duration::from_secs(1);

/// Whether a peer is looked for.
#[derive(Debug)]
pub(crate) struct Seek {
    on: bool,
    quick: u8,
}

impl Seek {
    /// There are places to look at.
    pub(crate) fn new() -> Self {
        Self { on: true, quick: QUICK }
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

    /// How long an answer is waited for, which takes `usual` where there is one place.
    pub(crate) fn patience(&mut self, places: usize, usual: Duration) -> Duration {
        if !self.on || places < 2 || self.quick == 0 {
            return usual;
        }
        self.quick -= 1;
        SOON
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
    fn a_few_attempts_follow_each_other_quickly() {
        let usual = Duration::from_secs(5);
        let mut seek = Seek::new();
        assert_eq!(seek.patience(1, usual), usual);
        let quick = (0..20).filter(|_| seek.patience(2, usual) == SOON).count();
        assert_eq!(quick, usize::from(QUICK));
        seek.end();
        seek.doubt();
        assert_eq!(seek.patience(2, usual), usual);
    }
}
