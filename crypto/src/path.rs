//! The hot half of a peer: what workers read and write with every train, without a lock.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwapOption;

use crate::{
    Routes,
    moment::{Moment, SharedMoment},
    relay,
    session::SendKey,
};

/// What the control half should look at. Set by workers, cleared by the control half when it has.
pub(crate) mod asks {
    /// Data was sent and nothing came since: somebody must watch for an answer.
    pub(crate) const SENT: u32 = 1;
    /// Data came and nothing was sent since: somebody must send a keepalive in time.
    pub(crate) const RECEIVED: u32 = 2;
    /// The session is old, or there is none that may send.
    pub(crate) const REKEY: u32 = 4;
    /// Data came on a session that we answered.
    pub(crate) const CONFIRMED: u32 = 8;
    /// The endpoint is another.
    pub(crate) const MOVED: u32 = 16;
    /// Counters reserved by an export are half used.
    pub(crate) const EXPORT: u32 = 32;
    /// It is reached by a relay from now on: where it itself is must be found.
    pub(crate) const DETOUR: u32 = 64;
    /// A relay brings it, and it is called where it may be itself: whoever hears it there says so.
    pub(crate) const FIND: u32 = 128;
}

pub(crate) struct PeerPath {
    /// Its index among the peers.
    pub(crate) id: u32,
    /// What it is called where datagrams are passed on, see [`relay::id`].
    pub(crate) called: u64,
    /// The session that packets are sealed with.
    pub(crate) sending: ArcSwapOption<SendKey>,
    pub(crate) endpoint: ArcSwapOption<SocketAddr>,
    /// Where everything is sent in its place.
    pub(crate) detour: ArcSwapOption<SocketAddr>,
    /// Whose packets it may hand on.
    pub(crate) forwards: ArcSwapOption<Routes<()>>,
    /// When data was first sent that nothing has followed from them.
    pub(crate) unanswered: SharedMoment,
    /// When data first came that nothing has followed from us.
    pub(crate) unacknowledged: SharedMoment,
    pub(crate) last_sent: SharedMoment,
    pub(crate) last_received: SharedMoment,
    rx_bytes: AtomicU64,
    tx_bytes: AtomicU64,
    asks: AtomicU32,
}

impl PeerPath {
    pub(crate) fn new((id, called): (u32, u64), endpoint: Option<SocketAddr>) -> Self {
        Self {
            id,
            called,
            detour: ArcSwapOption::empty(),
            sending: ArcSwapOption::empty(),
            endpoint: ArcSwapOption::from_pointee(endpoint),
            forwards: ArcSwapOption::empty(),
            unanswered: SharedMoment::default(),
            unacknowledged: SharedMoment::default(),
            last_sent: SharedMoment::default(),
            last_received: SharedMoment::default(),
            rx_bytes: AtomicU64::new(0),
            tx_bytes: AtomicU64::new(0),
            asks: AtomicU32::new(0),
        }
    }

    /// Where it is sent to.
    pub(crate) fn endpoint(&self) -> Option<SocketAddr> {
        self.detour.load().as_deref().copied().or_else(|| self.learned())
    }

    /// Everything for it goes to a relay.
    pub(crate) fn is_detoured(&self) -> bool {
        self.detour.load().is_some()
    }

    /// Where it is, as far as is known.
    pub(crate) fn learned(&self) -> Option<SocketAddr> {
        self.endpoint.load().as_deref().copied()
    }

    /// The same, unless all that is known is a relay.
    pub(crate) fn direct(&self) -> Option<SocketAddr> {
        self.learned().filter(|at| !relay::is(at))
    }

    /// Notes that something is sent now; true if somebody must begin to watch for an answer.
    pub(crate) fn sends(&self, data: bool, at: Moment) -> bool {
        self.last_sent.set(at);
        self.unacknowledged.end();
        data && self.unanswered.begin(at) && !self.asked(asks::SENT)
    }

    /// Notes that something authentic came; true if somebody must begin to think of a keepalive.
    pub(crate) fn hears(&self, data: bool, at: Moment) -> bool {
        self.last_received.set(at);
        self.unanswered.end();
        data && self.unacknowledged.begin(at) && !self.asked(asks::RECEIVED)
    }

    /// Follows the peer to where it sends from; true if that is news, or it is found. A relay is not
    /// where it is, if anything else is known.
    pub(crate) fn follow(&self, from: SocketAddr) -> bool {
        let by_relay = relay::is(&from);
        let found = !by_relay && self.asked(asks::FIND) && self.take_asked(asks::FIND) != 0;
        let before = self.learned();
        if before == Some(from) || (by_relay && before.is_some_and(|at| !relay::is(&at))) {
            return found;
        }
        self.endpoint.store(Some(Arc::new(from)));
        true
    }

    /// True if not all of these were asked already.
    pub(crate) fn ask(&self, what: u32) -> bool {
        !self.asked(what) && self.asks.fetch_or(what, Ordering::SeqCst) & what != what
    }

    pub(crate) fn asked(&self, what: u32) -> bool {
        self.asks.load(Ordering::SeqCst) & what == what
    }

    /// What was asked of these, and does not count as asked any more.
    pub(crate) fn take_asked(&self, what: u32) -> u32 {
        self.asks.fetch_and(!what, Ordering::SeqCst) & what
    }

    pub(crate) fn count_sent(&self, bytes: u64) {
        self.tx_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn count_received(&self, bytes: u64) {
        self.rx_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn tx_bytes(&self) -> u64 {
        self.tx_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn rx_bytes(&self) -> u64 {
        self.rx_bytes.load(Ordering::Relaxed)
    }
}
