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
//!
//! Pairs that have a choice of carriers are asked all the time. Where the tunnel alone carries, with
//! relays in reserve, its packets say themselves whether they arrive: nobody is asked while each that
//! is sent is followed by some that come, nor while none are sent.

mod gateways;
pub(crate) mod kept;
mod line;
mod message;
mod sockets;
mod watch;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use tokio::time::Instant;

use self::line::Line;
pub(crate) use self::watch::{Chosen, Watch};
use crate::{
    plan::{Way, first},
    view::Backend,
};

/// Between two probes by one that waits.
const WAITING: Duration = Duration::from_secs(3);
/// The same by one that is better than a relay in use: two nodes are told of each other's places at times
/// that nobody else can know.
const SEARCHING: Duration = Duration::from_secs(1);
/// Between two by all of them, while the one in use is silent.
const ALARMED: Duration = Duration::from_millis(400);
/// An answer so old still says that a carrier works now.
const FRESH: Duration = Duration::from_secs(2);
/// For so long after somebody began to doubt, was heard or changed its way, all is tried often.
const EAGER: Duration = Duration::from_secs(10);
/// How exactly [`Signs`] tell the time.
const COARSE: Duration = Duration::from_millis(1);
/// Between two by a way that cannot be, as far as is known.
const SELDOM: Duration = Duration::from_secs(30);
/// Of a pair without relays, of one that has some beside other carriers, and of one that has nothing
/// but the tunnel and relays.
const USUAL: Pace = Pace {
    every: Duration::from_secs(1),
    silent: Duration::from_millis(1500),
    failed: Duration::from_secs(3),
    settled: Duration::from_secs(1),
    swift: false,
    watched: false,
};
const SWIFT: Pace = Pace {
    every: Duration::from_millis(400),
    silent: Duration::from_millis(700),
    failed: Duration::from_millis(1200),
    settled: Duration::from_millis(300),
    swift: true,
    watched: false,
};
const WATCHED: Pace = Pace { watched: true, ..SWIFT };
/// Of more pairs than that, none is asked so often all the time.
const SWIFT_PAIRS: usize = 100;
/// After so long without an answer the count of a carrier's health begins anew: two probes lost.
const BREAK: Duration = Duration::from_secs(7);
/// Later answers are none.
const IN_TIME: Duration = Duration::from_secs(2);
/// So often the time of health that is asked for is doubled, at most.
const DOUBLINGS: u32 = 5;

/// What may carry to each node.
pub(crate) type Ways = BTreeMap<String, Choice>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    /// Best first.
    pub(crate) ways: Vec<Way>,
    /// Of the node, to be asked by each.
    pub(crate) addresses: Vec<IpAddr>,
    /// As far as is known, it is reached by relays alone.
    pub(crate) apart: bool,
}

/// Whether a peer is there, as far as its packets show it without being asked.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Signs {
    /// Since when something was sent to it that nothing from it has followed.
    pub(crate) unanswered: Option<Instant>,
    pub(crate) heard: Option<Instant>,
    /// Something can be sent to it.
    pub(crate) session: bool,
}

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
    /// [`Signs`] say when to ask.
    watched: bool,
}

/// A probe to be sent, or one that was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ask {
    pub(crate) to: IpAddr,
    pub(crate) by: Way,
    pub(crate) number: u64,
    /// It also says that nothing is heard here any more.
    pub(crate) alarm: bool,
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
    apart: bool,
    /// The place of the one in use, and since when it is.
    used: usize,
    since: Instant,
    /// It had failed before, and was gone back to.
    returned: bool,
    /// Since when nothing shows that the one in use works.
    doubted: Option<Instant>,
    /// The other end was it that said so.
    told: bool,
    signs: Signs,
}

impl Failover {
    /// `number`, by chance, is what the first probe is called: answers to an earlier run are nobody's.
    pub(crate) fn new(number: u64, last: Chosen) -> Self {
        Self { pairs: BTreeMap::new(), open: BTreeMap::new(), number: number >> 1, last }
    }

    /// Hears what may carry. A pair whose ways stay the same goes on as it is.
    pub(crate) fn meets(&mut self, ways: &Ways, now: Instant) {
        self.pairs.retain(|name, _| ways.contains_key(name));
        for (name, choice) in ways {
            if let Some(old) = self.pairs.get_mut(name).filter(|pair| pair.is_of(choice)) {
                old.apart = choice.apart;
                continue;
            }
            let old = self.pairs.remove(name);
            let used = old.as_ref().map(|pair| pair.lines[pair.used].way);
            let last = self.last.remove(name).or(used);
            self.pairs.insert(name.clone(), Pair::new(choice, last, now).after(old));
        }
        let known: BTreeSet<&String> = self.pairs.keys().collect();
        self.open.retain(|_, open| known.contains(&open.peer));
    }

    /// Decides anew, and says what to ask. `hold`: for how long one that failed must answer.
    pub(crate) fn tick(
        &mut self,
        hold: Duration,
        signs: impl Fn(&str) -> Signs,
        now: Instant,
    ) -> Vec<Ask> {
        self.open.retain(|_, open| now < open.sent + IN_TIME);
        let mut asks = Vec::new();
        let few = self.pairs.len() <= SWIFT_PAIRS;
        for (peer, pair) in &mut self.pairs {
            let pace = pair.pace(few);
            pair.look(pace, || signs(peer), now);
            pair.decide(hold, pace, now);
            let alarm = pair.doubted.is_some() && !pair.told;
            for (to, by) in pair.due(pace, now) {
                self.number += 1;
                let ask = Ask { to, by, number: self.number, alarm };
                self.open.insert(ask.number, Open { peer: peer.clone(), ask, sent: now });
                asks.push(ask);
            }
        }
        asks
    }

    /// An answer came by a carrier. Only who was asked by it can give it, and once.
    pub(crate) fn answered(&mut self, answer: Ask, now: Instant) {
        let answers = |open: &&Open| Ask { alarm: open.ask.alarm, ..answer } == open.ask;
        let Some(open) = self.open.get(&answer.number).filter(answers) else {
            return;
        };
        let (in_time, pair) = (now < open.sent + IN_TIME, self.pairs.get_mut(&open.peer));
        let line = pair.and_then(|pair| pair.lines.iter_mut().find(|line| line.way == answer.by));
        if let Some(line) = line.filter(|_| in_time) {
            line.answered(answer.to, now);
        }
        self.open.remove(&answer.number);
    }

    /// The node of this address hears nothing: perhaps the way that is used to it is blocked, unless it
    /// was heard by that. True if there is news to decide on.
    pub(crate) fn alarmed(&mut self, by: Way, from: IpAddr, now: Instant) -> bool {
        let mut of = self.pairs.values_mut().filter(|pair| pair.addresses.contains(&from));
        of.any(|pair| pair.alarm(by, now))
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
    fn new(choice: &Choice, last: Option<Way>, now: Instant) -> Self {
        let Choice { ways, addresses, apart } = choice;
        Self {
            lines: ways.iter().copied().map(Line::new).collect(),
            addresses: addresses.clone(),
            apart: *apart,
            used: last.map_or_else(|| first(ways, *apart), |last| last.place_among(ways)),
            since: now,
            returned: false,
            doubted: Some(now),
            told: false,
            signs: Signs::default(),
        }
    }

    /// What is known of the ways that stay.
    fn after(mut self, old: Option<Self>) -> Self {
        let Some(mut old) = old else { return self };
        let used = old.lines[old.used].way;
        for line in &mut self.lines {
            let known = old.lines.iter().position(|known| known.way == line.way);
            if let Some(known) = known.map(|place| old.lines.swap_remove(place)) {
                *line = known;
            }
        }
        if let Some(place) = self.lines.iter().position(|line| line.way == used) {
            self.used = place;
            (self.since, self.returned) = (old.since, old.returned);
            (self.doubted, self.told) = (old.doubted, old.told);
        }
        self
    }

    fn is_of(&self, choice: &Choice) -> bool {
        self.lines.iter().map(|line| line.way).eq(choice.ways.iter().copied())
            && self.addresses == choice.addresses
    }

    /// When the one in use last worked; it has a moment from its first use on.
    fn worked(&self) -> Instant {
        let heard = self.lines[self.used].heard(&self.addresses);
        heard.map_or(self.since, |heard| heard.max(self.since))
    }

    fn mute(&self) -> Option<Instant> {
        let datagrams = self.lines.iter().filter(|line| line.way.is_datagram());
        // Without a session only the one in use is asked.
        let unasked = self.doubted.filter(|_| !self.signs.session);
        let mute: Option<Vec<Instant>> = datagrams.map(|line| line.mute.or(unasked)).collect();
        mute?.into_iter().max()
    }

    fn pace(&self, few: bool) -> &'static Pace {
        let relayed = self.lines.iter().any(|line| line.way.relay.is_some() || line.way.tls);
        let sealed = self.lines.iter().all(|line| line.way.backend == Backend::Wireguard);
        match (relayed, sealed) {
            (true, true) => &WATCHED,
            (true, false) if few => &SWIFT,
            (_, _) => &USUAL,
        }
    }

    /// What shows by itself. Once others are asked too, their answers are heard, and show nothing of
    /// the one in use: then it has to answer itself, and so has one that never did.
    fn look(&mut self, pace: &Pace, signs: impl FnOnce() -> Signs, now: Instant) {
        if !pace.watched {
            return;
        }
        self.signs = signs();
        let line = &self.lines[self.used];
        let answered = line.last();
        let open = |since: &Instant| answered.is_none_or(|at| at < *since);
        // What is sent right after an answer counts from then, though its clock is a coarse one.
        let after = |since: Instant| answered.map_or(since, |at| since.max(at + COARSE));
        let held = |since: &Instant| now >= *since + pace.silent || !line.proven;
        let doubted = self.doubted.filter(open).filter(held);
        self.told &= doubted.is_some();
        self.doubted = doubted.or(self.signs.unanswered.map(after));
    }

    fn alarm(&mut self, by: Way, now: Instant) -> bool {
        let silent = now.checked_sub(WATCHED.silent).unwrap_or(now);
        let known = self.doubted.is_some_and(|since| since <= silent);
        let news = by != self.lines[self.used].way && !known && now >= self.since + WATCHED.silent;
        if news {
            (self.doubted, self.told) = (Some(silent), true);
        }
        news
    }

    fn failed(&self, pace: &Pace, now: Instant) -> bool {
        if pace.watched {
            return self.doubted.is_some_and(|since| now >= since + pace.failed);
        }
        now >= self.worked() + pace.failed
    }

    fn decide(&mut self, hold: Duration, pace: &Pace, now: Instant) {
        let addresses = self.addresses_of(pace).to_vec();
        for line in &mut self.lines {
            line.look(&addresses, now);
        }
        let ready = |place: usize, hold: Duration| self.lines[place].is_ready(hold, now);
        if self.failed(pace, now) {
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
        let soon = self.returned && lasted < hold * (1 << DOUBLINGS);
        self.lines[self.used].leave(soon);
    }

    fn take(&mut self, place: usize, returned: bool, now: Instant) {
        (self.used, self.since, self.returned) = (place, now, returned);
        (self.doubted, self.told) = (None, false);
    }

    /// Whom to ask now, by what.
    fn due(&mut self, pace: &Pace, now: Instant) -> Vec<(IpAddr, Way)> {
        let mut due = Vec::new();
        for place in 0..self.lines.len() {
            let every = if pace.watched {
                self.interval(place, pace, now)
            } else {
                Some(self.always(place, pace, now))
            };
            let line = &mut self.lines[place];
            if every.is_some_and(|every| line.asked.is_none_or(|asked| now >= asked + every)) {
                line.asked = Some(now);
                line.mute = line.mute.or(Some(now));
                let way = line.way;
                due.extend(self.addresses_of(pace).iter().map(|to| (*to, way)));
            }
        }
        due
    }

    /// Of one that is asked all the time.
    fn always(&self, place: usize, pace: &Pace, now: Instant) -> Duration {
        match (now >= self.worked() + pace.silent, place == self.used) {
            (true, _) => ALARMED,
            (false, true) => pace.every,
            (false, false) if self.searches(place, pace) => SEARCHING,
            (false, false) => WAITING,
        }
    }

    /// A relay serves where this way could.
    fn searches(&self, place: usize, pace: &Pace) -> bool {
        let relayed = |place: usize| self.lines[place].way.relay.is_some();
        pace.swift && relayed(self.used) && !relayed(place)
    }

    /// Of one that is asked where [`Signs`] leave a doubt; none: not at all. Without a session, what
    /// asks for one takes every way by itself.
    fn interval(&self, place: usize, pace: &Pace, now: Instant) -> Option<Duration> {
        let (line, used) = (&self.lines[place], place == self.used);
        let doubted = |by| self.doubted.is_some_and(|since| now >= since + by);
        let eager = |since: Option<Instant>| since.is_some_and(|since| now < since + EAGER);
        if used || doubted(pace.silent) {
            let patience = if line.proven { pace.every } else { Duration::ZERO };
            let asked = if used { doubted(patience) } else { self.signs.session };
            let often = eager(self.doubted) || eager(self.signs.heard);
            return asked.then_some(if often { ALARMED } else { WAITING });
        }
        let wanted = place < self.used && self.signs.session;
        let often = if eager(Some(self.since)) {
            ALARMED
        } else if self.apart && line.healthy.is_none() {
            SELDOM
        } else if self.searches(place, pace) {
            SEARCHING
        } else {
            WAITING
        };
        wanted.then_some(often)
    }

    /// Inside of the tunnel, one family says as much as both.
    fn addresses_of(&self, pace: &Pace) -> &[IpAddr] {
        let count = if pace.watched { 1 } else { self.addresses.len() };
        self.addresses.get(..count).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
