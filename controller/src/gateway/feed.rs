//! One kind's objects in memory, and their latest changes: what all machines list and watch from.
//!
//! However many machines watch, the API server sees one watch a kind and replica. Versions are the
//! API server's own, so that a machine which was cut off goes on at another replica.
//!
//! ```text
//! follow.rs ─▶ replace, put, remove, advance ─▶ objects + ring of encoded events ─▶ door.rs
//! ```

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::Value;
use tokio::sync::watch;

/// Changes that are kept for those who were cut off.
const KEPT: usize = 8192;

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Added,
    Modified,
    Deleted,
}

impl Change {
    fn word(self) -> &'static str {
        match self {
            Change::Added => "ADDED",
            Change::Modified => "MODIFIED",
            Change::Deleted => "DELETED",
        }
    }
}

/// The watcher is too far behind, or comes from another history: it must list again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooOld;

/// What a watcher gets next.
#[derive(Debug, Default)]
pub(super) struct Next {
    /// Lines of a watch.
    pub(super) lines: Vec<Bytes>,
    /// Where to go on.
    pub(super) cursor: u64,
    /// The version that all of that leads to.
    pub(super) version: u64,
}

/// One kind.
#[derive(Debug)]
pub(super) struct Feed {
    inner: Mutex<Inner>,
    head: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Inner {
    objects: BTreeMap<String, Kept>,
    /// By version; cursors count them.
    ring: VecDeque<(u64, Bytes)>,
    /// The cursor of the ring's first event.
    first: u64,
    /// Whoever has seen this version misses nothing that is not in the ring.
    oldest: u64,
    version: u64,
    listed: bool,
    /// The list as it was last sent.
    body: Option<(u64, Bytes)>,
}

#[derive(Debug)]
struct Kept {
    version: u64,
    json: Bytes,
}

impl Feed {
    pub(super) fn new() -> Feed {
        Feed { inner: Mutex::default(), head: watch::Sender::new(0) }
    }

    /// Rings at every change.
    pub(super) fn head(&self) -> watch::Receiver<u64> {
        self.head.subscribe()
    }

    pub(super) fn is_listed(&self) -> bool {
        self.lock().listed
    }

    pub(super) fn version(&self) -> u64 {
        self.lock().version
    }

    pub(super) fn get(&self, name: &str) -> Option<Bytes> {
        self.lock().objects.get(name).map(|kept| kept.json.clone())
    }

    /// All objects as they are.
    pub(super) fn all(&self) -> Vec<Bytes> {
        self.lock().objects.values().map(|kept| kept.json.clone()).collect()
    }

    /// The body of a list. Encoded once for all who ask at one version.
    pub(super) fn list(&self, api_version: &str, kind: &str) -> Bytes {
        let mut inner = self.lock();
        let version = inner.version;
        if let Some((of, body)) = &inner.body
            && *of == version
        {
            return body.clone();
        }
        let length = inner.objects.values().map(|kept| kept.json.len() + 1).sum::<usize>();
        let mut body = BytesMut::with_capacity(length + 256);
        let head = format!(
            r#"{{"kind":"{kind}List","apiVersion":"{api_version}","metadata":{{"resourceVersion":"{version}"}},"items":["#
        );
        body.put_slice(head.as_bytes());
        for (at, kept) in inner.objects.values().enumerate() {
            if at > 0 {
                body.put_u8(b',');
            }
            body.put_slice(&kept.json);
        }
        body.put_slice(b"]}");
        let body = body.freeze();
        inner.body = Some((version, body.clone()));
        body
    }

    /// Where a watcher that has seen `version` goes on; `None`: everything there is comes first.
    pub(super) fn begin(&self, version: Option<u64>) -> Result<Next, TooOld> {
        let inner = self.lock();
        let end = inner.end();
        let Some(version) = version else {
            let lines = inner.objects.values().map(|kept| line(Change::Added, &kept.json));
            let lines = lines.collect();
            return Ok(Next { lines, cursor: end, version: inner.version });
        };
        if version < inner.oldest || version > inner.version {
            return Err(TooOld);
        }
        let seen = inner.ring.partition_point(|(of, _)| *of <= version);
        let cursor = inner.first + seen as u64;
        Ok(Next { lines: Vec::new(), cursor, version })
    }

    /// At most `most` lines from `cursor` on.
    pub(super) fn after(&self, cursor: u64, most: usize) -> Result<Next, TooOld> {
        let inner = self.lock();
        let Some(skip) = cursor.checked_sub(inner.first) else {
            return Err(TooOld);
        };
        let skip = usize::try_from(skip).map_err(|_| TooOld)?;
        let waiting = inner.ring.len().checked_sub(skip).ok_or(TooOld)?;
        let taken: Vec<_> = inner.ring.iter().skip(skip).take(most).collect();
        let version = match taken.last() {
            Some((version, _)) if waiting > most => *version,
            _ => inner.version,
        };
        let lines: Vec<Bytes> = taken.into_iter().map(|(_, line)| line.clone()).collect();
        Ok(Next { cursor: cursor + lines.len() as u64, lines, version })
    }

    /// Everything anew, as a list said it. What differs becomes events, so that nobody has to list
    /// again; a version that went back begins another history, and then everybody has to.
    pub(super) fn replace(&self, objects: Vec<Value>, version: u64) {
        let mut inner = self.lock();
        let restarted = inner.listed && version < inner.version;
        if !inner.listed || restarted {
            inner.first = inner.end() + 1;
            inner.ring.clear();
            inner.objects.clear();
            inner.oldest = version;
            for object in objects {
                inner.keep(object, version);
            }
        } else {
            inner.merge(objects, version);
        }
        inner.version = version;
        inner.listed = true;
        inner.body = None;
        drop(inner);
        self.ring_the_bell();
    }

    pub(super) fn put(&self, object: Value) {
        let mut inner = self.lock();
        if let Some((change, version, json)) = inner.keep(object, 0) {
            inner.push(version, line(change, &json));
        }
        drop(inner);
        self.ring_the_bell();
    }

    pub(super) fn remove(&self, object: Value) {
        let mut inner = self.lock();
        let name = name_of(&object).to_owned();
        let version = version_of(&object).unwrap_or(inner.version);
        if inner.objects.remove(&name).is_some() {
            inner.push(version, line(Change::Deleted, &encode(object)));
        }
        drop(inner);
        self.ring_the_bell();
    }

    /// Nothing more happened up to this version.
    pub(super) fn advance(&self, version: u64) {
        let mut inner = self.lock();
        inner.version = inner.version.max(version);
    }

    fn ring_the_bell(&self) {
        self.head.send_modify(|count| *count += 1);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn end(&self) -> u64 {
        self.first + self.ring.len() as u64
    }

    /// Takes an object over, and says what that was; nothing if it is known as it is.
    fn keep(&mut self, object: Value, or: u64) -> Option<(Change, u64, Bytes)> {
        let name = name_of(&object).to_owned();
        let version = version_of(&object).unwrap_or(or);
        let change = match self.objects.get(&name) {
            Some(kept) if kept.version == version => return None,
            Some(_) => Change::Modified,
            None => Change::Added,
        };
        let json = encode(object);
        self.objects.insert(name, Kept { version, json: json.clone() });
        Some((change, version, json))
    }

    /// Differences as events in the order of their versions; deletions come last.
    fn merge(&mut self, objects: Vec<Value>, version: u64) {
        let names: HashSet<String> = objects.iter().map(|o| name_of(o).to_owned()).collect();
        let mut changed: Vec<_> =
            objects.into_iter().filter_map(|object| self.keep(object, version)).collect();
        changed.sort_by_key(|(_, version, _)| *version);
        for (change, version, json) in changed {
            self.push(version, line(change, &json));
        }
        let gone: Vec<String> =
            self.objects.keys().filter(|name| !names.contains(*name)).cloned().collect();
        for name in gone {
            let Some(kept) = self.objects.remove(&name) else { continue };
            let mut last: Value = serde_json::from_slice(&kept.json).unwrap_or_default();
            last["metadata"]["resourceVersion"] = version.to_string().into();
            self.push(version, line(Change::Deleted, &encode(last)));
        }
    }

    fn push(&mut self, version: u64, line: Bytes) {
        self.version = self.version.max(version);
        self.body = None;
        self.ring.push_back((version, line));
        while self.ring.len() > KEPT {
            if let Some((version, _)) = self.ring.pop_front() {
                self.oldest = version;
                self.first += 1;
            }
        }
    }
}

fn line(change: Change, json: &[u8]) -> Bytes {
    let word = change.word();
    let mut line = BytesMut::with_capacity(json.len() + 40);
    line.put_slice(format!(r#"{{"type":"{word}","object":"#).as_bytes());
    line.put_slice(json);
    line.put_slice(b"}\n");
    line.freeze()
}

/// Without what no machine reads.
fn encode(mut object: Value) -> Bytes {
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("managedFields");
    }
    object.to_string().into()
}

fn name_of(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

/// The version of an object or a list. Kubernetes lets clients compare them as numbers.
pub(super) fn version_of(object: &Value) -> Option<u64> {
    object["metadata"]["resourceVersion"].as_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(name: &str, version: u64) -> Value {
        json!({"metadata": {"name": name, "resourceVersion": version.to_string(),
            "managedFields": [{}]}})
    }

    fn seen(next: &Next) -> Vec<String> {
        let read = |line: &Bytes| {
            let event: Value = serde_json::from_slice(line).unwrap();
            let metadata = &event["object"]["metadata"];
            assert!(metadata["managedFields"].is_null());
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            let (kind, name) = (text(&event["type"]), text(&metadata["name"]));
            format!("{kind} {name} {}", text(&metadata["resourceVersion"]))
        };
        next.lines.iter().map(read).collect()
    }

    fn from(feed: &Feed, version: u64) -> Vec<String> {
        let begun = feed.begin(Some(version)).unwrap();
        seen(&feed.after(begun.cursor, 100).unwrap())
    }

    #[test]
    fn whoever_was_cut_off_goes_on_where_it_was() {
        let feed = Feed::new();
        feed.replace(vec![object("a", 5), object("b", 7)], 10);

        feed.put(object("a", 11));
        feed.put(object("c", 12));
        feed.remove(object("b", 13));

        assert_eq!(from(&feed, 10), ["MODIFIED a 11", "ADDED c 12", "DELETED b 13"]);
        assert_eq!(from(&feed, 12), ["DELETED b 13"]);
        assert_eq!(from(&feed, 13), Vec::<String>::new());
        assert_eq!(feed.begin(Some(9)).unwrap_err(), TooOld);
        assert_eq!(feed.begin(Some(14)).unwrap_err(), TooOld);
        assert_eq!(seen(&feed.begin(None).unwrap()), ["ADDED a 11", "ADDED c 12"]);
    }

    #[test]
    fn a_list_after_a_gap_tells_only_what_differs() {
        let feed = Feed::new();
        feed.replace(vec![object("a", 5), object("b", 7), object("c", 8)], 10);
        let watcher = feed.begin(Some(10)).unwrap();

        feed.replace(vec![object("d", 31), object("b", 7), object("a", 22)], 40);

        let next = feed.after(watcher.cursor, 100).unwrap();
        assert_eq!(seen(&next), ["MODIFIED a 22", "ADDED d 31", "DELETED c 40"]);
        assert_eq!(next.version, 40);
        // Cut off after the first of them: nothing is missed.
        assert_eq!(from(&feed, 22), ["ADDED d 31", "DELETED c 40"]);
    }

    #[test]
    fn another_history_makes_everybody_list_again() {
        let feed = Feed::new();
        feed.replace(vec![object("a", 5)], 100);
        feed.put(object("b", 101));
        let watcher = feed.begin(Some(100)).unwrap();

        feed.replace(vec![object("a", 3)], 7);

        assert_eq!(feed.after(watcher.cursor, 100).unwrap_err(), TooOld);
        assert_eq!(feed.begin(Some(101)).unwrap_err(), TooOld);
        assert_eq!(seen(&feed.begin(None).unwrap()), ["ADDED a 3"]);
    }

    #[test]
    fn a_slow_watcher_is_told_to_list_again_and_memory_stays_bounded() {
        let feed = Feed::new();
        feed.replace(Vec::new(), 1);
        let slow = feed.begin(Some(1)).unwrap();

        for version in 2..20_000 {
            feed.put(object("a", version));
        }

        assert_eq!(feed.after(slow.cursor, 100).unwrap_err(), TooOld);
        assert_eq!(feed.lock().ring.len(), KEPT);
        assert_eq!(from(&feed, 19_998), ["MODIFIED a 19999"]);
    }

    #[test]
    fn a_long_way_is_gone_in_pieces() {
        let feed = Feed::new();
        feed.replace(Vec::new(), 1);
        for version in 2..12 {
            feed.put(object(&format!("n{version}"), version));
        }

        let first = feed.after(feed.begin(Some(1)).unwrap().cursor, 4).unwrap();
        let rest = feed.after(first.cursor, 100).unwrap();

        assert_eq!((first.lines.len(), first.version), (4, 5));
        assert_eq!((rest.lines.len(), rest.version), (6, 11));
    }

    #[test]
    fn a_list_is_one_document_with_its_version() {
        let feed = Feed::new();
        feed.replace(vec![object("a", 5), object("b", 7)], 10);

        let list: Value = serde_json::from_slice(&feed.list("g/v", "Thing")).unwrap();

        assert_eq!(list["kind"], "ThingList");
        assert_eq!(list["metadata"]["resourceVersion"], "10");
        assert_eq!(list["items"][1]["metadata"]["name"], "b");
        feed.put(object("c", 11));
        assert!(feed.list("g/v", "Thing").len() > 100);
    }
}
