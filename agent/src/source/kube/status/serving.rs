//! Which plain peers came to this node last, for the status: a peer says which of its entries it
//! speaks to by speaking. One that moves again before an entry has heard of its last move is found
//! with its next packet, at the latest its keepalive.

use std::{collections::BTreeMap, time::Instant};

use api::Served;

/// What was known of a peer when the turn to beat was heard.
#[derive(Debug)]
struct Seen {
    others_turn: i64,
    /// From before the peer went elsewhere, so it does not call it back.
    heard: Option<Instant>,
}

/// As many as the schema takes.
const MOST: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Serving(BTreeMap<String, Seen>);

impl Serving {
    /// What the status should say. `entry_for`: the peers that this node is an entry of, with the
    /// highest turn of their other entries; `heard`: when something authentic last came from each.
    pub(super) fn look(
        &mut self,
        entry_for: &BTreeMap<String, i64>,
        heard: &BTreeMap<String, Instant>,
        before: &[Served],
    ) -> Vec<Served> {
        self.0.retain(|peer, _| entry_for.contains_key(peer));
        let mut served = Vec::new();
        for (peer, others) in entry_for {
            let last = heard.get(peer).copied();
            let own = before.iter().find(|one| one.peer == *peer).map_or(0, |one| one.turn);
            let new = self.is_new(peer, *others, last);
            let turn = if new && own <= *others { others.max(&own).saturating_add(1) } else { own };
            if turn > 0 {
                served.push(Served { peer: peer.clone(), turn });
            }
        }
        served.truncate(MOST);
        served
    }

    /// True if the peer spoke here since another entry last had it.
    fn is_new(&mut self, peer: &str, others_turn: i64, heard: Option<Instant>) -> bool {
        let fresh = Seen { others_turn, heard: None };
        let seen = self.0.entry(peer.to_owned()).or_insert(fresh);
        if seen.others_turn != others_turn {
            *seen = Seen { others_turn, heard };
        }
        heard.is_some() && heard != seen.heard
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// One entry: what it remembers, and its status.
    struct Entry(Serving, Vec<Served>, Instant);

    impl Default for Entry {
        fn default() -> Self {
            Self(Serving::default(), Vec::new(), Instant::now())
        }
    }

    impl Entry {
        /// The turn it has after a look. `heard`: in seconds; 0: never.
        fn look(&mut self, others: i64, heard: u64) -> i64 {
            let entry_for = [("laptop".to_owned(), others)].into();
            let at = self.2 + Duration::from_secs(heard);
            let heard = (heard > 0).then(|| ("laptop".to_owned(), at)).into_iter().collect();
            self.1 = self.0.look(&entry_for, &heard, &self.1);
            self.1.first().map_or(0, |served| served.turn)
        }
    }

    #[test]
    fn a_peer_that_calls_is_served_and_one_that_does_not_is_not() {
        let mut a = Entry::default();

        assert_eq!(a.look(0, 0), 0);
        assert_eq!(a.look(0, 10), 1);
        assert_eq!(a.look(0, 130), 1, "more changes nothing");
    }

    #[test]
    fn it_goes_from_one_entry_to_the_other_and_back_whatever_their_clocks_say() {
        let (mut a, mut b) = (Entry::default(), Entry::default());
        assert_eq!(a.look(0, 1000), 1);
        assert_eq!(a.look(0, 1120), 1);

        // b's clock is far behind.
        assert_eq!(b.look(1, 5), 2);
        // a's old session is still there.
        assert_eq!(a.look(2, 1120), 1);
        assert_eq!(a.look(2, 1120), 1);

        assert_eq!(a.look(2, 1200), 3);
        assert_eq!(b.look(3, 5), 2);
    }

    #[test]
    fn a_packet_of_a_moment_before_it_left_does_not_call_it_back() {
        let mut a = Entry::default();
        a.look(0, 1000);

        // The packet and the other's turn are seen in one look.
        assert_eq!(a.look(2, 1120), 1);
        assert_eq!(a.look(2, 1145), 3, "it is here after all");
    }

    #[test]
    fn an_agent_that_starts_again_keeps_its_turn() {
        let mut a = Entry::default();
        a.look(4, 1000);
        let mut again = Entry(Serving::default(), a.1.clone(), Instant::now());

        assert_eq!(again.look(4, 0), 5);
        assert_eq!(again.look(4, 2000), 5);
    }

    #[test]
    fn a_peer_that_is_gone_leaves_the_status() {
        let mut a = Entry::default();
        a.look(0, 1000);

        assert_eq!(a.0.look(&BTreeMap::new(), &BTreeMap::new(), &a.1), []);
    }
}
