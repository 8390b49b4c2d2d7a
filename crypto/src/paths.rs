//! The half of a mesh that workers share: seal and open on established sessions with `&self`.
//!
//! ```text
//!   train:  whose address? ─▶ its session ─▶ counters for the whole train ─▶ Train::seal …
//!   open:   whose index?  ─▶ decrypt each ─▶ one look at the window ─▶ whose source? ─▶ Inbox
//! ```
//!
//! No lock but the window's, taken once a train; no allocation. Whatever is not for an established
//! session goes to [`crate::Mesh`], the control half, which also puts in here what is found in here.

use std::{
    net::{IpAddr, SocketAddr},
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use dashmap::DashMap;

use crate::{
    Discard, Discards, Routes, Train,
    arrivals::Arrivals,
    bridges::Bridges,
    core::Endpoints,
    marks::Marks,
    moment::{Moment, Origin},
    path::{PeerPath, asks},
    relay::{self, Detour},
    session::{ReceiveKey, TOGETHER},
    slots::Slots,
    source::Owner,
};

/// Why a packet cannot be sealed here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// It dies; it has been counted.
    Discard(Discard),
    /// There is no session that may send: hand it to [`crate::Mesh::seal`], which keeps it and
    /// begins a handshake.
    Control,
}

/// Where [`Paths::open`] puts what it finds in a train. Packets come in their order.
pub trait Inbox {
    /// A packet, whose source is its sender's: this part of the train.
    fn packet(&mut self, place: Range<usize>);
    /// A handshake message for [`crate::Mesh::open`]: this part of the train, untouched.
    fn handshake(&mut self, place: Range<usize>);
    /// A datagram that died. It has been counted.
    fn discard(&mut self, discard: Discard);
}

/// Whether a peer is there, as far as its packets show it without being asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Signs {
    /// Since when something was sent to it that nothing from it has followed.
    pub unanswered: Option<Instant>,
    /// When something authentic last came from it.
    pub heard: Option<Instant>,
    /// There is a session that may send.
    pub session: bool,
}

/// A peer that shall stay connected is heard at least as often as sessions are renewed.
const SILENT: Duration = Duration::from_secs(180);

/// All established sessions of a mesh, for any number of threads.
pub struct Paths {
    pub(crate) origin: Origin,
    pub(crate) routes: ArcSwap<Routes<Owner>>,
    pub(crate) peers: Slots<PeerPath>,
    /// The same by what they are called where datagrams are passed on.
    pub(crate) called: DashMap<u64, Arc<PeerPath>>,
    pub(crate) bridges: Bridges,
    pub(crate) receivers: Slots<ReceiveKey>,
    pub(crate) marks: Marks,
    pub(crate) endpoints: Endpoints,
    wants: AtomicBool,
    discards: [AtomicU64; Discard::ALL.len()],
}

impl Paths {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            origin: Origin::new(now),
            routes: ArcSwap::default(),
            peers: Slots::default(),
            called: DashMap::new(),
            bridges: Bridges::default(),
            receivers: Slots::default(),
            marks: Marks::default(),
            endpoints: Endpoints::default(),
            wants: AtomicBool::new(false),
            discards: [const { AtomicU64::new(0) }; Discard::ALL.len()],
        }
    }

    /// Reserves `packets` messages (at most 1,024) to the owner of `to`: one lookup, one
    /// reservation.
    pub fn train(&self, to: IpAddr, packets: u32, now: Instant) -> Result<Train, Refused> {
        self.reserve((to, packets), true, now)
    }

    /// The same for messages that nothing need follow: they leave [`Signs::unanswered`] as it is.
    pub fn probes(&self, to: IpAddr, packets: u32, now: Instant) -> Result<Train, Refused> {
        self.reserve((to, packets), false, now)
    }

    fn reserve(
        &self,
        (to, packets): (IpAddr, u32),
        data: bool,
        now: Instant,
    ) -> Result<Train, Refused> {
        let owner = self.routes.load().owner_of(to);
        let peer = match owner {
            None => None,
            Some(Owner::Us) => return Err(self.refuse(Discard::OwnDestination)),
            Some(Owner::Peer(id)) => self.peer(id),
        };
        let Some(peer) = peer else {
            return Err(self.refuse(Discard::NoRoute));
        };
        self.depart(peer, packets, data, self.origin.moment(now)).ok_or(Refused::Control)
    }

    /// Opens `train`, datagrams of `stride` bytes (the last may be shorter; 0: it is one) from one
    /// source, each in place.
    #[expect(clippy::too_many_arguments, reason = "self and what one recvmsg gives")]
    pub fn open(
        &self,
        train: &mut [u8],
        stride: usize,
        from: SocketAddr,
        now: Instant,
        into: &mut impl Inbox,
    ) {
        let mut arrivals = Arrivals::new(self, from, self.origin.moment(now));
        let stride = if stride == 0 { train.len() } else { stride };
        let mut start = 0_usize;
        loop {
            let end = start.saturating_add(stride).min(train.len());
            arrivals.take(train, start..end, into);
            start = end;
            if start == train.len() {
                break;
            }
        }
        arrivals.finish(train, into);
    }

    /// True once when [`crate::Mesh::tick`] should be called though no timer is due: a session is
    /// old, data came on a new one, a peer moved or became active.
    pub fn wants_control(&self) -> bool {
        self.wants.load(Ordering::Relaxed) && self.wants.swap(false, Ordering::AcqRel)
    }

    /// True where a peer is now: its handshakes must not wait behind those of a flood.
    pub fn is_endpoint(&self, address: SocketAddr) -> bool {
        self.endpoints.has(address)
    }

    /// Where the peer of that [`relay::id`] itself is spoken with, if there is a session with it that
    /// may send, and it was heard within [`SILENT`]: an endpoint or a bridge, never another relay.
    pub fn contact(&self, id: u64, now: Instant) -> Option<SocketAddr> {
        let peer = self.live(id, now)?;
        let bridge = peer.detour.load().as_deref().copied();
        bridge.filter(|at| relay::bridge_port(*at).is_some()).or_else(|| peer.direct())
    }

    /// True if `from` is where the peer of that [`relay::id`] itself speaks from: its endpoint, or the
    /// bridge that it was last heard by, whichever of them is used.
    pub fn speaks_from(&self, id: u64, from: SocketAddr, now: Instant) -> bool {
        let peer = self.live(id, now);
        peer.is_some_and(|peer| peer.direct() == Some(from) || self.bridge(id) == Some(from))
    }

    /// No lock is held on it.
    pub(crate) fn known(&self, id: u64) -> Option<Arc<PeerPath>> {
        self.called.get(&id).map(|peer| Arc::clone(&peer))
    }

    fn live(&self, id: u64, now: Instant) -> Option<Arc<PeerPath>> {
        let peer = self.known(id)?;
        let (heard, at) = (peer.last_received.get().happened(), self.origin.moment(now));
        let live = heard.is_none_or(|heard| at < heard.after(SILENT));
        (live && peer.sending.load().is_some()).then_some(peer)
    }

    /// What is to be seen of the peer of that [`crate::relay::id`], if others may pass on its datagrams.
    pub fn signs(&self, id: u64) -> Option<Signs> {
        let peer = self.called.get(&id)?;
        let instant = |moment: Moment| moment.happened().map(|at| self.origin.instant(at));
        Some(Signs {
            unanswered: instant(peer.unanswered.get()),
            heard: instant(peer.last_received.get()),
            session: peer.sending.load().is_some(),
        })
    }

    /// Has a peer known by what it is called where datagrams are passed on, or not: then nothing is
    /// sent to a relay for it any more.
    pub(crate) fn call(&self, peer: &Arc<PeerPath>, relayed: bool) {
        if relayed {
            self.called.insert(peer.called, Arc::clone(peer));
        } else {
            peer.detour.store(None);
            self.bridges.remove(peer.called);
            self.called.remove_if(&peer.called, |_, other| other.id == peer.id);
        }
    }

    /// Sends everything for the peer of that [`relay::id`] so from now on.
    pub fn set_detour(&self, id: u64, detour: Detour) {
        let Some(peer) = self.known(id) else { return };
        if detour == Detour::Bridge {
            self.use_bridge(&peer);
            return;
        }
        self.leave_bridge(&peer);
        let through = match detour {
            Detour::Relay(place) => Some(relay::address(id, place)),
            Detour::None | Detour::Bridge => None,
        };
        let begins = through.is_some();
        let before = peer.detour.swap(through.map(Arc::new));
        if before.is_none() && begins {
            self.ask(&peer, asks::DETOUR);
        }
    }

    /// What died in here; [`crate::Mesh::discards`] holds these as well.
    pub fn discards(&self) -> Discards {
        let mut discards = Discards::default();
        for &discard in Discard::ALL {
            discards.add(discard, self.discards[discard as usize].load(Ordering::Relaxed));
        }
        discards
    }

    /// Messages to a peer, if it has a session that may send and a place to send to.
    pub(crate) fn depart(
        &self,
        peer: Arc<PeerPath>,
        messages: u32,
        data: bool,
        at: Moment,
    ) -> Option<Train> {
        if messages > TOGETHER {
            return None;
        }
        let key = peer.sending.load_full()?;
        let endpoint = peer.endpoint()?;
        let Some(reserved) = key.reserve(messages, at) else {
            self.ask(&peer, asks::REKEY);
            return None;
        };
        if peer.sends(data, at) {
            self.ask(&peer, asks::SENT);
        }
        if reserved.rekey {
            self.ask(&peer, asks::REKEY);
        }
        if reserved.export {
            self.ask(&peer, asks::EXPORT);
        }
        let counters = reserved.first..reserved.first + u64::from(messages);
        Some(Train::new(key, peer, endpoint, counters))
    }

    /// Asks the control half to look at a peer.
    pub(crate) fn ask(&self, peer: &PeerPath, what: u32) {
        if peer.ask(what) {
            self.marks.set(peer.id);
            self.wants.store(true, Ordering::Release);
        }
    }

    pub(crate) fn count(&self, discard: Discard) {
        self.discards[discard as usize].fetch_add(1, Ordering::Relaxed);
    }

    fn refuse(&self, discard: Discard) -> Refused {
        self.count(discard);
        Refused::Discard(discard)
    }

    fn peer(&self, id: u32) -> Option<Arc<PeerPath>> {
        let found = self.peers.get(id)?;
        found.as_ref().filter(|peer| peer.id == id).cloned()
    }
}

#[cfg(test)]
mod tests;
