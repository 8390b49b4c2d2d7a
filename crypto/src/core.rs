//! What every peer of the control half needs of its mesh: keys, clock, chance, places, timers.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use dashmap::DashMap;

use crate::{
    Discard, Paths, Random, chain::Session, doorman::Doorman, keyring::Keyring, moment::Moment,
    seek::Budget, slots::Indices, tai64n::Clock, timers::Wheel,
};

pub(crate) struct Core {
    pub(crate) keyring: Keyring,
    pub(crate) clock: Clock,
    pub(crate) random: Box<dyn Random>,
    pub(crate) doorman: Doorman,
    pub(crate) calls: Budget,
    /// Receiver indices of sessions and of handshakes under way; the owner is a peer's slot.
    pub(crate) indices: Indices,
    pub(crate) wheel: Wheel,
    pub(crate) paths: Arc<Paths>,
}

impl Core {
    pub(crate) fn random_number(&mut self) -> u32 {
        let mut bytes = [0; 4];
        self.random.fill(&mut bytes);
        u32::from_le_bytes(bytes)
    }

    /// A receiver index for the peer in that slot.
    pub(crate) fn index(&mut self, slot: u32) -> Option<u32> {
        let random = self.random_number();
        self.indices.take(slot, random)
    }

    /// Ends sessions for good.
    pub(crate) fn bury(&mut self, sessions: impl IntoIterator<Item = Option<Session>>) {
        for session in sessions.into_iter().flatten() {
            let index = session.receive.index();
            session.receive.unconfirmed.store(false, Ordering::Release);
            self.paths.receivers.put(index, None);
            self.indices.release(index);
        }
    }

    pub(crate) fn count(&self, discard: Discard) {
        self.paths.count(discard);
    }
}

/// One call of the control half.
pub(crate) struct Io<'a, O> {
    pub(crate) out: &'a mut O,
    pub(crate) core: &'a mut Core,
    pub(crate) now: Instant,
    pub(crate) at: Moment,
}

/// Where peers are now, and how many at each. The control half writes it; workers ask it about
/// handshake messages, never about packets.
#[derive(Debug, Default)]
pub(crate) struct Endpoints(DashMap<SocketAddr, u32>);

impl Endpoints {
    pub(crate) fn has(&self, address: SocketAddr) -> bool {
        self.0.contains_key(&address)
    }

    pub(crate) fn moved(&self, from: Option<SocketAddr>, to: Option<SocketAddr>) {
        if let Some(to) = to {
            *self.0.entry(to).or_default() += 1;
        }
        if let Some(from) = from {
            self.0.remove_if_mut(&from, |_, count| {
                *count -= 1;
                *count == 0
            });
        }
    }
}
