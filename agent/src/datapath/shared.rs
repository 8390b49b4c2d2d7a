//! What the threads of one data path share. Nothing on a packet's way waits for a lock in here.

use std::{
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use arc_swap::ArcSwapOption;
use crypto::{Discard, Event};
use rustix::{
    event::{EventfdFlags, eventfd},
    io::Errno,
};

use super::{
    clear::Clear,
    control::Desk,
    offload::ecn::Dscp,
    recorder::{Recorder, Recording},
    relay::Seam,
    sessions::Sessions,
    shape::Shapes,
    tun::Tun,
    udp::Udp,
};

pub(super) struct Shared {
    pub(super) sessions: Sessions,
    /// Who is spoken to without a session.
    pub(super) clear: Clear,
    pub(super) udp: Udp,
    /// Who is reached by another port, in another shape.
    pub(super) shapes: Shapes,
    /// Who is reached through another node.
    pub(super) relays: Seam,
    pub(super) recorder: Recorder,
    pub(super) desk: Desk,
    /// Code point of the outer header.
    pub(super) dscp: Dscp,
    tun: ArcSwapOption<Tun>,
    mtu: AtomicUsize,
    /// One a worker, readable when `tun` changed or everything shall end.
    news: Vec<OwnedFd>,
    stopped: AtomicBool,
    counts: Counts,
}

/// Deaths that the sessions cannot see.
struct Counts([AtomicU64; Discard::ALL.len()]);

impl Shared {
    pub(super) fn new(
        sessions: Sessions,
        udp: Udp,
        desk: Desk,
        (mtu, dscp, recording): (u16, Dscp, Recording),
    ) -> std::io::Result<Self> {
        let news = (0..udp.workers()).map(|_| event()).collect::<Result<_, _>>()?;
        Ok(Self {
            sessions,
            clear: Clear::default(),
            udp,
            shapes: Shapes::default(),
            relays: Seam::default(),
            recorder: Recorder::new(recording),
            desk,
            dscp,
            tun: ArcSwapOption::empty(),
            mtu: AtomicUsize::new(mtu.into()),
            news,
            stopped: AtomicBool::new(false),
            counts: Counts([const { AtomicU64::new(0) }; _]),
        })
    }

    pub(super) fn tun(&self) -> Option<Arc<Tun>> {
        self.tun.load_full()
    }

    pub(super) fn set_tun(&self, tun: Option<Arc<Tun>>) {
        self.tun.store(tun);
        self.learn_mtu();
        self.tell();
    }

    /// The device was deleted. Whoever cares for the node's devices attaches the next one.
    pub(super) fn lose_tun(&self, lost: &Arc<Tun>, error: Errno) {
        let before = self.tun.compare_and_swap(lost, None);
        if before.as_ref().is_some_and(|before| Arc::ptr_eq(before, lost)) {
            tracing::warn!(%error, "tunnel device lost");
            self.tell();
        }
    }

    /// The longest packet that is padded no further.
    pub(super) fn mtu(&self) -> usize {
        self.mtu.load(Ordering::Relaxed)
    }

    /// Asks the device, whose MTU others may change.
    pub(super) fn learn_mtu(&self) {
        if let Some(mtu) = self.tun.load().as_ref().and_then(|tun| tun.mtu().ok()) {
            self.mtu.store(mtu, Ordering::Relaxed);
        }
    }

    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.tell();
        self.desk.ring();
    }

    pub(super) fn stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    pub(super) fn workers(&self) -> usize {
        self.news.len()
    }

    pub(super) fn news(&self, worker: usize) -> &OwnedFd {
        &self.news[worker]
    }

    pub(super) fn count(&self, discard: Discard, times: u64) {
        if times > 0 {
            self.counts.0[discard as usize].fetch_add(times, Ordering::Relaxed);
        }
    }

    pub(super) fn counts(&self) -> impl Iterator<Item = (Discard, u64)> + '_ {
        let counts = self.counts.0.iter().map(|count| count.load(Ordering::Relaxed));
        Discard::ALL.iter().copied().zip(counts)
    }

    fn tell(&self) {
        self.news.iter().for_each(signal);
    }
}

pub(super) fn event() -> std::io::Result<OwnedFd> {
    Ok(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)
}

pub(super) fn signal(event: &OwnedFd) {
    // Only fails when the counter is full, and then it is readable already.
    let _ = rustix::io::write(event, &1u64.to_ne_bytes());
}

/// Makes it unreadable until the next signal.
pub(super) fn quiet(event: &OwnedFd) {
    let _ = rustix::io::read(event, &mut [0u8; 8]);
}

pub(super) fn log(event: &Event<'_>) {
    match event {
        Event::HandshakeComplete { peer } => tracing::debug!(?peer, "handshake complete"),
        Event::HandshakeTimeout { peer } => {
            tracing::warn!(?peer, "no handshake for 90s; is the peer's udp port open?");
        }
        Event::EndpointChanged { peer, from, to } => {
            tracing::info!(?peer, ?from, %to, "endpoint changed");
        }
    }
}
