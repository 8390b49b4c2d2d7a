//! The sessions of a peer: one that packets are sealed with, the one before, the one to come.
//!
//! ```text
//!   we answered ─▶ next ── data came on it ─▶ current ── a newer one ─▶ previous ── 180 s ─▶ gone
//!   we began, they answered ────────────────▶ current
//! ```
//! All three open what arrives late or early, so a rekey loses nothing. Each is labelled with the
//! key epochs of both ends: a rotation is a rekey with another label.

use std::sync::{Arc, atomic::Ordering};

use keys::KeyEpoch;

use crate::{
    moment::Moment,
    session::{ReceiveKey, SendKey},
};

/// Whose key of which generation, at both ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Label {
    pub(crate) ours: KeyEpoch,
    pub(crate) theirs: KeyEpoch,
}

pub(crate) struct Session {
    pub(crate) label: Label,
    pub(crate) receive: Arc<ReceiveKey>,
    /// None once it is the previous one.
    pub(crate) send: Option<Arc<SendKey>>,
}

impl Session {
    fn waits(&self) -> bool {
        self.receive.unconfirmed.load(Ordering::Acquire)
    }
}

#[derive(Default)]
pub(crate) struct Chain {
    previous: Option<Session>,
    current: Option<Session>,
    next: Option<Session>,
}

impl Chain {
    /// A session that we answered: the peer may not know of it yet. Gives what it displaces.
    pub(crate) fn answered(&mut self, session: Session) -> Option<Session> {
        self.next.replace(session)
    }

    /// A session that the peer has answered. Gives what it displaces.
    pub(crate) fn completed(&mut self, session: Session) -> [Option<Session>; 2] {
        let next = self.next.take();
        [next, self.promote(session)]
    }

    /// Moves on to the next session if data came on it. Says whether it did, and gives what that
    /// displaces.
    pub(crate) fn confirm(&mut self) -> (bool, Option<Session>) {
        match self.next.take_if(|next| !next.waits()) {
            Some(next) => (true, self.promote(next)),
            None => (false, None),
        }
    }

    /// Takes out what is over.
    pub(crate) fn expire(&mut self, at: Moment) -> [Option<Session>; 3] {
        self.remove(|session| at >= session.receive.span.reject_at)
    }

    pub(crate) fn remove(
        &mut self,
        mut unwanted: impl FnMut(&Session) -> bool,
    ) -> [Option<Session>; 3] {
        [&mut self.previous, &mut self.current, &mut self.next]
            .map(|place| place.take_if(|session| unwanted(session)))
    }

    /// Puts sessions of an earlier life in.
    pub(crate) fn restore(&mut self, session: Session, place: Place) -> Option<Session> {
        match place {
            Place::Previous => self.previous.replace(session),
            Place::Current => self.current.replace(session),
            Place::Next => self.next.replace(session),
        }
    }

    pub(crate) fn current(&self) -> Option<&Session> {
        self.current.as_ref()
    }

    pub(crate) fn each(&self) -> impl Iterator<Item = (Place, &Session)> {
        let places = [
            (Place::Previous, &self.previous),
            (Place::Current, &self.current),
            (Place::Next, &self.next),
        ];
        places.into_iter().filter_map(|(place, session)| Some((place, session.as_ref()?)))
    }

    /// When the first of them is over.
    pub(crate) fn ends(&self) -> Option<Moment> {
        self.each().map(|(_, session)| session.receive.span.reject_at).min()
    }

    fn promote(&mut self, session: Session) -> Option<Session> {
        match self.current.replace(session) {
            Some(old) => self.previous.replace(Session { send: None, ..old }),
            None => None,
        }
    }
}

/// Where in the chain a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Only opens what comes late.
    Previous,
    Current,
    /// Answered, and nothing came on it yet.
    Next,
}
