//! What a rotation of keys costs, as this node sees it: small packets through the tunnels to other
//! nodes, counted as answered or lost. Pure: no clock, no socket.
//!
//! ```text
//! rotation ─▶ Survey ─ tick(now) ─▶ Ask {to, number} ─▶ sockets.rs ─▶ tunnel ─▶ a peer's agent
//!                ▲                                                                  │
//!                ├── answered(number, from, now) ◀──────────────────────────────────┘
//!                └──▶ Counted ─▶ MeshNode.status.probes ─▶ controller: the sum over all nodes
//! ```
//! What counts: a probe is lost if two seconds bring no answer. It is counted if its peer is live,
//! that is if it has answered in the last fifteen seconds; so a node that was away before counts
//! from its first answer on, and one that goes away for good stops counting soon. Probes run while
//! the rotation moves: one that has waited in one place for two minutes has nothing to lose.

mod follow;
mod message;
mod sockets;

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
    net::IpAddr,
    time::Duration,
};

use api::Probes;
use tokio::time::Instant;

pub(crate) use self::follow::Prober;
use crate::rotation::Rotation;

/// Each peer gets one so often, its addresses by turns ...
const EVERY: Duration = Duration::from_secs(1);
/// ... up to so many nodes, and in a mesh of n times as many every n seconds: more nodes send more.
const NODES: usize = 20;
const LONGEST: Duration = Duration::from_secs(5);
/// Later answers are none.
const IN_TIME: Duration = Duration::from_secs(2);
/// So long after its last answer a peer is still taken to be there.
const LIVE: Duration = Duration::from_secs(15);
/// So long after its last step a rotation still moves.
const MOVES: Duration = Duration::from_secs(120);
/// So many peers are probed at most, others in each rotation: of 1000 nodes, 10,000 pairs.
const PEERS: usize = 10;

/// Other nodes, and what they are called by inside the tunnel.
pub(crate) type Peers = BTreeMap<String, Vec<IpAddr>>;

/// The probes of one rotation.
#[derive(Debug)]
pub(crate) struct Survey {
    /// As it was last told of; none once it is over.
    rotation: Option<Rotation>,
    moved: Instant,
    counts: Probes,
    targets: Vec<(String, Vec<IpAddr>)>,
    every: Duration,
    turn: usize,
    due: Instant,
    number: u64,
    dice: u64,
    open: BTreeMap<u64, Open>,
    answered: BTreeMap<String, Instant>,
}

/// A probe without an answer yet.
#[derive(Debug)]
struct Open {
    peer: String,
    to: IpAddr,
    sent: Instant,
    /// The peer was live when it was sent.
    counts: bool,
}

/// A probe to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ask {
    pub(crate) to: IpAddr,
    pub(crate) number: u64,
}

/// What there is to say of a rotation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) probes: Probes,
    /// Nothing more is on its way.
    pub(crate) ended: bool,
}

impl Survey {
    /// Goes on from what an earlier run of this agent has published. `number`, by chance, says who
    /// is probed and what the probes are called, so that answers to others are not taken for theirs.
    pub(crate) fn begin(
        rotation: &Rotation,
        published: Option<&Probes>,
        number: u64,
        now: Instant,
    ) -> Self {
        let uid = &rotation.uid;
        let none = Probes { rotation: uid.clone(), sent: 0, lost: 0 };
        Self {
            rotation: Some(rotation.clone()),
            moved: now,
            counts: published.filter(|probes| probes.rotation == *uid).cloned().unwrap_or(none),
            targets: Vec::new(),
            every: EVERY,
            turn: 0,
            due: now,
            number: number >> 1,
            dice: number,
            open: BTreeMap::new(),
            answered: BTreeMap::new(),
        }
    }

    pub(crate) fn is_of(&self, rotation: &Rotation) -> bool {
        self.counts.rotation == rotation.uid
    }

    /// Hears where the rotation stands; none: it is over.
    pub(crate) fn sees(&mut self, rotation: Option<&Rotation>, now: Instant) {
        if self.rotation.as_ref() != rotation {
            self.rotation = rotation.cloned();
            self.moved = now;
        }
    }

    /// Hears who is in the mesh. Who is not any more leaves no probe behind.
    pub(crate) fn meets(&mut self, peers: &Peers) {
        let dice = |name: &String| {
            let mut hasher = DefaultHasher::new();
            (self.dice, name).hash(&mut hasher);
            hasher.finish()
        };
        let mut names: Vec<&String> =
            peers.keys().filter(|name| !peers[*name].is_empty()).collect();
        self.every = every(names.len() + 1);
        if names.len() > PEERS {
            names.sort_by_key(|name| dice(name));
            names.truncate(PEERS);
        }
        let known: BTreeSet<&String> = names.iter().copied().collect();
        self.open.retain(|_, open| known.contains(&open.peer));
        self.answered.retain(|name, _| known.contains(name));
        self.targets = names.into_iter().map(|name| (name.clone(), peers[name].clone())).collect();
    }

    /// Gives up what is too late, and says what to send now.
    pub(crate) fn tick(&mut self, now: Instant) -> Option<Ask> {
        while let Some(oldest) = self.open.first_entry()
            && now >= oldest.get().sent + IN_TIME
        {
            let given_up = oldest.remove();
            self.count(given_up.counts, true);
        }
        if !self.moves(now) || now < self.due {
            return None;
        }
        let all = self.targets.len();
        let (peer, addresses) = self.targets.get(self.turn % all.max(1))?.clone();
        let to = addresses[(self.turn / all) % addresses.len()];
        self.turn += 1;
        let next = self.due + self.pace();
        self.due = if next > now { next } else { now + self.pace() };
        self.number += 1;
        let live = self.answered.get(&peer).is_some_and(|last| now < *last + LIVE);
        self.open.insert(self.number, Open { peer, to, sent: now, counts: live });
        Some(Ask { to, number: self.number })
    }

    /// An answer came. Only the one who was asked can give it, and once.
    pub(crate) fn answered(&mut self, number: u64, from: IpAddr, now: Instant) {
        let Some(open) = self.open.get(&number).filter(|open| open.to == from) else {
            return;
        };
        if now >= open.sent + IN_TIME {
            return;
        }
        let open = self.open.remove(&number);
        self.count(true, false);
        self.answered.extend(open.map(|open| (open.peer, now)));
    }

    /// When to tick again, even if nothing comes.
    pub(crate) fn next_wake(&self, now: Instant) -> Option<Instant> {
        let send = (self.moves(now) && !self.targets.is_empty()).then_some(self.due);
        let give_up = self.open.first_key_value().map(|(_, open)| open.sent + IN_TIME);
        send.into_iter().chain(give_up).min()
    }

    pub(crate) fn counted(&self, now: Instant) -> Counted {
        Counted { probes: self.counts.clone(), ended: !self.moves(now) && self.open.is_empty() }
    }

    fn moves(&self, now: Instant) -> bool {
        self.rotation.is_some() && now < self.moved + MOVES
    }

    fn pace(&self) -> Duration {
        self.every / u32::try_from(self.targets.len()).unwrap_or(u32::MAX).max(1)
    }

    fn count(&mut self, counts: bool, lost: bool) {
        if counts && self.counts.sent < Probes::MOST {
            self.counts.sent += 1;
            self.counts.lost += u64::from(lost);
        }
    }
}

/// Between two probes of one pair, in a mesh of that many nodes.
fn every(nodes: usize) -> Duration {
    let times = u32::try_from(nodes / NODES).unwrap_or(u32::MAX).max(1);
    EVERY.saturating_mul(times).min(LONGEST)
}

#[cfg(test)]
mod tests;
