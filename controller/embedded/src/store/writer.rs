//! The one thread that changes anything: decides in order, commits in groups, then answers.

use super::{Change, Disk, Event, Key, Object, Shared};
use crate::status::Status;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// How many writes share one commit at most.
const BATCH: usize = 512;

type Decide = Box<dyn FnOnce(Option<&Object>, u64) -> Result<Decision, Status> + Send>;

type Reply = Result<Written, Status>;

/// One waiting write.
pub(super) struct Job {
    pub(super) key: Key,
    pub(super) decide: Decide,
    pub(super) reply: oneshot::Sender<Reply>,
}

/// What becomes of an object.
#[derive(Debug)]
pub(crate) enum Decision {
    /// Nothing to write: it is already so.
    Same,
    /// A dry run: this is what would be there.
    Answer(Value),
    Put(Value),
    /// The last state of an object that goes.
    Remove(Value),
}

/// The outcome, once it is on disk.
#[derive(Debug)]
pub(crate) enum Written {
    /// It is there, like this.
    Stored(Arc<Object>),
    /// It is gone; this was the last of it.
    Removed(Arc<Object>),
}

impl Written {
    pub(crate) fn object(&self) -> &Arc<Object> {
        match self {
            Written::Stored(object) | Written::Removed(object) => object,
        }
    }
}

/// A batch under way: what it has decided, not yet on disk.
struct Batch<'a> {
    shared: &'a Shared,
    version: u64,
    changed: HashMap<Key, Option<Arc<Object>>>,
    events: Vec<Arc<Event>>,
    answers: Vec<(oneshot::Sender<Reply>, Reply)>,
}

/// Runs until every sender is gone, or the disk fails.
pub(super) fn run(shared: &Shared, disk: &Disk, mut jobs: mpsc::Receiver<Job>) {
    while let Some(first) = jobs.blocking_recv() {
        let mut batch = Batch::new(shared);
        batch.decide(first);
        while batch.answers.len() < BATCH
            && let Ok(job) = jobs.try_recv()
        {
            batch.decide(job);
        }
        if let Err(error) = batch.commit(disk) {
            tracing::error!(%error, "the store cannot write; stopping");
            return;
        }
    }
}

impl<'a> Batch<'a> {
    fn new(shared: &'a Shared) -> Batch<'a> {
        let version = shared.read().version;
        let (changed, events, answers) = Default::default();
        Batch { shared, version, changed, events, answers }
    }

    fn decide(&mut self, job: Job) {
        let Job { key, decide, reply } = job;
        let current = match self.changed.get(&key) {
            Some(changed) => changed.clone(),
            None => self.shared.read().objects.get(&key).cloned(),
        };
        let outcome = decide(current.as_deref(), self.version + 1)
            .and_then(|decision| self.take(key, current, decision));
        self.answers.push((reply, outcome));
    }

    fn take(
        &mut self,
        key: Key,
        current: Option<Arc<Object>>,
        decision: Decision,
    ) -> Result<Written, Status> {
        match decision {
            Decision::Same => current.map(Written::Stored).ok_or_else(Status::no_such_path),
            Decision::Answer(value) => Ok(Written::Stored(Arc::new(Object::new(value)))),
            Decision::Put(value) => {
                let change = if current.is_some() { Change::Modified } else { Change::Added };
                Ok(Written::Stored(self.change(key, change, value, current.as_deref())))
            }
            Decision::Remove(value) => {
                Ok(Written::Removed(self.change(key, Change::Deleted, value, current.as_deref())))
            }
        }
    }

    fn change(
        &mut self,
        key: Key,
        change: Change,
        mut value: Value,
        old: Option<&Object>,
    ) -> Arc<Object> {
        self.version += 1;
        value["metadata"]["resourceVersion"] = self.version.to_string().into();
        let old = old.map(|object| &object.value);
        let event = Arc::new(Event::new(self.version, key.clone(), change, &value, old));
        let object = Arc::new(Object { json: event.json(), value });
        let left = (change != Change::Deleted).then(|| object.clone());
        self.changed.insert(key, left);
        self.events.push(event);
        object
    }

    /// Disk, then memory, then the answers: nobody sees what a crash could take back.
    fn commit(self, disk: &Disk) -> Result<(), super::DiskError> {
        let trim_to = self.shared.read().ring.excess();
        if let Err(error) = disk.commit(&self.events, trim_to) {
            for (reply, _) in self.answers {
                // The client may have gone; there is nobody left to tell.
                let _ = reply.send(Err(super::stopped()));
            }
            return Err(error);
        }
        if !self.events.is_empty() {
            publish(self.shared, self.changed, self.events, trim_to);
        }
        for (reply, outcome) in self.answers {
            // The client may have gone; what it asked for is done all the same.
            let _ = reply.send(outcome);
        }
        Ok(())
    }
}

fn publish(
    shared: &Shared,
    changed: HashMap<Key, Option<Arc<Object>>>,
    events: Vec<Arc<Event>>,
    trim_to: Option<u64>,
) {
    let mut state = shared.write();
    for (key, object) in changed {
        match object {
            Some(object) => state.objects.insert(key, object),
            None => state.objects.remove(&key),
        };
    }
    if let Some(oldest) = trim_to {
        state.ring.trim(oldest);
    }
    for event in events {
        state.version = event.version;
        state.ring.push(event);
    }
    let version = state.version;
    drop(state);
    shared.head.send_replace(version);
}
