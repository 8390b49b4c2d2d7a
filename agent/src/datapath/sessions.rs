//! The two engines behind the words that workers and the control thread use.
//!
//! The native one has a half for workers that needs no lock ([`Paths`]) and one that the control
//! thread owns. boringtun's takes its one lock for each super packet and each received train.

mod boringtun;
mod native;

use std::{
    net::SocketAddr,
    ops::Range,
    sync::Mutex,
    time::{Instant, SystemTime},
};

use crypto::{Discards, Outbox, Paths, PeerConfig, PeerStatus, Problem, Signs, relay::Detour};
use ipnet::IpNet;
use keys::{KeyEpoch, PrivateKey};

use self::boringtun::lock;
pub(super) use self::native::Native;
use super::{Sealed, control::Made, offload::Super, train::Departures};

pub(super) enum Sessions {
    Native(Box<Native>),
    Boringtun(Box<Mutex<crypto::boringtun::Mesh>>),
}

/// Datagrams of `stride` bytes (the last may be shorter) from one source.
pub(super) struct Came<'a> {
    pub(super) bytes: &'a mut [u8],
    pub(super) from: SocketAddr,
    pub(super) stride: usize,
}

/// What was found in one received train, as ranges of it.
#[derive(Debug, Default)]
pub(super) struct Opened {
    /// Whole IP packets from whom they say.
    pub(super) packets: Vec<Range<usize>>,
    /// Messages for the control thread.
    pub(super) handshakes: Vec<Range<usize>>,
}

impl Opened {
    pub(super) fn clear(&mut self) {
        self.packets.clear();
        self.handshakes.clear();
    }
}

impl Sessions {
    pub(super) fn boringtun(key: &PrivateKey, now: Instant) -> Self {
        Self::Boringtun(Box::new(Mutex::new(crypto::boringtun::Mesh::new(key, now))))
    }

    /// Seals a packet, or each part of a super packet, into `out`. Whatever dies is counted.
    pub(super) fn seal(&self, packet: Super<'_>, out: &mut Departures<'_>, now: Instant) {
        match self {
            Self::Native(native) => native.seal(packet, out, now),
            Self::Boringtun(mesh) => boringtun::seal(&mut lock(mesh), packet, out, now),
        }
    }

    /// Opens a train in place. Whatever dies is counted; what has to be answered at once goes to
    /// `out`.
    pub(super) fn open(
        &self,
        train: Came<'_>,
        opened: &mut Opened,
        out: &mut Departures<'_>,
        now: Instant,
    ) {
        opened.clear();
        match self {
            Self::Native(native) => native.open(train, opened, now),
            Self::Boringtun(mesh) => boringtun::open(&mut lock(mesh), train, opened, out, now),
        }
    }

    /// True if [`Sessions::tick`] also serves what workers asked for.
    pub(super) fn is_native(&self) -> bool {
        matches!(self, Self::Native(_))
    }

    /// True once when the control thread has something to do though no timer is due.
    pub(super) fn wants_control(&self) -> bool {
        match self {
            Self::Native(native) => native.wants_control(),
            Self::Boringtun(_) => false,
        }
    }

    /// True where a peer is now.
    pub(super) fn is_endpoint(&self, address: SocketAddr) -> bool {
        match self {
            Self::Native(native) => native.is_endpoint(address),
            Self::Boringtun(_) => false,
        }
    }

    /// What workers share; the native engine's alone.
    pub(super) fn paths(&self) -> Option<&Paths> {
        match self {
            Self::Native(native) => Some(native.paths()),
            Self::Boringtun(_) => None,
        }
    }

    /// What is to be seen of the peer of that `crypto::relay::id`, if it may be relayed.
    pub(super) fn signs(&self, id: u64) -> Option<Signs> {
        self.paths()?.signs(id)
    }

    /// Where the peer of that `crypto::relay::id` itself is spoken with, if there is a live session
    /// with it.
    pub(super) fn contact(&self, id: u64, now: Instant) -> Option<SocketAddr> {
        self.paths()?.contact(id, now)
    }

    /// True if that is where the peer of that `crypto::relay::id` itself speaks from.
    pub(super) fn speaks_from(&self, id: u64, from: SocketAddr, now: Instant) -> bool {
        self.paths().is_some_and(|paths| paths.speaks_from(id, from, now))
    }

    /// Sends everything for the peer of that `crypto::relay::id` so from now on.
    pub(super) fn set_detour(&self, id: u64, detour: Detour) {
        if let Some(paths) = self.paths() {
            paths.set_detour(id, detour);
        }
    }

    /// A packet that goes this way, whatever the others take.
    pub(super) fn send_by(&self, packet: &[u8], by: Sealed, out: &mut Made<'_>, now: Instant) {
        match self {
            Self::Native(native) => native.send_by(packet, by, out, now),
            Self::Boringtun(_) if matches!(by, Sealed::Relay(_) | Sealed::Bridge) => {}
            Self::Boringtun(_) => self.begin(packet, out, now),
        }
    }

    /// A packet that waits for a session.
    pub(super) fn begin(&self, packet: &[u8], out: &mut impl Outbox, now: Instant) {
        // Whatever it dies of is counted.
        let _ = match self {
            Self::Native(native) => native.mesh().seal(packet, out, now),
            Self::Boringtun(mesh) => lock(mesh).seal(packet, out, now),
        };
    }

    /// A handshake message.
    pub(super) fn answer(
        &self,
        message: &[u8],
        from: SocketAddr,
        out: &mut impl Outbox,
        now: Instant,
    ) {
        let result = match self {
            Self::Native(native) => native.mesh().open(message, from, out, now),
            Self::Boringtun(mesh) => lock(mesh).open(message, from, out, now),
        };
        if let Err(discard) = result {
            tracing::trace!(discard = discard.name(), %from, "handshake not answered");
        }
    }

    pub(super) fn tick(&self, out: &mut impl Outbox, now: Instant) {
        match self {
            Self::Native(native) => native.mesh().tick(out, now),
            Self::Boringtun(mesh) => lock(mesh).tick(out, now),
        }
    }

    pub(super) fn announce(&self, out: &mut impl Outbox, now: Instant) {
        match self {
            Self::Native(native) => native.mesh().announce(out, now),
            Self::Boringtun(mesh) => lock(mesh).announce(out, now),
        }
    }

    /// Calls a peer at once that does not answer yet.
    pub(super) fn hurry(&self, peer: &str, out: &mut impl Outbox, now: Instant) {
        match self {
            Self::Native(native) => native.mesh().hurry(peer, out, now),
            Self::Boringtun(_) => {}
        }
    }

    pub(super) fn next_wake(&self) -> Option<Instant> {
        match self {
            Self::Native(native) => native.mesh().next_wake(),
            Self::Boringtun(mesh) => lock(mesh).next_wake(),
        }
    }

    /// The wall clock was put to `wall`.
    pub(super) fn clock_was_put(&self, wall: SystemTime, forward: bool, now: Instant) {
        match self {
            Self::Native(native) => native.mesh().set_wall_clock(wall, now),
            Self::Boringtun(mesh) if forward => lock(mesh).clock_put_forward(),
            Self::Boringtun(_) => {}
        }
    }

    pub(super) fn set_peers(
        &self,
        peers: Vec<PeerConfig>,
        own: &[IpNet],
        out: &mut impl Outbox,
        now: Instant,
    ) -> Vec<Problem> {
        match self {
            Self::Native(native) => native.mesh().set_peers(peers, own, out, now),
            Self::Boringtun(mesh) => lock(mesh).set_peers(peers, own, out, now),
        }
    }

    /// False if the engine has one key for life.
    pub(super) fn set_identities(
        &self,
        identities: Vec<(KeyEpoch, PrivateKey)>,
        sending: KeyEpoch,
        out: &mut impl Outbox,
        now: Instant,
    ) -> bool {
        match self {
            Self::Native(native) => {
                native.mesh().set_identities(identities, sending, out, now);
                true
            }
            Self::Boringtun(_) => false,
        }
    }

    pub(super) fn status(&self) -> Vec<PeerStatus> {
        match self {
            Self::Native(native) => native.mesh().status(),
            Self::Boringtun(mesh) => lock(mesh).status(),
        }
    }

    pub(super) fn discards(&self) -> Discards {
        match self {
            Self::Native(native) => native.mesh().discards(),
            Self::Boringtun(mesh) => lock(mesh).discards().clone(),
        }
    }

    /// The latest time put into a handshake, where the engine says.
    pub(super) fn timestamp(&self) -> Option<SystemTime> {
        match self {
            Self::Native(native) => Some(native.mesh().timestamp()),
            Self::Boringtun(_) => None,
        }
    }
}
