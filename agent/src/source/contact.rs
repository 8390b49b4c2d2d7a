//! When the API was last heard, by the clocks and by the disk: how old the view is.
//!
//! ```text
//! started ─▶ Asking ── it is not there ───▶ Disk(view.json's time) ──┐
//!     ▲         └── it answers, seat.rs ──▶ Here(now) ◀── heard ─────┘
//!     └────────────── resumed from suspend ───┘
//! ```
//! A node that was away may know of somebody who was revoked meanwhile. So the view of the last run
//! speaks with nobody before the API was asked, and a mesh may bound how old a view may become.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use tokio::sync::{Notify, watch};

use crate::{plan::Heard, view::store};

/// How often the API is asked at most, where the view's age is bounded.
const OFTEN: Duration = Duration::from_secs(30);

/// Shared by the source, which hears, and by the rounds, which act on it.
#[derive(Clone, Debug)]
pub struct Contact {
    inside: Arc<Inside>,
}

#[derive(Debug)]
struct Inside {
    state: PathBuf,
    last: Mutex<Last>,
    asked: Notify,
    /// How often this machine was resumed: what was asked before says nothing after it. Changes only
    /// while `last` is locked.
    resumes: watch::Sender<u64>,
}

/// When it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    Always,
    Asking {
        kept: Option<SystemTime>,
        heard: bool,
        /// This machine is the one that speaks for the node.
        seated: bool,
    },
    Disk(Option<SystemTime>),
    Here(SystemTime, Instant),
}

impl Contact {
    /// With a source that needs nobody: the operator's own file.
    pub fn needless() -> Self {
        Self::of(Path::new(""), Last::Always)
    }

    /// With an API that is still to be asked; the view in `state` is as old as its file.
    pub fn begin(state: &Path) -> Self {
        let kept = store::kept_at(state);
        Self::of(state, Last::Asking { kept, heard: false, seated: false })
    }

    fn of(state: &Path, last: Last) -> Self {
        let (state, last) = (state.to_owned(), Mutex::new(last));
        Self {
            inside: Arc::new(Inside {
                state,
                last,
                asked: Notify::new(),
                resumes: watch::Sender::new(0),
            }),
        }
    }

    /// How often this machine was resumed so far.
    pub fn resumes(&self) -> watch::Receiver<u64> {
        self.inside.resumes.subscribe()
    }

    /// It was suspended, and may have missed who is out: as after a start, the API is asked before
    /// anybody is spoken with.
    pub fn resumed(&self) {
        let mut last = self.last();
        self.inside.resumes.send_modify(|resumes| *resumes += 1);
        *last = match *last {
            Last::Always => Last::Always,
            Last::Asking { kept, seated, .. } => Last::Asking { kept, heard: false, seated },
            Last::Disk(kept) => Last::Asking { kept, heard: false, seated: true },
            Last::Here(wall, _) => Last::Asking { kept: Some(wall), heard: false, seated: true },
        };
        self.inside.asked.notify_one();
    }

    /// It answered, and what it said since resume number `resumes` is published.
    pub fn heard(&self, resumes: u64) {
        self.change_after(resumes, |last| match last {
            Last::Asking { kept, seated: false, .. } => {
                Last::Asking { kept, heard: true, seated: false }
            }
            Last::Asking { .. } | Last::Disk(_) | Last::Here(..) => Last::here(),
            Last::Always => Last::Always,
        });
    }

    /// It answered, without saying who is in the mesh: that what is known is all there is to know.
    pub fn answered(&self) {
        self.change(|last| match last {
            Last::Disk(_) | Last::Here(..) => Last::here(),
            Last::Always | Last::Asking { .. } => last,
        });
    }

    /// It says that this machine is the one that speaks for the node.
    pub fn seated(&self) {
        self.change(|last| match last {
            Last::Asking { heard: true, .. } => Last::here(),
            Last::Asking { kept, .. } => Last::Asking { kept, heard: false, seated: true },
            Last::Always | Last::Disk(_) | Last::Here(..) => last,
        });
    }

    /// It was asked since resume number `resumes`, and is not there.
    pub fn not_there(&self, resumes: u64) {
        self.change_after(resumes, |last| match last {
            Last::Asking { kept, heard: false, .. } => Last::Disk(kept),
            Last::Always | Last::Asking { .. } | Last::Disk(_) | Last::Here(..) => last,
        });
    }

    fn change(&self, change: impl FnOnce(Last) -> Last) {
        self.change_locked(self.last(), change);
    }

    /// Not if this machine was resumed since.
    fn change_after(&self, resumes: u64, change: impl FnOnce(Last) -> Last) {
        let last = self.last();
        if *self.inside.resumes.borrow() == resumes {
            self.change_locked(last, change);
        }
    }

    fn change_locked(&self, mut last: MutexGuard<'_, Last>, change: impl FnOnce(Last) -> Last) {
        let before = *last;
        *last = change(before);
        if std::mem::discriminant(&before) != std::mem::discriminant(&*last) {
            self.inside.asked.notify_one();
        }
    }

    /// Waits until more is known than before.
    pub async fn changed(&self) {
        self.inside.asked.notified().await;
    }

    /// Puts the time of the last answer on disk, where the next run finds it.
    pub fn keep(&self) {
        let Last::Here(wall, _) = *self.last() else { return };
        let file = store::path(&self.inside.state);
        let kept = File::options().write(true).open(file).and_then(|file| file.set_modified(wall));
        if let Err(error) = kept {
            tracing::debug!(%error, "the time of the API's last answer is not kept");
        }
    }

    /// For a plan that is made now.
    pub fn told(&self) -> Heard {
        tell(*self.last(), SystemTime::now(), Instant::now())
    }

    fn last(&self) -> MutexGuard<'_, Last> {
        self.inside.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Last {
    fn here() -> Self {
        Self::Here(SystemTime::now(), Instant::now())
    }
}

/// How long until the API is asked again whether it is there.
pub fn pause(most: Option<Duration>) -> Duration {
    most.map_or(OFTEN, |most| (most / 4).min(OFTEN))
}

/// A machine that slept has a monotonic clock that slept too; a wall clock may be put. The older
/// answer of both counts.
fn tell(last: Last, wall: SystemTime, monotonic: Instant) -> Heard {
    match last {
        Last::Always => Heard::Now,
        Last::Asking { .. } => Heard::Asking,
        Last::Disk(kept) => match kept.map(|kept| wall.duration_since(kept)) {
            Some(Ok(age)) => Heard::Ago(age),
            Some(Err(_)) | None => Heard::Unknown,
        },
        Last::Here(then, at) => {
            let awake = monotonic.saturating_duration_since(at);
            Heard::Ago(wall.duration_since(then).unwrap_or_default().max(awake))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_that_says_the_greater_age_counts() {
        let (wall, monotonic) = (SystemTime::now(), Instant::now());
        let (minute, hour) = (Duration::from_secs(60), Duration::from_secs(3600));
        let here = Last::Here(wall, monotonic);

        assert_eq!(tell(here, wall + hour, monotonic + minute), Heard::Ago(hour), "it slept");
        assert_eq!(tell(here, wall - hour, monotonic + minute), Heard::Ago(minute), "clock put");
        assert_eq!(tell(Last::Disk(Some(wall)), wall + hour, monotonic), Heard::Ago(hour));
        assert_eq!(tell(Last::Disk(Some(wall)), wall - hour, monotonic), Heard::Unknown);
        assert_eq!(tell(Last::Disk(None), wall, monotonic), Heard::Unknown);
    }

    #[tokio::test]
    async fn what_was_heard_is_found_by_the_next_run() {
        let state = tempfile::tempdir().unwrap();
        std::fs::write(store::path(state.path()), "{}").unwrap();
        let old = SystemTime::now() - Duration::from_secs(7200);
        File::open(store::path(state.path())).unwrap().set_modified(old).unwrap();
        let age = |contact: &Contact| match contact.told() {
            Heard::Ago(age) => age.as_secs() / 3600,
            other => panic!("{other:?}"),
        };

        let contact = Contact::begin(state.path());
        assert_eq!(contact.told(), Heard::Asking);
        contact.not_there(0);
        contact.changed().await;
        assert_eq!(age(&contact), 2);
        contact.heard(0);
        contact.keep();
        let unseated = Contact::begin(state.path());
        unseated.heard(0);
        unseated.not_there(0);
        assert_eq!(unseated.told(), Heard::Asking, "another machine may speak for this node");
        unseated.seated();
        assert_eq!(age(&unseated), 0);
        let next = Contact::begin(state.path());
        next.not_there(0);

        assert_eq!((age(&contact), age(&next)), (0, 0));
    }
    #[test]
    fn a_resumed_machine_asks_before_it_speaks_and_old_answers_do_not_count() {
        let state = tempfile::tempdir().unwrap();
        let contact = Contact::begin(state.path());
        contact.heard(0);
        contact.seated();
        assert!(matches!(contact.told(), Heard::Ago(_)));

        contact.resumed();
        assert_eq!(contact.told(), Heard::Asking);
        contact.heard(0);
        contact.not_there(0);
        assert_eq!(contact.told(), Heard::Asking, "said before the suspend");
        contact.answered();
        assert_eq!(contact.told(), Heard::Asking, "it is there, and has not said who is out");
        contact.heard(1);
        assert!(matches!(contact.told(), Heard::Ago(_)), "it holds its seat as before");

        contact.resumed();
        contact.not_there(2);
        assert!(matches!(contact.told(), Heard::Ago(_)), "what it knew is as old as it is");
        let file = Contact::needless();
        file.resumed();
        assert_eq!(file.told(), Heard::Now);
    }
}
