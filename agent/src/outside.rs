//! Where others see this node: what peers say in the tunnel, boiled down to what is worth telling all.
//! Pure: no clock, no socket.
//!
//! ```text
//!   peers ── "you come from 198.51.100.7:40001" ──▶ said ──▶ verdict ── it holds ──▶ told ──▶ the API
//!                                                   │ own addresses: no NAT
//!                                                   │ one for most: others can call there
//!                                                   └ each another: symmetric, no use to anybody
//! ```
//! What the API holds may not follow each change: the first verdict is told at once, another only after
//! it has held for a while, and longer if that happens often.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
    net::SocketAddr,
    time::Duration,
};

use tokio::time::Instant;

/// So many peers are asked.
const WITNESSES: usize = 4;
/// Between two questions to one that answered, where there is a NAT, which may map anew at any time, and
/// where there is none; and to one that did not answer yet.
const EVERY: Duration = Duration::from_secs(10);
const RARELY: Duration = Duration::from_secs(300);
const AGAIN: Duration = Duration::from_secs(1);
/// What was said so many questions ago says nothing.
const FRESH: u32 = 3;
/// The first verdict waits for other witnesses; a later one for doubts to settle.
const GATHER: Duration = Duration::from_millis(300);
const HOLD: Duration = Duration::from_secs(12);
/// So often the time to hold is doubled, at most; forgotten after so long in peace.
const DOUBLINGS: u32 = 7;
const PEACE: Duration = Duration::from_secs(1200);

/// How a NAT before this node maps (RFC 4787).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nat {
    None,
    /// There is one; a single witness cannot tell of which kind.
    Present,
    EndpointIndependent,
    Symmetric,
}

impl Nat {
    /// As the API says it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => api::NO_NAT,
            Self::Present => "present",
            Self::EndpointIndependent => "endpoint-independent",
            Self::Symmetric => "symmetric",
        }
    }
}

/// What is told to all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) nat: Option<Nat>,
    /// Where others may call, one a family.
    pub(crate) endpoints: Vec<SocketAddr>,
}

/// What peers said of one node.
#[derive(Debug)]
pub(crate) struct Outside {
    /// By chance: an answer to another question is none.
    number: u64,
    asked: BTreeMap<String, Instant>,
    said: BTreeMap<String, (SocketAddr, Instant)>,
    /// Where this node's interfaces are reached.
    own: Vec<SocketAddr>,
    told: Seen,
    /// What would be told, and since when.
    verdict: (Seen, Instant),
    changes: u32,
    changed: Instant,
}

impl Outside {
    pub(crate) fn new(number: u64, now: Instant) -> Self {
        Self {
            number,
            asked: BTreeMap::new(),
            said: BTreeMap::new(),
            own: Vec::new(),
            told: Seen::default(),
            verdict: (Seen::default(), now),
            changes: 0,
            changed: now,
        }
    }

    /// The number of all questions.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Whom to ask now, of those that there are sessions with. The same few are asked each time.
    pub(crate) fn ask(&mut self, up: &BTreeSet<String>, now: Instant) -> Vec<String> {
        self.asked.retain(|peer, _| up.contains(peer));
        let room = WITNESSES.saturating_sub(self.asked.len());
        let mut new: Vec<&String> =
            up.iter().filter(|peer| room > 0 && !self.asked.contains_key(*peer)).collect();
        // Each node has others, or the first four of a large mesh would be asked by all.
        new.sort_by_cached_key(|peer| lot(self.number, peer));
        let new: Vec<String> = new.into_iter().take(room).cloned().collect();
        let (mut due, every): (Vec<String>, _) = (Vec::new(), self.every());
        for (peer, asked) in &self.asked {
            let wait = if self.said.contains_key(peer) { every } else { AGAIN };
            due.extend((now >= *asked + wait).then(|| peer.clone()));
        }
        due.extend(new);
        self.asked.extend(due.iter().map(|peer| (peer.clone(), now)));
        due
    }

    /// A peer says where it sees this node. Only who was asked can.
    pub(crate) fn hear(&mut self, peer: &str, number: u64, at: SocketAddr, now: Instant) {
        if number == self.number && self.asked.contains_key(peer) {
            self.said.insert(peer.to_owned(), (at, now));
        }
    }

    /// Where this node's interfaces are reached. If that changes, all are asked anew.
    pub(crate) fn is_at(&mut self, own: Vec<SocketAddr>) {
        if self.own != own {
            self.own = own;
            self.asked.clear();
            self.said.clear();
        }
    }

    /// What to tell.
    pub(crate) fn tell(&mut self, now: Instant) -> &Seen {
        let fresh = self.every() * FRESH + EVERY / 2;
        self.said.retain(|_, (_, at)| now < *at + fresh);
        if !self.said.is_empty() {
            let verdict = judge(self.said.values().map(|(at, _)| *at), &self.own);
            if verdict != self.verdict.0 {
                self.verdict = (verdict, now);
            }
        }
        if now >= self.changed + PEACE {
            self.changes = 0;
        }
        if self.verdict.0 != self.told && now >= self.verdict.1 + self.hold() {
            self.told = self.verdict.0.clone();
            self.changes = (self.changes + 1).min(DOUBLINGS);
            self.changed = now;
        }
        &self.told
    }

    /// When to look again, if a verdict waits to be told.
    pub(crate) fn due(&self) -> Option<Instant> {
        (self.verdict.0 != self.told).then(|| self.verdict.1 + self.hold())
    }

    /// Between two questions to one that answered.
    fn every(&self) -> Duration {
        let none = |seen: &Seen| seen.nat == Some(Nat::None);
        if none(&self.told) && none(&self.verdict.0) { RARELY } else { EVERY }
    }

    fn hold(&self) -> Duration {
        match self.changes {
            0 => GATHER,
            changes => HOLD * 2_u32.pow(changes - 1),
        }
    }
}

fn judge(said: impl Iterator<Item = SocketAddr>, own: &[SocketAddr]) -> Seen {
    let foreign: Vec<SocketAddr> = said.filter(|at| !own.contains(at)).collect();
    let (mut nat, mut endpoints) = (None, Vec::new());
    for v4 in [true, false] {
        let of_family = foreign.iter().filter(|at| at.is_ipv4() == v4).copied();
        let Some((kind, endpoint)) = vote(of_family) else {
            continue;
        };
        endpoints.extend(endpoint);
        nat = nat.or(Some(kind));
    }
    Seen { nat: nat.or(Some(Nat::None)), endpoints }
}

/// What most say, so that one of three or more who lies changes nothing; none if nobody says anything.
fn vote(said: impl Iterator<Item = SocketAddr>) -> Option<(Nat, Option<SocketAddr>)> {
    let mut votes: BTreeMap<SocketAddr, usize> = BTreeMap::new();
    said.for_each(|at| *votes.entry(at).or_default() += 1);
    let all: usize = votes.values().sum();
    let (at, most) = votes.into_iter().max_by_key(|(_, votes)| *votes)?;
    Some(match most {
        1 if all == 1 => (Nat::Present, Some(at)),
        _ if most * 2 > all => (Nat::EndpointIndependent, Some(at)),
        _ => (Nat::Symmetric, None),
    })
}

fn lot(number: u64, peer: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (number, peer).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests;
