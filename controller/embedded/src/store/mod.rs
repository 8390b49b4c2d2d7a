//! Everything that is stored: in memory to read, on disk before anybody is told.
//!
//! ```text
//! submit(key, decide) → queue → one writer thread: decide, decide, … → one redb transaction
//!                                                       → memory and ring → answers and watchers
//! ```
//!
//! Reads never touch the file. What memory shows is on disk.

mod disk;
mod object;
mod pages;
mod ring;
#[cfg(test)]
mod tests;
mod writer;

pub use disk::DiskError;
pub(crate) use disk::{Disk, FILE, Loaded, Lock, sync_directory};
pub(crate) use object::{Key, Object};
pub(crate) use pages::{Page, Pages};
pub(crate) use ring::{Change, Event, TooOld};
pub(crate) use writer::{Decision, Written};

use crate::status::Status;
use jiff::Timestamp;
use ring::Ring;
use std::collections::BTreeMap;
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::sync::{mpsc, oneshot, watch};
use writer::Job;

/// Writes that may wait; one more is told to come back (429).
const QUEUE: usize = 4096;

/// What the last commit left.
#[derive(Debug, Default)]
struct State {
    version: u64,
    objects: BTreeMap<Key, Arc<Object>>,
    ring: Ring,
}

#[derive(Debug)]
struct Shared {
    state: RwLock<State>,
    head: watch::Sender<u64>,
}

impl Shared {
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().expect("nothing panics while it holds the state")
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().expect("nothing panics while it holds the state")
    }
}

/// The objects of all kinds, and the one way to change them.
#[derive(Debug)]
pub(crate) struct Store {
    shared: Arc<Shared>,
    disk: Arc<Disk>,
    queue: Option<mpsc::Sender<Job>>,
    writer: Option<std::thread::JoinHandle<()>>,
}

/// A list: the objects and the version that they all belong to.
#[derive(Debug)]
pub(crate) struct Listing {
    pub(crate) version: u64,
    pub(crate) objects: Vec<Arc<Object>>,
}

impl Store {
    /// Loads what the disk holds and starts the writer.
    pub(crate) fn open(disk: Disk) -> Result<Store, DiskError> {
        let loaded = disk.load()?;
        let mut state = State { version: loaded.version, ..State::default() };
        state.objects.extend(loaded.objects);
        state.ring = Ring::new(loaded.oldest);
        for event in loaded.events {
            state.ring.push(Arc::new(event));
        }
        let head = watch::Sender::new(state.version);
        let shared = Arc::new(Shared { state: RwLock::new(state), head });
        let disk = Arc::new(disk);
        let (queue, jobs) = mpsc::channel(QUEUE);
        let writer = {
            let (shared, disk) = (shared.clone(), disk.clone());
            std::thread::Builder::new()
                .name("store-writer".to_owned())
                .spawn(move || writer::run(&shared, &disk, jobs))
                .map_err(DiskError::Thread)?
        };
        Ok(Store { shared, disk, queue: Some(queue), writer: Some(writer) })
    }

    /// Asks the writer to decide over one object, and waits until the outcome is on disk.
    ///
    /// `decide` sees the current object and the version that a change will get.
    pub(crate) async fn submit(
        &self,
        key: Key,
        decide: impl FnOnce(Option<&Object>, u64) -> Result<Decision, Status> + Send + 'static,
    ) -> Result<Written, Status> {
        let (reply, answer) = oneshot::channel();
        let job = Job { key, decide: Box::new(decide), reply };
        let queue = self.queue.as_ref().expect("the queue is there until the store is dropped");
        queue.try_send(job).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Status::busy(),
            mpsc::error::TrySendError::Closed(_) => stopped(),
        })?;
        answer.await.unwrap_or_else(|_| Err(stopped()))
    }

    pub(crate) fn get(&self, key: &Key) -> Option<Arc<Object>> {
        self.shared.read().objects.get(key).cloned()
    }

    pub(crate) fn version(&self) -> u64 {
        self.shared.read().version
    }

    /// All objects of a kind, in one namespace or (empty) in all, sorted by name.
    pub(crate) fn list(&self, kind: &str, namespace: &str) -> Listing {
        let state = self.shared.read();
        let prefix = Key::prefix(kind, namespace);
        let objects = state
            .objects
            .range(prefix.clone()..)
            .take_while(|(key, _)| key.starts_with(&prefix))
            .map(|(_, object)| object.clone())
            .collect();
        Listing { version: state.version, objects }
    }

    /// Up to `limit` events after `version`, and the version that they lead to.
    pub(crate) fn events_after(
        &self,
        version: u64,
        limit: usize,
    ) -> Result<(Vec<Arc<Event>>, u64), TooOld> {
        let state = self.shared.read();
        if version > state.version {
            return Err(TooOld);
        }
        let events = state.ring.after(version, limit)?;
        let reached = match events.last() {
            Some(last) if events.len() == limit => last.version,
            _ => state.version,
        };
        Ok((events, reached))
    }

    /// Changes at each commit; closed when the writer has stopped.
    pub(crate) fn head(&self) -> watch::Receiver<u64> {
        self.shared.head.subscribe()
    }

    /// True once nothing can be written any more: the disk failed.
    pub(crate) fn is_stopped(&self) -> bool {
        self.queue.as_ref().is_none_or(mpsc::Sender::is_closed)
    }

    /// Resolves when the writer has stopped because the disk failed.
    pub(crate) async fn stopped(&self) {
        if let Some(queue) = &self.queue {
            queue.closed().await;
        }
    }

    pub(crate) fn disk(&self) -> &Arc<Disk> {
        &self.disk
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the store's writer panicked");
        }
    }
}

/// Where a new history begins to count: above whatever an earlier one can have reached, for it
/// grew by one a write and this grows by a million a second.
pub(crate) fn first_version(now: Timestamp) -> u64 {
    u64::try_from(now.as_second()).unwrap_or(0) << 20
}

fn stopped() -> Status {
    Status::unavailable("the store has stopped writing; see the server's log for the disk's error")
}
