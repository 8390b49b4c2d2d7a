//! The last committed events, shared by all watchers, each encoded once.
//!
//! A watcher is a version number. One that fell behind `oldest` has missed something and must list
//! again; nothing is ever buffered for it.

use super::Key;
use bytes::Bytes;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::Arc;

/// How many events are kept, in memory and on disk.
pub(super) const KEPT: usize = 20_000;
/// How many bytes of them.
pub(super) const KEPT_BYTES: usize = 64 << 20;
/// How far either may be exceeded, so that not every commit trims.
const SLACK: usize = 1_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Added,
    Modified,
    Deleted,
}

impl Change {
    /// How the line of such an event begins.
    const fn opening(self) -> &'static str {
        match self {
            Change::Added => r#"{"type":"ADDED","object":"#,
            Change::Modified => r#"{"type":"MODIFIED","object":"#,
            Change::Deleted => r#"{"type":"DELETED","object":"#,
        }
    }

    pub(super) const fn code(self) -> u8 {
        match self {
            Change::Added => 0,
            Change::Modified => 1,
            Change::Deleted => 2,
        }
    }

    pub(super) fn from_code(code: u8) -> Change {
        match code {
            0 => Change::Added,
            1 => Change::Modified,
            _ => Change::Deleted,
        }
    }

    /// One line of a watch.
    pub(crate) fn line(self, object: &[u8]) -> Bytes {
        let opening = self.opening();
        let mut line = Vec::with_capacity(opening.len() + object.len() + CLOSING.len());
        line.extend_from_slice(opening.as_bytes());
        line.extend_from_slice(object);
        line.extend_from_slice(CLOSING.as_bytes());
        Bytes::from(line)
    }
}

const CLOSING: &str = "}\n";

/// One committed change.
#[derive(Debug, PartialEq)]
pub(crate) struct Event {
    pub(crate) version: u64,
    pub(crate) key: Key,
    pub(crate) change: Change,
    /// As it is sent to whoever asked for plain JSON.
    pub(crate) line: Bytes,
    /// What selectors look at, after and before.
    pub(crate) subject: Value,
    pub(crate) old_subject: Option<Value>,
}

impl Event {
    pub(crate) fn new(
        version: u64,
        key: Key,
        change: Change,
        object: &Value,
        old: Option<&Value>,
    ) -> Event {
        let line = change.line(object.to_string().as_bytes());
        let subject = subject_of(object);
        Event { version, key, change, line, subject, old_subject: old.map(subject_of) }
    }

    /// The object alone, without a copy.
    pub(crate) fn json(&self) -> Bytes {
        self.line.slice(self.change.opening().len()..self.line.len() - CLOSING.len())
    }
}

/// The part of an object that selectors can ask for. Events are small and can be asked for any
/// of their fields.
pub(super) fn subject_of(object: &Value) -> Value {
    if object["kind"] == "Event" {
        return object.clone();
    }
    let metadata = &object["metadata"];
    json!({"metadata": {
        "name": metadata["name"], "namespace": metadata["namespace"], "labels": metadata["labels"],
    }})
}

/// The events after the asked version are not all there, or never were.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooOld;

#[derive(Debug, Default)]
pub(crate) struct Ring {
    events: VecDeque<Arc<Event>>,
    oldest: u64,
    bytes: usize,
}

impl Ring {
    /// `oldest`: every change after this version is (or will be) here.
    pub(super) fn new(oldest: u64) -> Ring {
        Ring { oldest, ..Ring::default() }
    }

    pub(super) fn push(&mut self, event: Arc<Event>) {
        self.bytes += event.line.len();
        self.events.push_back(event);
    }

    /// The version that `trim` should be told, if there is too much.
    pub(super) fn excess(&self) -> Option<u64> {
        if self.events.len() <= KEPT + SLACK && self.bytes <= KEPT_BYTES + KEPT_BYTES / 16 {
            return None;
        }
        let (mut events, mut bytes) = (self.events.len(), self.bytes);
        let mut up_to = self.oldest;
        for event in &self.events {
            if events <= KEPT && bytes <= KEPT_BYTES {
                break;
            }
            events -= 1;
            bytes -= event.line.len();
            up_to = event.version;
        }
        Some(up_to)
    }

    /// Forgets the events up to and including this version.
    pub(super) fn trim(&mut self, up_to: u64) {
        let gone = self.events.partition_point(|event| event.version <= up_to);
        for event in self.events.drain(..gone) {
            self.bytes -= event.line.len();
        }
        self.oldest = self.oldest.max(up_to);
    }

    pub(super) fn after(&self, version: u64, limit: usize) -> Result<Vec<Arc<Event>>, TooOld> {
        if version < self.oldest {
            return Err(TooOld);
        }
        let start = self.events.partition_point(|event| event.version <= version);
        Ok(self.events.range(start..).take(limit).cloned().collect())
    }
}
