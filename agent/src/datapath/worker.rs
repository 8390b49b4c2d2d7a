//! One thread a core (not bound to it: cores are shared with the pods, and in measurements with
//! busy cores that gained a single TCP stream 7 % and cost four 11 %, and UDP 25 %) that carries packets both ways, each from its arrival to its departure.
//!
//! ```text
//!          ┌─ own TUN queue ──▶ outbound.rs ──▶ own sockets
//!   epoll ─┼─ own sockets ────▶ inbound.rs ───▶ own TUN queue
//!          └─ news: another device, or the end
//! ```
//! It sleeps only when nothing waits, and hands nothing to another thread but what is rare
//! (`control.rs`): waking an idle core costs 36 µs here, a packet costs three.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use rustix::{
    buffer::spare_capacity,
    event::epoll::{self, CreateFlags, Event, EventData, EventFlags},
};

use super::{
    inbound::Inbound,
    outbound::Outbound,
    shared::{Shared, quiet},
    train::Departures,
    tun::Tun,
};

const NEWS: u64 = 0;
const TUN: u64 = 1;
/// And one more for each socket after the first.
const SOCKETS: u64 = 2;

/// Runs until the data path stops.
pub(super) fn run(shared: &Shared, number: usize) {
    let worker = Worker::new(shared, number).and_then(|mut worker| {
        loop {
            worker.turn()?;
            if shared.stopped() {
                return Ok(());
            }
        }
    });
    if let Err(error) = worker {
        tracing::error!(%error, number, "worker ended");
    }
}

struct Worker<'a> {
    shared: &'a Shared,
    number: usize,
    epoll: OwnedFd,
    events: Vec<Event>,
    tun: Option<Arc<Tun>>,
    inbound: Inbound,
    outbound: Outbound,
    departures: Departures<'a>,
}

impl<'a> Worker<'a> {
    fn new(shared: &'a Shared, number: usize) -> io::Result<Self> {
        let sockets = shared.udp.of_worker(number);
        let worker = Self {
            shared,
            number,
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            events: Vec::with_capacity(8),
            tun: None,
            inbound: Inbound::new(),
            outbound: Outbound::new(),
            departures: Departures::new(shared, sockets),
        };
        worker.watch(shared.news(number), NEWS)?;
        for (socket, token) in sockets.each().zip(SOCKETS..) {
            worker.watch(socket, token)?;
        }
        Ok(worker)
    }

    fn watch(&self, file: impl AsFd, token: u64) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, file, EventData::new_u64(token), EventFlags::IN)?)
    }

    fn turn(&mut self) -> io::Result<()> {
        self.events.clear();
        // An interrupted wait is as good as a short one.
        let _ = epoll::wait(&self.epoll, spare_capacity(&mut self.events), None);
        for place in 0..self.events.len() {
            match self.events[place].data.u64() {
                NEWS => self.hear()?,
                TUN => self.outwards(),
                socket => self.inwards((socket - SOCKETS) as usize),
            }
        }
        if self.shared.sessions.wants_control() {
            self.shared.desk.ring();
        }
        Ok(())
    }

    /// Another device, or none.
    fn hear(&mut self) -> io::Result<()> {
        quiet(self.shared.news(self.number));
        self.forget();
        self.tun = self.shared.tun();
        let Some(tun) = &self.tun else {
            return Ok(());
        };
        self.inbound.set_merging(tun.merging());
        match tun.own_queue(self.number) {
            Some(queue) => self.watch(queue, TUN),
            None => Ok(()),
        }
    }

    fn forget(&mut self) {
        if let Some(queue) = self.tun.take().as_ref().and_then(|tun| tun.own_queue(self.number)) {
            // Closed files are watched no more; this one may be open elsewhere.
            let _ = epoll::delete(&self.epoll, queue);
        }
    }

    fn outwards(&mut self) {
        let Some(tun) = &self.tun else {
            return;
        };
        let Some(queue) = tun.own_queue(self.number) else {
            return;
        };
        if let Err(error) = self.outbound.turn(queue, &mut self.departures) {
            self.shared.lose_tun(tun, error);
            self.forget();
        }
    }

    fn inwards(&mut self, socket: usize) {
        let device = self.tun.as_deref().map(|tun| (tun, tun.queue(self.number)));
        if let Some(socket) = self.shared.udp.of_worker(self.number).each().nth(socket) {
            self.inbound.turn(socket, device, &mut self.departures);
        }
    }
}
