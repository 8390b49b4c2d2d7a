//! Which carrier of the Mesh's list each pair uses, from what answers: left soon after it falls
//! silent, gone back to after it has answered for long. Pure: no clock, no socket.
//!
//! ```text
//!            in use silent for 3 s, another answers
//!   ┌───────┐ ───────────────────────────────────▶ ┌────────────┐
//!   │ first │                                      │ a fallback │
//!   └───────┘ ◀─────────────────────────────────── └────────────┘
//!            answers without a break for `hold`; doubled after each relapse
//! ```
//! Each end decides for what it sends, and takes from the other whatever any carrier of the list
//! brings. An answer comes back by the carrier that asked, so a way that is blocked in one direction
//! is silent at both ends, and both leave it. Where nothing answers (the other agent is down, while
//! the kernel's carriers carry on) nothing changes: there is no better way.

mod gateways;
pub(crate) mod kept;
mod message;
mod sockets;
mod watch;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use tokio::time::Instant;

pub(crate) use self::watch::{Chosen, Watch};
use crate::plan::Way;

/// Between two probes by one that waits.
const WAITING: Duration = Duration::from_secs(3);
/// The same by one that is better than a relay in use: two nodes are told of each other's places at times
/// that nobody else can know.
const SEARCHING: Duration = Duration::from_secs(1);
/// Between two by all of them, while the one in use is silent.
const ALARMED: Duration = Duration::from_millis(400);
/// An answer so old still says that a carrier works now.
const FRESH: Duration = Duration::from_secs(2);
/// Of a pair without relays, and of one that has some.
const USUAL: Pace = Pace {
    every: Duration::from_secs(1),
    silent: Duration::from_millis(1500),
    failed: Duration::from_secs(3),
    settled: Duration::from_secs(1),
    swift: false,
};
const SWIFT: Pace = Pace {
    every: Duration::from_millis(400),
    silent: Duration::from_millis(700),
    failed: Duration::from_millis(1200),
    settled: Duration::from_millis(300),
    swift: true,
};
/// Of more pairs than that, none is asked so often.
const SWIFT_PAIRS: usize = 100;
/// After so long without an answer the count of a carrier's health begins anew: two probes lost.
const BREAK: Duration = Duration::from_secs(7);
/// Later answers are none.
const IN_TIME: Duration = Duration::from_secs(2);
/// So often the time of health that is asked for is doubled, at most.
const DOUBLINGS: u32 = 5;

/// What may carry to each node, best first, and the addresses of the node to ask by each.
pub(crate) type Ways = BTreeMap<String, (Vec<Way>, Vec<IpAddr>)>;

/// Who does not answer datagrams, and since when it was asked in vain.
pub(crate) type Mute = BTreeMap<String, Instant>;

#[derive(Debug)]
struct Pace {
    /// Between two probes by the carrier in use.
    every: Duration,
    /// From the last answer until the others are asked too.
    silent: Duration,
    /// From the last answer until the carrier in use counts as failed.
    failed: Duration,
    /// So long must another have answered before it stands in: at a start, all begin to answer within
    /// a moment, and the best of them is to be used.
    settled: Duration,
    /// A relay may serve meanwhile.
    swift: bool,
}

/// A probe to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ask {
    pub(crate) to: IpAddr,
    pub(crate) by: Way,
    pub(crate) number: u64,
}

/// All pairs of this node that have a choice.
#[derive(Debug)]
pub(crate) struct Failover {
    pairs: BTreeMap<String, Pair>,
    /// Probes without an answer yet.
    open: BTreeMap<u64, Open>,
    number: u64,
    /// What an earlier run used last to those that were not met yet.
    last: Chosen,
}

#[derive(Debug)]
struct Open {
    peer: String,
    ask: Ask,
    sent: Instant,
}

#[derive(Debug)]
struct Pair {
    lines: Vec<Line>,
    addresses: Vec<IpAddr>,
    /// The place of the one in use, and since when it is.
    used: usize,
    since: Instant,
    /// It had failed before, and was gone back to.
    returned: bool,
}

#[derive(Debug)]
struct Line {
    way: Way,
    /// When each of the peer's addresses last answered.
    heard: BTreeMap<IpAddr, Instant>,
    asked: Option<Instant>,
    /// When it was first asked since it last answered.
    mute: Option<Instant>,
    /// Since when it answers without a break.
    healthy: Option<Instant>,
    relapses: u32,
    /// It has answered, and it was left after that.
    proven: bool,
    left: bool,
}

impl Failover {
    /// `number`, by chance, is what the first probe is called: answers to an earlier run are nobody's.
    pub(crate) fn new(number: u64, last: Chosen) -> Self {
        Self { pairs: BTreeMap::new(), open: BTreeMap::new(), number: number >> 1, last }
    }

    /// Hears what may carry. A pair whose ways stay the same goes on as it is.
    pub(crate) fn meets(&mut self, ways: &Ways, now: Instant) {
        self.pairs.retain(|name, _| ways.contains_key(name));
        for (name, (listed, addresses)) in ways {
            let old = self.pairs.get(name);
            if old.is_some_and(|pair| pair.is_of(listed, addresses)) {
                continue;
            }
            let used = old.map(|pair| pair.lines[pair.used].way);
            let last = self.last.remove(name).or(used);
            self.pairs.insert(name.clone(), Pair::new((listed, last), addresses, now));
        }
        let known: BTreeSet<&String> = self.pairs.keys().collect();
        self.open.retain(|_, open| known.contains(&open.peer));
    }

    /// Decides anew, and says what to ask. `hold`: for how long one that failed must answer.
    pub(crate) fn tick(&mut self, hold: Duration, now: Instant) -> Vec<Ask> {
        self.open.retain(|_, open| now < open.sent + IN_TIME);
        let mut asks = Vec::new();
        let few = self.pairs.len() <= SWIFT_PAIRS;
        for (peer, pair) in &mut self.pairs {
            let pace = pair.pace(few);
            pair.decide(hold, pace, now);
            for (to, by) in pair.due(pace, now) {
                self.number += 1;
                let ask = Ask { to, by, number: self.number };
                self.open.insert(ask.number, Open { peer: peer.clone(), ask, sent: now });
                asks.push(ask);
            }
        }
        asks
    }

    /// An answer came by a carrier. Only who was asked by it can give it, and once.
    pub(crate) fn answered(&mut self, answer: Ask, now: Instant) {
        let Some(open) = self.open.get(&answer.number).filter(|open| open.ask == answer) else {
            return;
        };
        let (in_time, pair) = (now < open.sent + IN_TIME, self.pairs.get_mut(&open.peer));
        let line = pair.and_then(|pair| pair.lines.iter_mut().find(|line| line.way == answer.by));
        if let Some(line) = line.filter(|_| in_time) {
            line.heard.insert(answer.to, now);
            line.mute = None;
            line.proven = true;
        }
        self.open.remove(&answer.number);
    }

    /// True if this carrier may carry to the node of this address.
    pub(crate) fn may(&self, by: Way, to: IpAddr) -> bool {
        let mut of = self.pairs.values().filter(|pair| pair.addresses.contains(&to));
        of.any(|pair| pair.lines.iter().any(|line| line.way == by))
    }

    /// Those that were not met yet included.
    pub(crate) fn chosen(&self) -> Chosen {
        let used = |pair: &Pair| pair.lines[pair.used].way;
        let pairs = self.pairs.iter().map(|(name, pair)| (name.clone(), used(pair)));
        self.last.clone().into_iter().chain(pairs).collect()
    }

    /// Those that do not answer datagrams, since when: neither plain ones nor in the shape of VXLAN.
    pub(crate) fn mute(&self) -> Mute {
        let mute = |(name, pair): (&String, &Pair)| Some((name.clone(), pair.mute()?));
        self.pairs.iter().filter_map(mute).collect()
    }

    /// The same without those that use their best.
    pub(crate) fn detours(&self) -> Chosen {
        let best = |name: &String| self.pairs.get(name).is_some_and(|pair| pair.used == 0);
        self.chosen().into_iter().filter(|(name, _)| !best(name)).collect()
    }
}

impl Pair {
    /// It begins with the last one, if that may still carry.
    fn new((ways, last): (&[Way], Option<Way>), addresses: &[IpAddr], now: Instant) -> Self {
        let line = |way: &Way| Line {
            way: *way,
            heard: BTreeMap::new(),
            asked: None,
            mute: None,
            healthy: None,
            relapses: 0,
            proven: false,
            left: false,
        };
        Self {
            lines: ways.iter().map(line).collect(),
            addresses: addresses.to_vec(),
            used: last.map_or(0, |last| last.place_among(ways)),
            since: now,
            returned: false,
        }
    }

    fn is_of(&self, ways: &[Way], addresses: &[IpAddr]) -> bool {
        self.lines.iter().map(|line| line.way).eq(ways.iter().copied())
            && self.addresses == addresses
    }

    /// When the one in use last worked; it has a moment from its first use on.
    fn worked(&self) -> Instant {
        let heard = self.lines[self.used].heard(&self.addresses);
        heard.map_or(self.since, |heard| heard.max(self.since))
    }

    fn mute(&self) -> Option<Instant> {
        let datagrams = self.lines.iter().filter(|line| line.way.is_datagram());
        let mute: Option<Vec<Instant>> = datagrams.map(|line| line.mute).collect();
        mute?.into_iter().max()
    }

    fn pace(&self, few: bool) -> &'static Pace {
        let relayed = self.lines.iter().any(|line| line.way.relay.is_some() || line.way.tls);
        if relayed && few { &SWIFT } else { &USUAL }
    }

    fn decide(&mut self, hold: Duration, pace: &Pace, now: Instant) {
        for line in &mut self.lines {
            line.look(&self.addresses, now);
        }
        let ready = |place: usize, hold: Duration| self.lines[place].is_ready(hold, now);
        if now >= self.worked() + pace.failed {
            let others = (0..self.lines.len()).filter(|place| *place != self.used);
            if let Some(next) = { others }.find(|place| ready(*place, pace.settled)) {
                self.leave(hold, now);
                self.take(next, false, now);
            }
            return;
        }
        let after = |place: usize| self.lines[place].hold(hold, pace);
        if let Some(better) = (0..self.used).find(|place| ready(*place, after(*place))) {
            self.take(better, true, now);
        }
    }

    /// One that fails again soon after it was gone back to has to answer for longer the next time.
    fn leave(&mut self, hold: Duration, now: Instant) {
        let lasted = now.saturating_duration_since(self.since);
        let line = &mut self.lines[self.used];
        let soon = self.returned && lasted < hold * (1 << DOUBLINGS);
        line.relapses = if soon { (line.relapses + 1).min(DOUBLINGS) } else { 0 };
        line.healthy = None;
        line.left |= line.proven;
        line.heard.clear();
    }

    fn take(&mut self, place: usize, returned: bool, now: Instant) {
        (self.used, self.since, self.returned) = (place, now, returned);
    }

    /// Whom to ask now, by what.
    fn due(&mut self, pace: &Pace, now: Instant) -> Vec<(IpAddr, Way)> {
        let silent = now >= self.worked() + pace.silent;
        let relayed = self.lines[self.used].way.relay.is_some();
        let mut due = Vec::new();
        for (place, line) in self.lines.iter_mut().enumerate() {
            let every = match (silent, place == self.used) {
                (true, _) => ALARMED,
                (false, true) => pace.every,
                (false, false) if relayed && pace.swift && line.way.relay.is_none() => SEARCHING,
                (false, false) => WAITING,
            };
            if line.asked.is_none_or(|asked| now >= asked + every) {
                line.asked = Some(now);
                line.mute = line.mute.or(Some(now));
                due.extend(self.addresses.iter().map(|to| (*to, line.way)));
            }
        }
        due
    }
}

impl Line {
    /// When the last of the peer's addresses answered: one that is silent in one family has failed.
    fn heard(&self, addresses: &[IpAddr]) -> Option<Instant> {
        let heard: Option<Vec<&Instant>> = addresses.iter().map(|at| self.heard.get(at)).collect();
        heard?.into_iter().min().copied()
    }

    fn look(&mut self, addresses: &[IpAddr], now: Instant) {
        self.healthy = match self.heard(addresses) {
            Some(heard) if now < heard + BREAK => self.healthy.or(Some(heard)),
            Some(_) | None => None,
        };
    }

    /// It answers now, and has for so long.
    fn is_ready(&self, hold: Duration, now: Instant) -> bool {
        let last = self.heard.values().min();
        last.is_some_and(|last| now < *last + FRESH)
            && self.healthy.is_some_and(|since| now >= since + hold)
    }

    /// One that is found for the first time, where a relay served meanwhile, need not prove itself.
    fn hold(&self, first: Duration, pace: &Pace) -> Duration {
        let found = !self.left && pace.swift;
        if found { pace.settled } else { first * (1 << self.relapses) }
    }
}

#[cfg(test)]
mod tests;
