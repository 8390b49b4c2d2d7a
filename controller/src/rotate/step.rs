//! The next step of a rotation: one function a phase.

use std::collections::BTreeSet;

use api::{ConfirmedStep, RotationOutcome, RotationPhase as Phase, Wave};
use jiff::Timestamp;
use keys::KeyEpoch;

use super::request::{deadline, judge};
use super::sight::{Sight, named};
use super::{
    Next, Node, Progress, Reason, Refusal, Rotation, Waiting, World, Write, away, targets,
};

/// What to do now.
pub fn next(rotation: &Rotation, world: &World, now: Timestamp) -> Next {
    let sight =
        Sight { rotation, world, now, away: away(world), targets: targets(&rotation.spec, world) };
    match &rotation.progress {
        None => sight.begin(),
        Some(progress) if progress.phase.is_over() => Next::Rest,
        Some(progress) => sight.go_on(progress),
    }
}

/// What a controller that was cut off wrote after its rotation was over: new keys that nobody was
/// ever told to send with. Only while no rotation is under way.
pub fn tidy(world: &World) -> Vec<Write> {
    let newer = |(name, node): (&String, &Node)| {
        let epochs: BTreeSet<KeyEpoch> = node.epochs.range(..=node.key_epoch).copied().collect();
        let write = Write { node: name.clone(), key_epoch: node.key_epoch, epochs };
        (node.has_started() && write.epochs != node.epochs).then_some(write)
    };
    match world.running {
        Some(_) => Vec::new(),
        None => world.nodes.iter().filter_map(newer).collect(),
    }
}

impl<'a> Sight<'a> {
    fn begin(&self) -> Next {
        let Rotation { uid, spec, deleted, .. } = self.rotation;
        if *deleted || spec.aborted || spec.roll_back {
            return Next::Refuse(Refusal::EndedEarly);
        }
        let deadline = match judge(spec, self.world, self.now) {
            Ok(deadline) => deadline,
            Err(refusal) => return Next::Refuse(refusal),
        };
        let epoch = match &self.world.running {
            None => self.fresh_epoch(),
            // Claimed, and cut off before that was kept.
            Some(running) if running.uid == *uid => self.world.newest,
            Some(other) => return Next::Refuse(Refusal::Conflict(other.name.clone())),
        };
        if spec.lost {
            return Next::Begin(self.replacement(epoch, deadline));
        }
        if let Some(reason) = self.hindrance() {
            return Next::Pend(reason);
        }
        let Some(wave) = self.next_wave(epoch, 1) else {
            let text = "none of the nodes to rotate is there";
            return Next::Pend(Reason::new("NobodyThere", text));
        };
        Next::Begin(Progress {
            phase: Phase::Publishing,
            outcome: RotationOutcome::Completed,
            epoch,
            wave,
            started_at: self.now,
            deadline,
        })
    }

    /// There is nothing to make before the break: the old keys are lost, and go at once.
    fn replacement(&self, epoch: KeyEpoch, deadline: Timestamp) -> Progress {
        Progress {
            phase: Phase::Forgetting,
            outcome: RotationOutcome::Completed,
            epoch,
            wave: Wave { number: 1, nodes: self.targets.iter().cloned().collect(), digest: None },
            started_at: self.now,
            deadline,
        }
    }

    /// Why it may not begin now.
    fn hindrance(&self) -> Option<Reason> {
        if self.rotation.spec.paused {
            return Some(Reason::new("Paused", "paused before it began"));
        }
        if self.rotation.spec.force {
            return None;
        }
        let degraded = self.world.degraded.as_ref();
        degraded
            .map(|why| Reason::new("MeshDegraded", why.clone()))
            .or_else(|| self.too_many_away())
    }

    fn go_on(&self, progress: &Progress) -> Next {
        if let Some(ended) = self.ended(progress) {
            return Next::Move(ended);
        }
        if let Ok(wanted) = deadline(&self.rotation.spec, progress.started_at)
            && wanted != progress.deadline
        {
            return Next::Move(Progress { deadline: wanted, ..progress.clone() });
        }
        // Half forgotten is no state to rest in.
        if self.rotation.spec.paused && progress.phase != Phase::Forgetting {
            return self.wait([], Reason::new("Paused", "paused; resume it to go on"));
        }
        match progress.phase {
            Phase::Publishing => self.publishing(progress),
            Phase::Accepting => self.accepting(progress),
            Phase::Switching => self.switching(progress),
            Phase::Draining => self.draining(progress),
            Phase::Forgetting => self.forgetting(progress),
            Phase::Pending
            | Phase::Completed
            | Phase::Aborted
            | Phase::RolledBack
            | Phase::Refused => Next::Rest,
        }
    }

    /// The turn that the operator wants: to stop here, or to go back.
    fn ended(&self, progress: &Progress) -> Option<Progress> {
        let Rotation { spec, deleted, .. } = self.rotation;
        let outcome = match (spec.roll_back, spec.aborted || *deleted) {
            (true, _) => RotationOutcome::RolledBack,
            (false, true) => RotationOutcome::Aborted,
            (false, false) if self.too_late_for_the_rest(progress) => RotationOutcome::Aborted,
            (false, false) => return None,
        };
        let decided = progress.phase == Phase::Forgetting
            || progress.outcome == outcome
            || progress.outcome == RotationOutcome::RolledBack;
        let finished = outcome == RotationOutcome::Aborted && self.unswitched(progress).is_empty();
        (!decided && !finished).then(|| Progress {
            phase: Phase::Draining,
            outcome,
            wave: Wave { number: progress.wave.number + 1, nodes: Vec::new(), digest: None },
            ..progress.clone()
        })
    }

    /// The deadline is over, and somebody who is there still does not follow.
    fn too_late_for_the_rest(&self, progress: &Progress) -> bool {
        let waits = matches!(progress.phase, Phase::Publishing | Phase::Accepting);
        waits && self.now >= progress.deadline
    }

    fn publishing(&self, progress: &Progress) -> Next {
        let epoch = progress.epoch;
        let members: Vec<&String> =
            self.members(progress).filter(|name| !self.away.contains(*name)).collect();
        let writes: Vec<Write> = (members.iter())
            .filter(|name| !self.node(name).epochs.contains(&epoch))
            .map(|name| self.hold_too(name, epoch))
            .collect();
        if !writes.is_empty() {
            return Next::Write(writes);
        }
        if members.is_empty() {
            return self.advance(progress);
        }
        let silent: Vec<&String> =
            (members.iter().copied()).filter(|name| !self.publishes(name, epoch)).collect();
        let nodes: Vec<String> = members.iter().map(|name| (*name).clone()).collect();
        if silent.is_empty() {
            let digest = Some(self.digest(members, epoch));
            let wave = Wave { nodes, digest, ..progress.wave.clone() };
            return Next::Move(Progress { phase: Phase::Accepting, wave, ..progress.clone() });
        }
        if nodes != progress.wave.nodes {
            let wave = Wave { nodes, ..progress.wave.clone() };
            return Next::Move(Progress { wave, ..progress.clone() });
        }
        let had = |name: &&&String| self.node(name).newest.is_some_and(|newest| newest >= epoch);
        let reason = match silent.iter().find(had) {
            Some(name) => Reason::new(
                "EpochUsed",
                format!(
                    "{name} had a key of epoch {epoch} before and makes no other; abort this \
                         rotation and begin another"
                ),
            ),
            None => Reason::new(
                "Publishing",
                format!("no key of epoch {epoch} from {}", named(silent.iter().copied())),
            ),
        };
        self.wait(silent, reason)
    }

    /// What it holds now, and the new one.
    fn hold_too(&self, name: &str, epoch: KeyEpoch) -> Write {
        let node = self.node(name);
        let mut epochs = node.epochs.clone();
        if epochs.is_empty() {
            epochs.extend(node.keys.keys());
        }
        epochs.extend([node.key_epoch, epoch]);
        Write { node: name.to_owned(), key_epoch: node.key_epoch, epochs }
    }

    fn accepting(&self, progress: &Progress) -> Next {
        let members: Vec<&String> =
            self.members(progress).filter(|name| self.publishes(name, progress.epoch)).collect();
        if members.is_empty() {
            return self.advance(progress);
        }
        // Whoever is gone by now is not to be confirmed either.
        let nodes: Vec<String> = members.iter().map(|name| (*name).clone()).collect();
        let digest = Some(self.digest(members, progress.epoch));
        let wave = Wave { nodes, digest, ..progress.wave.clone() };
        if wave != progress.wave {
            return Next::Move(Progress { wave, ..progress.clone() });
        }
        let waiting = self.unconfirmed(progress, ConfirmedStep::Accepted);
        if waiting.is_empty() {
            return Next::Move(Progress { phase: Phase::Switching, ..progress.clone() });
        }
        let reason = self.reason("Accepting", "not accepted yet by", &waiting, progress);
        self.wait(waiting, reason)
    }

    fn switching(&self, progress: &Progress) -> Next {
        let epoch = progress.epoch;
        let ready = |name: &&String| {
            let node = self.node(name);
            node.key_epoch != epoch && node.epochs.contains(&epoch) && self.publishes(name, epoch)
        };
        let writes: Vec<Write> = self
            .members(progress)
            .filter(ready)
            .map(|name| {
                let epochs = self.node(name).epochs.clone();
                Write { node: name.clone(), key_epoch: epoch, epochs }
            })
            .collect();
        if !writes.is_empty() {
            return Next::Write(writes);
        }
        if let Some(moved) = with_digest(progress, &self.switched_digest(epoch)) {
            return Next::Move(moved);
        }
        let waiting = self.unconfirmed(progress, ConfirmedStep::Switched);
        if waiting.is_empty() {
            return self.advance(progress);
        }
        let reason = self.reason("Switching", "not switched yet:", &waiting, progress);
        self.wait(waiting, reason)
    }

    /// The next wave, or the end.
    fn advance(&self, progress: &Progress) -> Next {
        let Some(wave) = self.next_wave(progress.epoch, progress.wave.number + 1) else {
            return Next::Move(Progress { phase: Phase::Draining, ..progress.clone() });
        };
        match self.too_many_away() {
            Some(reason) => self.wait(&self.away, reason),
            None => Next::Move(Progress { phase: Phase::Publishing, wave, ..progress.clone() }),
        }
    }

    fn draining(&self, progress: &Progress) -> Next {
        let epoch = progress.epoch;
        let forward = progress.outcome == RotationOutcome::Completed;
        let writes = if forward { Vec::new() } else { self.taken_back(progress) };
        if !writes.is_empty() {
            return Next::Write(writes);
        }
        if forward && let Some(wave) = self.next_wave(epoch, progress.wave.number + 1) {
            return Next::Move(Progress { phase: Phase::Publishing, wave, ..progress.clone() });
        }
        if let Some(moved) = with_digest(progress, &self.switched_digest(epoch)) {
            return Next::Move(moved);
        }
        let forget = Next::Move(Progress { phase: Phase::Forgetting, ..progress.clone() });
        let unused =
            progress.outcome == RotationOutcome::Aborted && self.on(epoch).next().is_none();
        if unused {
            return forget;
        }
        let waiting = self.unconfirmed(progress, ConfirmedStep::Switched);
        if !waiting.is_empty() {
            let reason = self.reason("Draining", "old sessions remain at", &waiting, progress);
            return self.wait(waiting, reason);
        }
        let pending = self.pending(progress);
        if pending.is_empty() || self.now >= progress.deadline {
            return forget;
        }
        let text = format!(
            "all that are there are done; the old epoch stays valid until {} for {}",
            progress.deadline,
            named(&pending)
        );
        let nodes = pending.into_iter().collect();
        let reason = Reason::new("AwaitingAway", text);
        Next::Wait(Waiting { nodes, reason, until: Some(progress.deadline) })
    }

    /// On the way back: a new key that nobody sends with goes at once, and with a roll back
    /// everybody returns to the key that he still holds.
    fn taken_back(&self, progress: &Progress) -> Vec<Write> {
        let epoch = progress.epoch;
        let asked = self.world.nodes.iter().filter(|(_, node)| node.epochs.contains(&epoch));
        let write = |(name, node): (&String, &Node)| {
            let mut epochs = node.epochs.clone();
            let key_epoch = match (progress.outcome, node.key_epoch == epoch) {
                (RotationOutcome::Aborted, false) => {
                    epochs.remove(&epoch);
                    node.key_epoch
                }
                (RotationOutcome::RolledBack, true) => before(node, epoch)?,
                (RotationOutcome::Completed, _)
                | (RotationOutcome::Aborted, true)
                | (RotationOutcome::RolledBack, false) => return None,
            };
            Some(Write { node: name.clone(), key_epoch, epochs })
        };
        asked.filter_map(write).collect()
    }

    fn forgetting(&self, progress: &Progress) -> Next {
        let epoch = progress.epoch;
        let open = self.not_forgotten(progress);
        if open.iter().any(|(name, node)| self.has_strayed(name, node, progress)) {
            return Next::Move(Progress { phase: Phase::Draining, ..progress.clone() });
        }
        let forward = progress.outcome == RotationOutcome::Completed;
        let write = |(name, node): (&String, &Node)| {
            // Whoever missed the deadline is out until it has made its new key.
            let key_epoch = if forward { epoch } else { node.key_epoch };
            Write { node: name.clone(), key_epoch, epochs: [key_epoch].into() }
        };
        let writes: Vec<Write> = open.into_iter().map(write).collect();
        if !writes.is_empty() {
            return Next::Write(writes);
        }
        let waiting = self.not_wiped();
        if waiting.is_empty() {
            let phase = match progress.outcome {
                RotationOutcome::Completed => Phase::Completed,
                RotationOutcome::Aborted => Phase::Aborted,
                RotationOutcome::RolledBack => Phase::RolledBack,
            };
            return Next::Move(Progress { phase, ..progress.clone() });
        }
        let text = format!("not wiped yet at {}", named(waiting.iter().copied()));
        self.wait(waiting, Reason::new("Forgetting", text))
    }

    /// Nodes that are still told to hold both, and those that never came.
    fn not_forgotten(&self, progress: &Progress) -> Vec<(&'a String, &'a Node)> {
        let forward = progress.outcome == RotationOutcome::Completed;
        let open = |(name, node): &(&String, &Node)| {
            let both = node.epochs.contains(&progress.epoch) && node.epochs.len() > 1;
            let never = node.key_epoch != progress.epoch && self.targets.contains(*name);
            node.has_started() && (both || forward && never)
        };
        self.world.nodes.iter().filter(open).collect()
    }

    /// Another controller's write came late: it is not where it was when all was drained.
    fn has_strayed(&self, name: &str, node: &Node, progress: &Progress) -> bool {
        match progress.outcome {
            RotationOutcome::Completed => {
                let lost = self.rotation.spec.lost;
                node.key_epoch != progress.epoch && !self.away.contains(name) && !lost
            }
            RotationOutcome::RolledBack => {
                node.key_epoch == progress.epoch && before(node, progress.epoch).is_some()
            }
            RotationOutcome::Aborted => node.key_epoch != progress.epoch,
        }
    }

    /// Nodes that are there and still publish a key that they are told to wipe.
    fn not_wiped(&self) -> Vec<&'a String> {
        let nodes = self.world.nodes.iter().filter(|(name, node)| {
            node.has_started() && self.targets.contains(*name) && !self.away.contains(*name)
        });
        let more = nodes.filter(|(_, node)| {
            !node.epochs.is_empty() && node.keys.keys().any(|held| !node.epochs.contains(held))
        });
        more.map(|(name, _)| name).collect()
    }
}

/// The epoch that a node on the new one can go back to.
fn before(node: &Node, epoch: KeyEpoch) -> Option<KeyEpoch> {
    let held = node.epochs.range(..epoch).rev();
    held.copied().find(|old| node.keys.contains_key(old))
}

/// The progress with another digest to confirm, if it is another.
fn with_digest(progress: &Progress, digest: &str) -> Option<Progress> {
    (progress.wave.digest.as_deref() != Some(digest)).then(|| {
        let wave = Wave { digest: Some(digest.to_owned()), ..progress.wave.clone() };
        Progress { wave, ..progress.clone() }
    })
}
