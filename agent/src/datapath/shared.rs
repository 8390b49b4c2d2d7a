//! What the workers of one data path share.

use std::{
    os::fd::OwnedFd,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use arc_swap::ArcSwapOption;
use crypto::{Discard, boringtun::Mesh};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd};

use super::{
    batch::{Outgoing, Told},
    tun::Tun,
    udp::Udp,
};

pub(super) struct Shared {
    /// Taken once a batch; the system calls happen outside of it.
    mesh: Mutex<Mesh>,
    pub(super) tun: ArcSwapOption<Tun>,
    pub(super) udp: Udp,
    /// Readable once everything shall end.
    stop: OwnedFd,
    /// Readable when `tun` changed.
    pub(super) tun_changed: OwnedFd,
    send_failed: AtomicU64,
    tunnel_gone: AtomicU64,
}

impl Shared {
    pub(super) fn new(mesh: Mesh, udp: Udp) -> std::io::Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        Ok(Self {
            mesh: Mutex::new(mesh),
            tun: ArcSwapOption::empty(),
            udp,
            stop: eventfd(0, flags)?,
            tun_changed: eventfd(0, flags)?,
            send_failed: AtomicU64::new(0),
            tunnel_gone: AtomicU64::new(0),
        })
    }

    /// The mesh stays usable after a worker's panic: its state is checked with every packet, and
    /// a node that is cut off helps nobody.
    pub(super) fn mesh(&self) -> MutexGuard<'_, Mesh> {
        self.mesh.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn stop(&self) {
        signal(&self.stop);
    }

    pub(super) fn tun_was_changed(&self) {
        signal(&self.tun_changed);
    }

    /// Waits until one of `files` is readable or broken, or until `deadline`. False when
    /// everything shall end.
    pub(super) fn wait<'a>(
        &'a self,
        files: impl IntoIterator<Item = PollFd<'a>>,
        deadline: Option<Instant>,
    ) -> bool {
        let mut polled = vec![PollFd::new(&self.stop, PollFlags::IN)];
        polled.extend(files);
        let timeout = deadline.map(|deadline| {
            let left = deadline.saturating_duration_since(Instant::now());
            Timespec::try_from(left).expect("timers are due within seconds")
        });
        // An interrupted wait is as good as a short one.
        let _ = rustix::event::poll(&mut polled, timeout.as_ref());
        polled[0].revents().is_empty()
    }

    /// Sends, delivers and logs what the mesh made. Outside of its lock.
    pub(super) fn flush(&self, out: &mut Outgoing) {
        for (to, datagram) in out.datagrams() {
            if let Err(error) = self.udp.send(to, datagram) {
                self.send_failed.fetch_add(1, Ordering::Relaxed);
                tracing::trace!(%to, %error, "datagram refused");
            }
        }
        let tun = self.tun.load();
        for packet in out.packets() {
            let written = tun.as_ref().is_some_and(|tun| tun.write(packet).is_ok());
            if !written {
                self.tunnel_gone.fetch_add(1, Ordering::Relaxed);
            }
        }
        for event in out.events() {
            log(event);
        }
        out.clear();
    }

    /// Deaths that the mesh cannot see.
    pub(super) fn failures(&self) -> [(Discard, u64); 2] {
        [
            (Discard::SendFailed, self.send_failed.load(Ordering::Relaxed)),
            (Discard::TunnelGone, self.tunnel_gone.load(Ordering::Relaxed)),
        ]
    }
}

fn signal(event: &OwnedFd) {
    // Only fails when the counter is full, and then it is readable already.
    let _ = rustix::io::write(event, &1u64.to_ne_bytes());
}

fn log(event: &Told) {
    match event {
        Told::HandshakeComplete { peer } => tracing::debug!(?peer, "handshake complete"),
        Told::HandshakeTimeout { peer } => {
            tracing::warn!(?peer, "no handshake for 90s; is the peer's udp port open?");
        }
        Told::EndpointChanged { peer, from, to } => {
            tracing::info!(?peer, ?from, %to, "endpoint changed");
        }
    }
}
