//! Sessions as values, so that another process goes on where this one ends.
//!
//! ```text
//!   export(0)      this process ends: exact, and it seals and opens nothing on them any more
//!   export(block)  it goes on: it may use `block` more counters before the next export, and
//!                  whoever imports begins behind them. No counter is ever used twice.
//!
//!        counters:  … used │ reserved: this process │ whoever imports …
//!                          └──────── block ─────────┘
//! ```
//! The same goes for what is received: this process opens no counter beyond the block, and whoever
//! imports takes everything before its end for seen, so nothing is delivered twice. What the peer
//! sent in between is lost then; a handshake is begun at once, so that it is not more.
//!
//! A state holds raw keys (wiped when it is dropped) and times as ages, since clocks of two
//! processes have nothing in common but their rate.

use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use keys::{KeyEpoch, PublicKey};
use zeroize::Zeroizing;

use crate::{
    Mesh, Outbox, Place,
    chain::{Label, Session},
    core::Core,
    moment::Moment,
    peer::Peer,
    session::{REJECT_AFTER_MESSAGES, ReceiveKey, SendKey, Span},
    slots::slot,
    window::Window,
};

/// One session of one peer. Fields are public so that a caller can write them wherever it keeps
/// secrets; `Debug` shows none.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionState {
    /// Whose session, by name, and of which keys at both ends.
    pub peer: String,
    pub ours: (KeyEpoch, PublicKey),
    pub theirs: (KeyEpoch, PublicKey),
    pub place: Place,
    /// Where the peer is.
    pub endpoint: Option<SocketAddr>,
    /// How long ago its handshake was, rounded up.
    pub age: Duration,
    /// We began it.
    pub initiator: bool,
    /// What we call it, what the peer calls it.
    pub receiver: u32,
    pub sender: u32,
    pub receive_key: Zeroizing<[u8; 32]>,
    /// None if it only opens what is late.
    pub send_key: Option<Zeroizing<[u8; 32]>>,
    /// The first counter that whoever imports may use.
    pub next: u64,
    /// One more than the greatest counter that was received.
    pub received: u64,
    /// Which of the 8,192 before were. Empty: all, and the session is to be renewed.
    pub window: Vec<u64>,
}

impl fmt::Debug for SessionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionState")
            .field("peer", &self.peer)
            .field("place", &self.place)
            .field("receiver", &self.receiver)
            .field("next", &self.next)
            .field("received", &self.received)
            .finish_non_exhaustive()
    }
}

/// Why a state was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    #[error("a session of {0}, who is no peer here; were the peers set before the import?")]
    UnknownPeer(String),
    #[error("a session of {0} with keys that are not in use here any more")]
    OtherKeys(String),
    #[error("a session of {0} that is over: it is older than 180 s or has used its counters")]
    Over(String),
    #[error("a session of {0} whose receiver index is in use; import before anything else")]
    IndexTaken(String),
    #[error("a session of {0} whose replay window has an impossible length")]
    BadWindow(String),
}

impl Mesh {
    /// All sessions, as they can be used by another process from now on. With `block` 0 this one
    /// uses them no more; else it may use so many more counters of each before the next export,
    /// for which [`Mesh::export_due`] asks in time.
    pub fn export(&mut self, block: u64, now: Instant) -> Vec<SessionState> {
        self.export_due = false;
        let at = self.core.paths.origin.moment(now);
        let core = &self.core;
        let states = self.roster.peers().flat_map(|peer| {
            peer.path.take_asked(crate::path::asks::EXPORT);
            peer.chain
                .each()
                .filter_map(move |(place, session)| export(peer, (place, session), block, core, at))
        });
        states.collect()
    }

    /// True if the counters reserved by the last [`Mesh::export`] are half used for some session.
    pub fn export_due(&self) -> bool {
        self.export_due
    }

    /// Takes sessions of an earlier process. To be called after [`Mesh::set_peers`] and before
    /// anything else; gives what could not be used, the rest is.
    pub fn import(
        &mut self,
        states: Vec<SessionState>,
        out: &mut impl Outbox,
        now: Instant,
    ) -> Vec<ImportError> {
        let at = self.core.paths.origin.moment(now);
        let mut errors = Vec::new();
        let mut beginning = Vec::new();
        for state in states {
            let renew = state.window.is_empty() && state.place == Place::Current;
            match self.restore(state, at) {
                Ok(slot) if renew => beginning.push(slot),
                Ok(_) => {}
                Err(error) => errors.push(error),
            }
        }
        self.tick_peers(beginning, out, now);
        errors
    }

    fn restore(&mut self, state: SessionState, at: Moment) -> Result<u32, ImportError> {
        let name = || state.peer.clone();
        let slot = self.roster.slot_named(&state.peer);
        let slot = slot.ok_or_else(|| ImportError::UnknownPeer(name()))?;
        let ours = self.core.keyring.get(state.ours.0).map(|identity| identity.public());
        let peer = self.roster.get_mut(slot).ok_or_else(|| ImportError::UnknownPeer(name()))?;
        if ours != Some(state.ours.1) || peer.key_of(state.theirs.0) != Some(state.theirs.1) {
            return Err(ImportError::OtherKeys(name()));
        }
        peer.restore(&state, &mut self.core, at)?;
        peer.schedule(&mut self.core, at);
        Ok(slot)
    }
}

impl Peer {
    fn restore(
        &mut self,
        state: &SessionState,
        core: &mut Core,
        at: Moment,
    ) -> Result<(), ImportError> {
        let name = || state.peer.clone();
        let span = Span::of_age(at, state.age, state.initiator);
        if at >= span.reject_at || state.next >= REJECT_AFTER_MESSAGES {
            return Err(ImportError::Over(name()));
        }
        let window = match &state.window[..] {
            [] => Some(Window::all_below(state.received)),
            words => Window::restore(state.received, words),
        };
        let window = window.ok_or_else(|| ImportError::BadWindow(name()))?;
        if !core.indices.claim(state.receiver, slot(self.path.id)) {
            return Err(ImportError::IndexTaken(name()));
        }
        let key = state.receive_key.clone();
        let path = Arc::clone(&self.path);
        let receive = Arc::new(ReceiveKey::new(key, state.receiver, path, window, span));
        receive.unconfirmed.store(state.place == Place::Next, Ordering::Release);
        core.paths.receivers.put(state.receiver, Some(Arc::clone(&receive)));
        let send = state.send_key.clone();
        let send = send.map(|key| Arc::new(SendKey::new(key, state.sender, state.next, span)));
        let label = Label { ours: state.ours.0, theirs: state.theirs.0 };
        let displaced = self.chain.restore(Session { label, receive, send }, state.place);
        core.bury([displaced]);
        let renew = state.window.is_empty() && state.place == Place::Current;
        self.restored(state.endpoint, renew, core, at);
        Ok(())
    }
}

/// One session, if it is worth it, with its counters reserved.
fn export(
    peer: &Peer,
    (place, session): (Place, &Session),
    block: u64,
    core: &Core,
    at: Moment,
) -> Option<SessionState> {
    let (receive, span) = (&session.receive, session.receive.span);
    let ours = core.keyring.get(session.label.ours)?.public();
    let theirs = peer.key_of(session.label.theirs)?;
    let send = session.send.as_ref();
    let next = send.map_or(0, |key| key.export(block));
    let window = receive.export(block);
    Some(SessionState {
        peer: peer.config.name.clone(),
        ours: (session.label.ours, ours),
        theirs: (session.label.theirs, theirs),
        place,
        endpoint: peer.path.direct(),
        age: span.age(at),
        initiator: span.initiator,
        receiver: receive.index(),
        sender: send.map_or(0, |key| key.theirs()),
        receive_key: receive.raw().clone(),
        send_key: send.map(|key| key.raw().clone()),
        next,
        received: window.next(),
        window: if block == 0 { window.words().to_vec() } else { Vec::new() },
    })
}

#[cfg(test)]
mod tests;
