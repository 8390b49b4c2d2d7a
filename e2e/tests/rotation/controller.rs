//! A controller: reads, decides, and writes one thing after the other, any of which may be the last.

use std::collections::BTreeSet;

use ::controller::rotate::{Next, Progress, Refusal, World, Write, away, next, tidy};
use jiff::{SignedDuration, Timestamp};
use keys::KeyEpoch;

use crate::server::{Conflict, Server};
use crate::world::Fault;

enum Action {
    Claim(String, KeyEpoch),
    Release,
    Keep(String, Progress),
    Refuse(String, Refusal),
    Write(Write),
}

/// One of two that may both believe to be in charge.
#[derive(Default)]
pub(crate) struct Controller {
    /// What it decided on, and when by its own clock.
    read: Option<(Server, Timestamp)>,
    queue: Vec<Action>,
    /// How far its clock is off.
    pub(crate) skew: SignedDuration,
}

impl Controller {
    /// One read with its decision, or one write. True if it did something.
    pub(crate) fn step(&mut self, server: &mut Server, now: Timestamp, fault: Fault) -> bool {
        if self.queue.is_empty() {
            let read = server.clone();
            let now = now.saturating_add(self.skew).unwrap_or(now);
            self.queue = decide(&read, now, fault);
            self.read = Some((read, now));
            return !self.queue.is_empty();
        }
        let (read, _) = self.read.as_ref().unwrap();
        let done = match self.queue.remove(0) {
            Action::Claim(uid, epoch) => server.claim(&uid, epoch, read),
            Action::Release => server.release(read),
            Action::Keep(uid, progress) => server.keep(&uid, progress, read),
            Action::Refuse(uid, refusal) => server.refuse(&uid, refusal, read),
            Action::Write(write) => server.write(&write, read),
        };
        if let Err(Conflict) = done {
            self.queue.clear();
        }
        true
    }

    /// Whom it took for away when it decided, if the deadline was over by then.
    pub(crate) fn passed_by(&self) -> BTreeSet<String> {
        let Some((read, at)) = &self.read else { return BTreeSet::new() };
        let mut open = read.open().filter_map(|stored| stored.rotation.progress.as_ref());
        let late = open.any(|progress| *at >= progress.deadline);
        if late { away(&read.world()) } else { BTreeSet::new() }
    }

    pub(crate) fn crash(&mut self) {
        self.queue.clear();
    }
}

fn decide(read: &Server, now: Timestamp, fault: Fault) -> Vec<Action> {
    let mut world = read.world();
    if fault == Fault::SilenceIsAbsence {
        forget_the_silent(&mut world, read);
    }
    if let Some(running) = &read.running
        && !read.open().any(|stored| stored.rotation.uid == running.uid)
    {
        return vec![Action::Release];
    }
    let mut actions: Vec<Action> = tidy(&world).into_iter().map(Action::Write).collect();
    if !actions.is_empty() {
        return actions;
    }
    for stored in read.open() {
        let uid = stored.rotation.uid.clone();
        match next(&stored.rotation, &world, now) {
            Next::Begin(progress) => {
                actions.push(Action::Claim(uid.clone(), progress.epoch));
                actions.push(Action::Keep(uid, progress));
                // Only one claim can be made of one read.
                break;
            }
            Next::Write(writes) => actions.extend(writes.into_iter().map(Action::Write)),
            Next::Move(progress) => actions.push(Action::Keep(uid, progress)),
            Next::Refuse(refusal) => actions.push(Action::Refuse(uid, refusal)),
            Next::Pend(_) | Next::Wait(_) | Next::Rest => {}
        }
    }
    actions
}

/// A controller that does not wait for those who do not answer.
fn forget_the_silent(world: &mut World, read: &Server) {
    let wave = read.open().filter_map(|s| Some(s.rotation.progress.as_ref()?.wave.number)).max();
    let silent: Vec<String> = (world.nodes.iter())
        .filter(|(_, node)| node.confirmed.as_ref().map(|c| c.wave) != wave)
        .map(|(name, _)| name.clone())
        .take(world.nodes.len() / 2)
        .collect();
    for node in world.nodes.values_mut() {
        node.unreachable.extend(silent.iter().cloned());
    }
}
