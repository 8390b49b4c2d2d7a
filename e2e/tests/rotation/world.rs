//! Nodes, links and sessions around the API, and what must hold at every moment.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use api::KeyRotationSpec;
use jiff::{SignedDuration, Timestamp};
use keys::KeyEpoch;

use crate::agent::{Agent, Peers};
use crate::controller::Controller;
use crate::dice::Dice;
use crate::server::{Server, is_idle, name};

/// A mistake made on purpose: the promises must notice it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// Whoever does not answer counts as away.
    SilenceIsAbsence,
    /// Agents confirm a switch while sessions of the old key are in use.
    ConfirmsEarly,
}

pub(crate) struct World {
    pub(crate) dice: Dice,
    pub(crate) server: Server,
    pub(crate) agents: Vec<Agent>,
    controllers: [Controller; 2],
    /// Pairs that have traffic, the smaller number first.
    pairs: Vec<(usize, usize)>,
    of_node: Vec<Vec<usize>>,
    /// The epochs that each pair's session was made with: (of the first, of the second).
    sessions: Vec<Option<(KeyEpoch, KeyEpoch)>>,
    /// Nodes that nobody reaches.
    isolated: BTreeSet<usize>,
    /// Nodes that a deadline passed by: out until they are back.
    lapsed: BTreeSet<usize>,
    pub(crate) now: Timestamp,
    fault: Fault,
    /// A handshake is made in one of so many looks.
    pub(crate) lag: usize,
    told: String,
}

impl World {
    /// `degree`: with how many others each node has traffic.
    pub(crate) fn new(seed: u64, nodes: usize, degree: usize, fault: Fault) -> Self {
        let mut dice = Dice(seed);
        let mut pairs = BTreeSet::new();
        for a in 0..nodes {
            for step in 1..=degree.min(nodes - 1) {
                let b = if degree >= nodes - 1 { (a + step) % nodes } else { dice.roll(nodes) };
                if a != b {
                    pairs.insert((a.min(b), a.max(b)));
                }
            }
        }
        let pairs: Vec<_> = pairs.into_iter().collect();
        let mut of_node = vec![Vec::new(); nodes];
        for (index, (a, b)) in pairs.iter().enumerate() {
            of_node[*a].push(index);
            of_node[*b].push(index);
        }
        let mut this = Self {
            dice,
            server: Server::new(nodes),
            agents: (0..nodes).map(Agent::new).collect(),
            controllers: Default::default(),
            sessions: vec![None; pairs.len()],
            pairs,
            of_node,
            isolated: BTreeSet::new(),
            lapsed: BTreeSet::new(),
            now: "2026-11-22T10:00:00Z".parse().unwrap(),
            fault,
            lag: 1,
            told: String::new(),
        };
        for _ in 0..2 {
            for number in 0..nodes {
                this.agent(number, false).unwrap();
            }
        }
        this
    }

    /// One look of an agent at everything. `cut`: it dies on the way.
    pub(crate) fn agent(&mut self, number: usize, cut: bool) -> Result<(), String> {
        let agent = &mut self.agents[number];
        agent.read(&self.server);
        agent.turn_keys(cut)?;
        if cut {
            self.crash(number);
            return self.judge(number);
        }
        self.drop_sessions(number)?;
        // A handshake takes its time, and what is said in between must be true all the same.
        if self.dice.one_in(self.lag) {
            self.connect(number);
        }
        self.report(number);
        self.judge(number)
    }

    fn report(&mut self, number: usize) {
        let mut peers = Peers { settled: true, unreachable: BTreeSet::new() };
        let honest = self.fault != Fault::ConfirmsEarly;
        for index in &self.of_node[number] {
            let (a, b) = self.pairs[*index];
            let other = if a == number { b } else { a };
            match self.sessions[*index] {
                Some(labels) if honest => peers.settled &= self.as_told(number, other, labels),
                Some(_) => {}
                None if self.agents[number].knows(&self.agents[other]) => {
                    peers.unreachable.insert(name(other));
                }
                None => {}
            }
        }
        if !honest {
            self.agents[number].settled = 2;
        }
        self.agents[number].report(&mut self.server, &peers);
    }

    /// The session uses what this node is told to send with.
    fn as_told(&self, number: usize, other: usize, labels: (KeyEpoch, KeyEpoch)) -> bool {
        let (ours, theirs) = if number < other { labels } else { (labels.1, labels.0) };
        let agent = &self.agents[number];
        agent.own() == ours && agent.towards(&self.agents[other]) == Some(theirs)
    }

    /// Sessions that lead nowhere end. One that ends because its key is gone had packets on it.
    fn drop_sessions(&mut self, number: usize) -> Result<(), String> {
        for index in &self.of_node[number] {
            let (a, b) = self.pairs[*index];
            let Some((of_a, of_b)) = self.sessions[*index] else { continue };
            let exempt = self.is_exempt(a) || self.is_exempt(b);
            let (a, b) = (&self.agents[a], &self.agents[b]);
            // An old version stops listening in the moment that a roll back is told.
            let exempt = exempt || a.old || b.old;
            let held = a.holds(of_a) && b.holds(of_b);
            if held && a.listens_to(b, of_b) && b.listens_to(a, of_a) && self.linked(*index) {
                continue;
            }
            self.sessions[*index] = None;
            if self.linked(*index) && !exempt {
                return Err(format!("{} and {} lose a session in use", a.name, b.name));
            }
        }
        Ok(())
    }

    /// Out of the mesh, by the operator's will or by the deadline's.
    fn is_exempt(&self, number: usize) -> bool {
        let stored = self.server.nodes.get(&name(number));
        stored.is_none_or(|stored| stored.node.revoked) || self.lapsed.contains(&number)
    }

    /// Handshakes of this node, where there is no session or one that is not as told.
    fn connect(&mut self, number: usize) {
        for at in 0..self.of_node[number].len() {
            let index = self.of_node[number][at];
            let (a, b) = self.pairs[index];
            let other = if a == number { b } else { a };
            let current = self.sessions[index];
            if !self.linked(index) || current.is_some_and(|s| self.as_told(number, other, s)) {
                continue;
            }
            let (me, you) = (&self.agents[number], &self.agents[other]);
            let mine = me.handshake(you).map(|(m, y)| if number < other { (m, y) } else { (y, m) });
            let yours = || {
                let labels = you.handshake(me)?;
                Some(if other < number { labels } else { (labels.1, labels.0) })
            };
            // Without a session both try; with one, who is not content renews it.
            self.sessions[index] = match current {
                None => mine.or_else(yours),
                Some(_) => mine.or(current),
            };
        }
    }

    fn linked(&self, index: usize) -> bool {
        let (a, b) = self.pairs[index];
        let there = |n: &usize| self.agents[*n].up && !self.isolated.contains(n);
        there(&a) && there(&b)
    }

    /// At no moment is a pair without a key that both accept.
    fn judge(&self, number: usize) -> Result<(), String> {
        for index in &self.of_node[number] {
            let (a, b) = self.pairs[*index];
            let (one, two) = (&self.agents[a], &self.agents[b]);
            if self.is_exempt(a) || self.is_exempt(b) || !one.knows(two) || !two.knows(one) {
                continue;
            }
            if one.handshake(two).is_none() && two.handshake(one).is_none() {
                return Err(format!(
                    "{} sends with {:?} to {:?}, {} with {:?} to {:?}, holding {:?} and {:?}",
                    one.name,
                    one.own(),
                    one.towards(two),
                    two.name,
                    two.own(),
                    two.towards(one),
                    one.held(),
                    two.held(),
                ));
            }
        }
        Ok(())
    }

    pub(crate) fn controller(&mut self, which: usize) -> bool {
        let (now, fault) = (self.now, self.fault);
        let did = self.controllers[which].step(&mut self.server, now, fault);
        if self.forgetting() {
            // Whoever counted as away at the deadline is passed by: that is what it is for.
            let away = self.controllers[which].passed_by();
            self.lapsed
                .extend((0..self.agents.len()).filter(|number| away.contains(&name(*number))));
        }
        did
    }

    fn forgetting(&self) -> bool {
        let mut phases = self.server.open().filter_map(|r| r.rotation.progress.as_ref());
        phases.any(|progress| progress.phase == api::RotationPhase::Forgetting)
    }

    pub(crate) fn crash(&mut self, number: usize) {
        self.agents[number].up = false;
        for index in &self.of_node[number] {
            self.sessions[*index] = None;
        }
    }

    pub(crate) fn start(&mut self, number: usize) {
        if !self.agents[number].up {
            self.agents[number].up = true;
            self.agents[number].restart();
            self.connect(number);
        }
    }

    /// Cuts a node off from all others, or joins it again.
    pub(crate) fn isolate(&mut self, number: usize, cut: bool) {
        if cut {
            self.isolated.insert(number);
            for index in &self.of_node[number] {
                self.sessions[*index] = None;
            }
        } else if self.isolated.remove(&number) {
            self.connect(number);
        }
    }

    pub(crate) fn crash_controller(&mut self, which: usize) {
        self.controllers[which].crash();
    }

    pub(crate) fn skew(&mut self, which: usize, by: SignedDuration) {
        self.controllers[which].skew = by;
    }

    pub(crate) fn create(&mut self, name: &str, spec: KeyRotationSpec) {
        self.server.create(name, spec);
    }

    /// All faults end; then everything comes to rest, in so many rounds at most.
    pub(crate) fn settle(&mut self, rounds: usize) -> Result<(), String> {
        let everybody = self.agents.len();
        self.lag = 1;
        self.controllers.iter_mut().for_each(|c| c.skew = SignedDuration::ZERO);
        self.controllers.iter_mut().for_each(Controller::crash);
        for number in 0..everybody {
            self.start(number);
            self.agents[number].api = true;
            self.agents[number].old = false;
            self.isolate(number, false);
        }
        let mut at_rest = 0;
        for _ in 0..rounds {
            for number in 0..everybody {
                self.agent(number, false)?;
            }
            while self.controller(0) {}
            at_rest = if self.at_rest() { at_rest + 1 } else { 0 };
            if at_rest >= 4 {
                self.lapsed.clear();
                return (0..everybody).try_for_each(|number| self.is_in_order(number));
            }
        }
        let open: Vec<_> = self
            .server
            .open()
            .map(|stored| {
                let next =
                    ::controller::rotate::next(&stored.rotation, &self.server.world(), self.now);
                format!("{:?}: {next:?}", stored.rotation.progress)
            })
            .collect();
        Err(format!("never at rest: {}", open.join("\n")))
    }

    fn at_rest(&self) -> bool {
        let world = self.server.world();
        let mut open = self.server.open();
        self.server.running.is_none()
            && ::controller::rotate::tidy(&world).is_empty()
            && open.all(|r| is_idle(&::controller::rotate::next(&r.rotation, &world, self.now)))
    }

    fn is_in_order(&self, number: usize) -> Result<(), String> {
        let Some(stored) = self.server.nodes.get(&name(number)) else { return Ok(()) };
        let node = &stored.node;
        if node.revoked {
            return Ok(());
        }
        let held = self.agents[number].held();
        if held != [node.key_epoch] {
            return Err(format!("{} holds {held:?} on {}", name(number), node.key_epoch));
        }
        for index in &self.of_node[number] {
            let (a, b) = self.pairs[*index];
            let revoked = |n| self.server.nodes.get(&name(n)).is_none_or(|s| s.node.revoked);
            if self.sessions[*index].is_none() && !revoked(a) && !revoked(b) {
                return Err(format!("{} and {} are apart", name(a), name(b)));
            }
        }
        self.judge(number)
    }

    /// What there is, where it differs from what was told last.
    pub(crate) fn tell(&mut self) {
        let mut text = String::new();
        for stored in self.server.open() {
            let progress = stored.rotation.progress.as_ref();
            let told =
                progress.map(|p| (p.phase, p.outcome, p.epoch, p.wave.number, &p.wave.nodes));
            let _ = writeln!(text, "{} {told:?}", stored.rotation.name);
        }
        for agent in &self.agents {
            let node = self.server.nodes.get(&agent.name).map(|stored| &stored.node);
            let told =
                node.map(|n| (n.key_epoch.0, n.epochs.iter().map(|e| e.0).collect::<Vec<_>>()));
            let said = node.and_then(|n| n.confirmed.as_ref()).map(|c| (c.wave, c.step));
            let cut = self.isolated.contains(&agent.number);
            let _ = writeln!(
                text,
                "  {} up {} api {} old {} cut {cut} told {told:?} holds {:?} sends {} said {said:?} misses {:?}",
                agent.name,
                agent.up,
                agent.api,
                agent.old,
                agent.held(),
                agent.own(),
                node.map(|n| n.unreachable.clone()),
            );
        }
        if self.told != text {
            println!("{text}");
            self.told = text;
        }
    }

    pub(crate) fn phases(&self) -> BTreeMap<String, usize> {
        let mut phases = BTreeMap::new();
        for stored in &self.server.rotations {
            let phase = stored.rotation.progress.as_ref().map(|p| p.phase.to_string());
            let refused = stored.refused.as_ref().map(|refusal| refusal.word().to_owned());
            *phases.entry(phase.or(refused).unwrap_or_else(|| "Pending".into())).or_default() += 1;
        }
        phases
    }
}
