//! One machine's watch: lines from a feed until its time is over, or the machine is out.

use std::sync::Arc;
use std::time::Duration;

use api::{GROUP, VERSION};
use bytes::{Bytes, BytesMut};
use futures::Stream;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::watch::Receiver;
use tokio::time::{Instant, sleep_until};

use super::follow::{Feeds, Kind};
use super::members::OpenWatch;

/// An idle watch says how far it is.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// No watch is longer, whatever it asks for.
const LONGEST: u64 = 3600;
const DEFAULT: u64 = 1800;
/// Lines that are sent at once.
const CHUNK: usize = 256;

/// What is asked for.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) kind: Kind,
    /// What the machine has seen; none: it wants everything first.
    pub(super) version: Option<u64>,
    pub(super) seconds: Option<u64>,
    pub(super) bookmarks: bool,
    /// The certificate's end.
    pub(super) until: Timestamp,
}

struct Watching {
    feeds: Arc<Feeds>,
    open: OpenWatch,
    kind: Kind,
    bookmarks: bool,
    head: Receiver<u64>,
    cursor: u64,
    version: u64,
    deadline: Instant,
    bookmark_at: Instant,
    /// What comes before anything else.
    first: Option<Bytes>,
    ended: bool,
}

/// The lines of a watch.
pub(super) fn lines(
    feeds: Arc<Feeds>,
    open: OpenWatch,
    ask: Ask,
) -> impl Stream<Item = Bytes> + Send + 'static {
    let Ask { kind, version, seconds, bookmarks, until } = ask;
    let now = Instant::now();
    let asked = Duration::from_secs(seconds.unwrap_or(DEFAULT).min(LONGEST));
    let valid = Duration::try_from(until - Timestamp::now()).unwrap_or_default();
    let head = feeds.of(kind).head();
    let (begun, too_old) = match feeds.of(kind).begin(version) {
        Ok(begun) => (begun, None),
        Err(_) => (Default::default(), Some(too_old(version))),
    };
    let ended = too_old.is_some();
    let first = too_old.or_else(|| (!begun.lines.is_empty()).then(|| joined(&begun.lines)));
    let watching = Watching {
        open,
        kind,
        bookmarks,
        head,
        cursor: begun.cursor,
        version: begun.version,
        deadline: now + asked.min(valid),
        bookmark_at: now + BOOKMARK_EVERY,
        first,
        ended,
        feeds,
    };
    futures::stream::unfold(watching, Watching::next)
}

impl Watching {
    async fn next(mut self) -> Option<(Bytes, Self)> {
        if let Some(first) = self.first.take() {
            return Some((first, self));
        }
        while !self.ended {
            if let Some(lines) = self.ready() {
                return Some((lines, self));
            }
            self.wait().await;
        }
        None
    }

    /// What can be sent now.
    fn ready(&mut self) -> Option<Bytes> {
        if *self.open.out.borrow() {
            self.ended = true;
            return Some(error(401, "Unauthorized", "this node is revoked or gone"));
        }
        drop(self.head.borrow_and_update());
        let Ok(next) = self.feeds.of(self.kind).after(self.cursor, CHUNK) else {
            self.ended = true;
            return Some(too_old(Some(self.version)));
        };
        (self.cursor, self.version) = (next.cursor, next.version);
        if !next.lines.is_empty() {
            return Some(joined(&next.lines));
        }
        let now = Instant::now();
        self.ended = now >= self.deadline;
        if now < self.bookmark_at && !self.ended {
            return None;
        }
        self.bookmark_at = now + BOOKMARK_EVERY;
        self.bookmarks.then(|| self.bookmark())
    }

    async fn wait(&mut self) {
        let wake = self.deadline.min(self.bookmark_at);
        tokio::select! {
            changed = self.head.changed() => self.ended |= changed.is_err(),
            // Its sender goes together with the node, and has said so before.
            _ = self.open.out.changed() => {}
            () = sleep_until(wake) => {}
        }
    }

    fn bookmark(&self) -> Bytes {
        let object = json!({
            "kind": self.kind.name(), "apiVersion": format!("{GROUP}/{VERSION}"),
            "metadata": {"resourceVersion": self.version.to_string()},
        });
        event("BOOKMARK", &object)
    }
}

/// One line is shared by all who get it; several are put together.
fn joined(lines: &[Bytes]) -> Bytes {
    if let [only] = lines {
        return only.clone();
    }
    let mut all = BytesMut::with_capacity(lines.iter().map(Bytes::len).sum());
    for line in lines {
        all.extend_from_slice(line);
    }
    all.freeze()
}

fn too_old(version: Option<u64>) -> Bytes {
    let version = version.unwrap_or_default();
    error(410, "Expired", &format!("too old resource version: {version}"))
}

fn error(code: u16, reason: &str, message: &str) -> Bytes {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code,
    });
    event("ERROR", &status)
}

fn event(kind: &str, object: &Value) -> Bytes {
    format!("{}\n", json!({"type": kind, "object": object})).into()
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::super::members::Members;
    use super::super::tls::Member;
    use super::*;

    fn node(name: &str, version: u64, revoked: bool) -> Value {
        json!({
            "metadata": {"name": name, "uid": format!("uid-{name}"),
                "resourceVersion": version.to_string()},
            "spec": {"revoked": revoked},
        })
    }

    fn feeds() -> Arc<Feeds> {
        let members = Arc::new(Members::new());
        let feeds = Arc::new(Feeds::new(members));
        feeds.replace(Kind::Node, vec![node("a", 5, false)], 10);
        feeds.replace(Kind::Mesh, Vec::new(), 10);
        feeds
    }

    fn watching(feeds: &Arc<Feeds>, kind: Kind, version: u64) -> impl Stream<Item = String> {
        let member = Member { node: "a".to_owned(), uid: "uid-a".to_owned() };
        let open = feeds.members.watch(&member).unwrap();
        let until = Timestamp::now() + Duration::from_secs(3600);
        let ask = Ask { kind, version: Some(version), seconds: Some(1), bookmarks: true, until };
        Box::pin(lines(Arc::clone(feeds), open, ask).map(|line| {
            let event: Value = serde_json::from_slice(&line).unwrap();
            format!("{} {}", event["type"], event["object"]["metadata"]["resourceVersion"])
        }))
    }

    #[tokio::test]
    async fn a_watch_tells_what_changes_and_then_how_far_it_is() {
        let feeds = feeds();
        let mut watch = watching(&feeds, Kind::Node, 10);

        feeds.take(Kind::Node, false, node("b", 11, false));
        assert_eq!(watch.next().await.unwrap(), r#""ADDED" "11""#);
        feeds.of(Kind::Node).advance(15);
        // To its end after a second, with a last bookmark.
        assert_eq!(watch.collect::<Vec<_>>().await, [r#""BOOKMARK" "15""#]);
    }

    #[tokio::test]
    async fn every_watch_of_a_revoked_machine_ends_at_once() {
        let feeds = feeds();
        let watch = watching(&feeds, Kind::Mesh, 10);
        let begun = Instant::now();

        let (lines, ()) = tokio::join!(watch.collect::<Vec<_>>(), async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            feeds.take(Kind::Node, false, node("a", 11, true));
        });

        assert_eq!(lines, [r#""ERROR" null"#]);
        assert!(begun.elapsed() < Duration::from_millis(900));
    }

    #[tokio::test]
    async fn whoever_comes_from_too_far_back_is_told_so_and_let_go() {
        let feeds = feeds();

        let lines: Vec<_> = watching(&feeds, Kind::Node, 3).collect().await;

        assert_eq!(lines, [r#""ERROR" null"#]);
    }
}
