//! A peer may be elsewhere than it was, or itself somewhere though a relay reaches it: calls to all its
//! places, paced by [`crate::seek`].
//!
//! ```text
//!   silent, new places ──▶ a handshake, to all of them
//!   brought by a relay ──▶ empty messages of the session, to all of them ── one arrives ─▶ the other
//!                          end notes where from, and answers there: so both know, by 15 s or never
//! ```

use std::{net::SocketAddr, time::Duration};

use crate::{Outbox, core::Io, moment::Moment, path::asks, peer::Peer, relay, seek::Seek};

/// If it said nothing for so long, it is called at places that are new.
const SILENT: Duration = Duration::from_secs(1);

impl Peer {
    /// It may be elsewhere than it could be so far: if it says nothing, it is called there at once.
    pub(crate) fn has_new_places(&mut self, at: Moment) {
        let last = self.path.last_received.get().happened();
        let silent = last.is_none_or(|last| at.since(last) >= SILENT);
        if self.path.is_detoured() || self.path.asked(asks::FIND) {
            self.find(at);
        } else if silent && self.config.follows {
            self.seek = Seek::new(true);
            self.shake.hurry(at);
            if self.chain.current().is_some() {
                self.rekey_at = at;
            }
        }
    }

    /// A relay brings it: from now on it is called where it may be itself.
    pub(crate) fn find(&mut self, at: Moment) {
        self.seek = Seek::new(self.config.follows);
        self.call_at = at;
        self.path.ask(asks::FIND);
    }

    /// A handshake came from there.
    pub(crate) fn find_unless_there(&mut self, from: SocketAddr, at: Moment) {
        if !relay::is(&from) {
            self.path.take_asked(asks::FIND);
        } else if !self.path.asked(asks::FIND) {
            self.find(at);
        }
    }

    /// Sends an empty message to all places of a peer that is to be found: where one gets through, the
    /// peer follows us there, and answers.
    pub(crate) fn call_directly<O: Outbox>(&mut self, scratch: &mut [u8], io: &mut Io<'_, O>) {
        if self.call_at.happened().is_none_or(|call_at| call_at > io.at) {
            return;
        }
        let wait = self.seek.patience(false, Duration::ZERO);
        let goes_on = self.path.asked(asks::FIND) && !wait.is_zero();
        self.call_at = if goes_on { io.at.after(wait) } else { Moment::NEVER };
        if goes_on && io.core.calls.take(io.now) {
            for place in self.config.places() {
                self.send_to(Some(place), &[], scratch, io);
            }
        }
    }

    /// A peer that relays may bring was heard from where it is: it shall hear us there.
    pub(crate) fn answer_call<O: Outbox>(&self, scratch: &mut [u8], io: &mut Io<'_, O>) {
        if let Some(to) = self.path.direct().filter(|_| self.config.relayed) {
            self.send_to(Some(to), &[], scratch, io);
        }
    }
}

#[cfg(test)]
mod tests;
