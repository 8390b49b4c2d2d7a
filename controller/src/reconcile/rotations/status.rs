//! A rotation's status as people see it. Pure.

use api::{Condition, KeyRotation, KeyRotationStatus, RotationPhase as Phase, conditions};
use jiff::Timestamp;
use kube::ResourceExt;

use super::Notice;
use crate::rotate::{Next, Progress, Reason, Rotation, World, done};

/// Names in the status; more are in the nodes themselves.
const NAMED: usize = 1000;
/// As many probes as the schema takes.
const MOST: u64 = 1_000_000_000_000_000;

pub(super) struct Report<'a> {
    pub(super) rotation: &'a Rotation,
    pub(super) world: &'a World,
    pub(super) todo: &'a Next,
    /// Sent and lost, as the nodes say now.
    pub(super) probes: (u64, u64),
    pub(super) now: Timestamp,
}

impl Report<'_> {
    /// The status that `object` should have.
    pub(super) fn status(&self, object: &KeyRotation, stalled: bool) -> KeyRotationStatus {
        let before = object.status.clone().unwrap_or_default();
        let generation = object.metadata.generation;
        let mut after = KeyRotationStatus {
            observed_generation: generation,
            waiting_for: self.waiting_for(),
            ..before
        };
        match &self.rotation.progress {
            Some(progress) => self.fill(&mut after, progress),
            None => {
                let refused = matches!(self.todo, Next::Refuse(_));
                after.phase = Some(if refused { Phase::Refused } else { Phase::Pending });
            }
        }
        let reason = self.reason();
        let going = after.phase.is_some_and(|p| !p.is_over() && p != Phase::Pending) && !stalled;
        let completed = after.phase == Some(Phase::Completed);
        let whole = (reason.word, reason.text);
        for (type_, holds) in
            [("Progressing", going), ("Completed", completed), ("Stalled", stalled)]
        {
            let condition = Condition::new(type_, holds, whole.clone(), self.now);
            conditions::set(&mut after.conditions, condition.observed(generation));
        }
        after
    }

    fn fill(&self, after: &mut KeyRotationStatus, progress: &Progress) {
        let Progress { phase, outcome, epoch, wave, started_at, deadline } = progress;
        let (on_it, all) = done(self.rotation, self.world);
        after.phase = Some(*phase);
        after.outcome = Some(*outcome);
        after.epoch = Some(epoch.0);
        after.wave = Some(wave.clone());
        after.started_at = Some(started_at.to_string());
        after.deadline = Some(deadline.to_string());
        if phase.is_over() {
            after.ended_at.get_or_insert_with(|| conditions::rfc3339(self.now));
        }
        count(after, self.probes);
        if !phase.is_over() || after.done.is_none() {
            after.done = Some(format!("{on_it}/{all}"));
        }
    }

    fn waiting_for(&self) -> Vec<String> {
        match self.todo {
            Next::Wait(waiting) => waiting.nodes.iter().take(NAMED).cloned().collect(),
            Next::Refuse(_)
            | Next::Pend(_)
            | Next::Begin(_)
            | Next::Write(_)
            | Next::Move(_)
            | Next::Rest => Vec::new(),
        }
    }

    fn reason(&self) -> Reason {
        let phase = self.rotation.progress.as_ref().map(|progress| progress.phase);
        let word = |phase: Phase| match phase {
            Phase::Pending => "Pending",
            Phase::Publishing => "Publishing",
            Phase::Accepting => "Accepting",
            Phase::Switching => "Switching",
            Phase::Draining => "Draining",
            Phase::Forgetting => "Forgetting",
            Phase::Completed => "Completed",
            Phase::Aborted => "Aborted",
            Phase::RolledBack => "RolledBack",
            Phase::Refused => "Refused",
        };
        match self.todo {
            Next::Wait(waiting) => waiting.reason.clone(),
            Next::Pend(reason) => reason.clone(),
            Next::Refuse(refusal) => Reason { word: refusal.word(), text: refusal.to_string() },
            Next::Begin(_) | Next::Write(_) | Next::Move(_) | Next::Rest => {
                Reason { word: phase.map_or("Pending", word), text: String::new() }
            }
        }
    }
}

/// Takes over what the nodes say. What was counted stays so when a node is taken away.
fn count(after: &mut KeyRotationStatus, (sent, lost): (u64, u64)) {
    let before = (after.probes.unwrap_or_default(), after.lost.unwrap_or_default());
    let (sent, lost) = (before.0.max(sent.min(MOST)), before.1.max(lost.min(MOST)));
    if sent > 0 {
        (after.probes, after.lost) = (Some(sent), Some(lost));
    }
}

/// The status of a rotation that is over, once the nodes have said what they counted to its end;
/// none if it says so already.
pub(super) fn counted(object: &KeyRotation, probes: (u64, u64)) -> Option<KeyRotationStatus> {
    let before = object.status.clone().unwrap_or_default();
    let mut after = before.clone();
    count(&mut after, probes);
    (after != before).then_some(after)
}

/// What is worth an event: an end, a refusal, a stall.
pub(super) fn notice(object: &KeyRotation, after: &KeyRotationStatus) -> Option<Notice> {
    let before = object.status.clone().unwrap_or_default();
    let text = |status: &KeyRotationStatus| {
        let condition = conditions::get(&status.conditions, "Progressing");
        condition.map(|c| c.message.clone()).unwrap_or_default()
    };
    let name = object.name_any();
    if after.phase != before.phase && after.phase.is_some_and(Phase::is_over) {
        let phase = after.phase.map(|phase| phase.to_string()).unwrap_or_default();
        let (epoch, done) =
            (after.epoch.unwrap_or_default(), after.done.clone().unwrap_or_default());
        let warning = after.phase == Some(Phase::Refused);
        let (reason, note) = match after.phase {
            Some(Phase::Completed) => ("KeyRotated", format!("{done} nodes on epoch {epoch}")),
            Some(Phase::Refused) => ("KeyRotationRefused", text(after)),
            _ => ("KeyRotationEnded", format!("{phase}, {done} nodes on epoch {epoch}")),
        };
        return Some(Notice {
            warning,
            reason: reason.to_owned(),
            note: format!("{name}: {note}"),
        });
    }
    let stalls = |status: &KeyRotationStatus| conditions::holds(&status.conditions, "Stalled");
    (stalls(after) && !stalls(&before)).then(|| Notice {
        warning: true,
        reason: "KeyRotationStalled".to_owned(),
        note: format!("{name}: {}", text(after)),
    })
}
