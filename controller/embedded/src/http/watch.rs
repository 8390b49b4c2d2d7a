//! A watch: lines of events from a version on, until its time is over.
//!
//! ```text
//! start → (all objects, ADDED) → events after the cursor → wait → events … → BOOKMARK, end
//!                                       └ fell out of the ring: ERROR 410, end
//! ```
//!
//! A watcher keeps a cursor and nothing else; the lines are the ring's own. In a burst it reads
//! once in a while and sends many lines at once: a write to each of a hundred watchers for each of
//! a hundred changes would cost more than the changes.

use super::encode::Encoding;
use super::negotiate::Shape;
use super::selection::Selection;
use crate::auth::{Session, Tokens};
use crate::server::App;
use crate::status::Status;
use crate::store::{Change, Event, Object, TooOld};
use bytes::{Bytes, BytesMut};
use futures::Stream;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// Between two bookmarks when nothing else happens.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// How long a token's end may go unnoticed while events flow.
const RENEW_EVERY: Duration = Duration::from_secs(1);
/// At least between two reads: what follows an event sooner is sent together.
const GATHER: Duration = Duration::from_millis(25);
/// Events read at once.
const CHUNK: usize = 256;

/// What a client asks of a watch.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) selection: Selection,
    pub(crate) encoding: Encoding,
    /// `None`: begin with everything that is there.
    pub(crate) after: Option<u64>,
    pub(crate) bookmarks: bool,
    /// Say with a bookmark when everything that is there has been sent.
    pub(crate) mark_initial_end: bool,
    pub(crate) timeout: Duration,
}

struct Watcher {
    app: Arc<App>,
    session: Session,
    ask: Ask,
    cursor: u64,
    head: watch::Receiver<u64>,
    closing: watch::Receiver<bool>,
    out: BytesMut,
    ended: bool,
    defined: bool,
    /// Before this the next events are gathered.
    read_next: Instant,
    deadline: Instant,
    bookmark_at: Instant,
    renewed_at: Instant,
    renew_at: Option<Instant>,
}

/// The body of the answer.
pub(crate) fn stream(app: Arc<App>, session: Session, ask: Ask) -> impl Stream<Item = Bytes> {
    let watcher = Watcher::new(app, session, ask);
    futures::stream::unfold(watcher, |mut watcher| async move {
        let lines = watcher.next().await?;
        Some((lines, watcher))
    })
}

enum Wake {
    Event,
    Bookmark,
    Renew,
    End,
    Closing,
}

impl Watcher {
    fn new(app: Arc<App>, session: Session, ask: Ask) -> Watcher {
        let (head, closing) = (app.store.head(), app.closing());
        let now = Instant::now();
        let mut watcher = Watcher {
            app,
            session,
            cursor: ask.after.unwrap_or(0),
            head,
            closing,
            out: BytesMut::new(),
            ended: false,
            defined: false,
            read_next: now,
            deadline: now + ask.timeout,
            bookmark_at: now + BOOKMARK_EVERY,
            renewed_at: now,
            renew_at: None,
            ask,
        };
        if watcher.ask.after.is_none() {
            watcher.send_everything();
        }
        watcher
    }

    /// The next lines; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            while self.out.is_empty() && !self.ended && self.read_events() {}
            if !self.out.is_empty() {
                return Some(self.out.split().freeze());
            }
            if self.ended {
                return None;
            }
            match self.wait().await {
                Wake::Event => {
                    self.arm_renewal();
                    sleep_until(self.read_next).await;
                }
                Wake::Bookmark => self.send_bookmark(),
                Wake::Renew => self.renew(),
                Wake::End => {
                    self.send_bookmark();
                    self.ended = true;
                }
                Wake::Closing => self.ended = true,
            }
        }
    }

    async fn wait(&mut self) -> Wake {
        let renew_at = self.renew_at.unwrap_or(self.deadline);
        let renewing = self.renew_at.is_some();
        tokio::select! {
            changed = self.head.changed() => if changed.is_ok() { Wake::Event } else { Wake::Closing },
            _ = self.closing.wait_for(|closing| *closing) => Wake::Closing,
            () = sleep_until(renew_at), if renewing => Wake::Renew,
            () = sleep_until(self.deadline) => Wake::End,
            () = sleep_until(self.bookmark_at) => Wake::Bookmark,
        }
    }

    /// A token may have ended with what has just been committed.
    fn arm_renewal(&mut self) {
        let due = self.renewed_at + RENEW_EVERY;
        if due <= Instant::now() {
            self.renew();
        } else {
            self.renew_at = Some(due);
        }
    }

    fn renew(&mut self) {
        self.renew_at = None;
        self.renewed_at = Instant::now();
        if let Err(status) = Tokens(&self.app.store).renew(&self.session, Timestamp::now()) {
            self.send_error(&status);
        }
    }

    fn send_everything(&mut self) {
        let selection = &self.ask.selection;
        let listing = self.app.store.list(&selection.kind.stored_as, &selection.namespace);
        self.cursor = listing.version;
        for object in listing.objects {
            if self.ask.selection.matches(&object.value) {
                self.send_object(Change::Added, &object);
            }
        }
        if self.ask.mark_initial_end {
            let encoding = self.ask.encoding;
            let bookmark = encoding.bookmark(&self.ask.selection.kind, self.cursor, true);
            self.send("BOOKMARK", &bookmark);
        }
    }

    /// True if there may be more.
    fn read_events(&mut self) -> bool {
        drop(self.head.borrow_and_update());
        self.read_next = Instant::now() + GATHER;
        match self.app.store.events_after(self.cursor, CHUNK) {
            Err(TooOld) => {
                self.send_error(&too_old(self.cursor));
                false
            }
            Ok((events, reached)) => {
                self.cursor = reached;
                for event in &events {
                    self.send_event(event);
                }
                events.len() == CHUNK
            }
        }
    }

    fn send_event(&mut self, event: &Event) {
        let Some(change) = self.ask.selection.sees(event) else {
            return;
        };
        if self.is_plain() {
            if change == event.change {
                self.out.extend_from_slice(&event.line);
            } else {
                self.out.extend_from_slice(&change.line(&event.json()));
            }
        } else if let Ok(value) = serde_json::from_slice::<Value>(&event.json()) {
            self.send_shaped(change, &value);
        }
    }

    fn send_object(&mut self, change: Change, object: &Object) {
        if self.is_plain() {
            self.out.extend_from_slice(&change.line(&object.json));
        } else {
            self.send_shaped(change, &object.value);
        }
    }

    fn is_plain(&self) -> bool {
        self.ask.encoding.shape == Shape::Object && self.ask.selection.kind.view.is_none()
    }

    fn send_shaped(&mut self, change: Change, value: &Value) {
        let with_definitions = !std::mem::replace(&mut self.defined, true);
        let kind = &self.ask.selection.kind;
        let shown = self.ask.encoding.value(kind, value, with_definitions, Timestamp::now());
        self.out.extend_from_slice(&change.line(shown.to_string().as_bytes()));
    }

    /// Only when everything up to the cursor has been sent.
    fn send_bookmark(&mut self) {
        self.bookmark_at = Instant::now() + BOOKMARK_EVERY;
        self.renew();
        if self.ask.bookmarks && !self.ended {
            let kind = &self.ask.selection.kind;
            let bookmark = self.ask.encoding.bookmark(kind, self.cursor, false);
            self.send("BOOKMARK", &bookmark);
        }
    }

    fn send_error(&mut self, status: &Status) {
        self.send("ERROR", &status.body());
        self.ended = true;
    }

    fn send(&mut self, r#type: &str, object: &Value) {
        let line = format!("{}\n", json!({"type": r#type, "object": object}));
        self.out.extend_from_slice(line.as_bytes());
    }
}

fn too_old(version: u64) -> Status {
    Status::expired(format!("too old resource version: {version}"))
}
