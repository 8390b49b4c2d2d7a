//! Which handshake messages go by relays too. Pure: no clock.
//!
//! ```text
//!   no session, or relayed ──▶ each
//!   a session              ──▶ from the second initiation on, if nothing was heard after the first
//! ```
//! So a pair that is well costs its relays nothing when it renews its session.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crypto::Signs;

/// Initiations of one attempt follow each other within so long.
const ATTEMPT: Duration = Duration::from_secs(20);
/// So many peers are remembered before those are forgotten whose attempt is over.
const KEPT: usize = 1024;
/// Type, and the sender's index, which each initiation and each response has a new one of.
const NAMED: usize = 8;
const INITIATION: u8 = 1;

/// By what each peer is called: the last message, and the last initiation's time.
#[derive(Debug, Default)]
pub(super) struct Copies(BTreeMap<u64, Asked>);

#[derive(Debug, Default)]
struct Asked {
    last: [u8; NAMED],
    at: Option<Instant>,
}

impl Copies {
    /// True if that message to that peer goes by its relays too. The same message to another of its
    /// places does not again.
    pub(super) fn wants(
        &mut self,
        (id, message): (u64, &[u8]),
        (signs, relayed): (Signs, bool),
        now: Instant,
    ) -> bool {
        let Some(named) = message.first_chunk::<NAMED>() else { return false };
        if self.0.len() >= KEPT {
            self.0.retain(|_, asked| asked.at.is_some_and(|at| now < at + ATTEMPT));
        }
        let asked = self.0.entry(id).or_default();
        if asked.last == *named {
            return false;
        }
        asked.last = *named;
        let before = asked.at.filter(|at| now < *at + ATTEMPT);
        if named[0] == INITIATION {
            asked.at = Some(now);
        }
        let in_vain = before.is_some_and(|at| signs.heard.is_none_or(|heard| heard < at));
        !signs.session || relayed || in_vain
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, index: u8) -> Vec<u8> {
        vec![kind, 0, 0, 0, index, 0, 0, 0, 9]
    }

    #[test]
    fn a_pair_that_is_well_costs_its_relays_nothing() {
        let (mut copies, start) = (Copies::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let heard = |seconds| Signs { session: true, heard: Some(at(seconds)), unanswered: None };
        let mut wants = |kind, index, signs, seconds| {
            copies.wants((7, &message(kind, index)), (signs, false), at(seconds))
        };

        assert!(wants(1, 1, Signs::default(), 0), "there is no session");
        assert!(!wants(1, 1, Signs::default(), 0), "the same to another place");
        assert!(wants(2, 2, Signs::default(), 0), "a response");
        assert!(!wants(1, 3, heard(10), 120), "the session is renewed");
        assert!(!wants(2, 4, heard(120), 120));
        assert!(!wants(1, 5, heard(121), 125), "it was heard meanwhile");
        assert!(wants(1, 6, heard(121), 130), "and now it is not");
        assert!(wants(1, 7, heard(121), 135));
        assert!(!wants(1, 8, heard(121), 300), "another attempt");
    }

    #[test]
    fn a_relayed_one_is_called_every_way() {
        let (mut copies, now) = (Copies::default(), Instant::now());
        let signs = Signs { session: true, heard: Some(now), unanswered: None };
        for index in 0..3 {
            assert!(copies.wants((7, &message(1, index)), (signs, true), now));
        }
        assert!(!copies.wants((7, &[1, 2]), (signs, true), now), "no handshake");
    }
}
