//! The thread beside the packets' way: handshakes, packets that wait for a session, timers.
//!
//! ```text
//!   worker ──▶ Desk: bounded queues and a bell ──▶ control thread ──▶ the mesh's control half
//! ```
//! A flood of handshakes fills its queue and is dropped there. Packets have a queue of their own,
//! and so have handshakes from where a peer is: a flood from elsewhere does not keep members out.

use std::{
    io,
    net::SocketAddr,
    os::fd::OwnedFd,
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    time::{Duration, Instant, SystemTime},
};

use crypto::{Discard, Event, Outbox};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{
    inbound::write_one,
    shared::{self, Shared},
    train::Departures,
};

/// How often to look while the mesh has nobody to care for.
const IDLE: Duration = Duration::from_secs(1);
/// A wall clock that gains or loses so much on the monotonic one was put, not slewed.
const JUMP: Duration = Duration::from_secs(2);
/// Handshake messages that wait, at most. At 100 µs each that is a tenth of a second.
const HANDSHAKES: usize = 1024;
/// Packets that wait to be queued for their session, at most.
const PACKETS: usize = 1024;
/// Handshake messages served before anything else has its turn.
const TURN: usize = 32;
/// No handshake message is longer.
const LONGEST_HANDSHAKE: usize = 148;

/// A message and where it came from.
type Handshake = (SocketAddr, Box<[u8]>);

/// Where workers leave what is not theirs to do. Never waits.
pub(super) struct Desk {
    /// From where peers are.
    members: SyncSender<Handshake>,
    strangers: SyncSender<Handshake>,
    packets: SyncSender<Box<[u8]>>,
    bell: OwnedFd,
    /// Spares the system call while the thread is awake.
    rung: AtomicBool,
}

/// The control thread's side of the desk.
pub(super) struct Tray {
    members: Receiver<Handshake>,
    strangers: Receiver<Handshake>,
    packets: Receiver<Box<[u8]>>,
}

impl Desk {
    pub(super) fn new() -> io::Result<(Self, Tray)> {
        let (members, from_members) = sync_channel(HANDSHAKES);
        let (strangers, from_strangers) = sync_channel(HANDSHAKES);
        let (packets, from_packets) = sync_channel(PACKETS);
        let (bell, rung) = (shared::event()?, AtomicBool::new(false));
        let desk = Self { members, strangers, packets, bell, rung };
        let tray = Tray { members: from_members, strangers: from_strangers, packets: from_packets };
        Ok((desk, tray))
    }

    pub(super) fn handshake(&self, message: &[u8], from: SocketAddr, shared: &Shared) {
        let known =
            shared.sessions.is_endpoint(from) || shared.relays.knows(from, shared.sessions.paths());
        let queue = if known { &self.members } else { &self.strangers };
        if message.len() > LONGEST_HANDSHAKE {
            shared.count(Discard::NotWireGuard, 1);
        } else if queue.try_send((from, message.into())).is_err() {
            shared.count(Discard::HandshakeLimit, 1);
        } else {
            self.ring();
        }
    }

    pub(super) fn packet(&self, packet: &[u8], shared: &Shared) {
        if self.packets.try_send(packet.into()).is_err() {
            shared.count(Discard::QueueFull, 1);
        } else {
            self.ring();
        }
    }

    /// Wakes the control thread.
    pub(super) fn ring(&self) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            shared::signal(&self.bell);
        }
    }
}

/// Runs until the data path stops.
pub(super) fn run(shared: &Shared, tray: &Tray) {
    let mut clocks = (SystemTime::now(), Instant::now());
    let mut learned = clocks.1;
    let mut out = Made::new(shared);
    loop {
        let wake = shared.sessions.next_wake().unwrap_or_else(|| Instant::now() + IDLE);
        wait(&shared.desk, wake.min(Instant::now() + IDLE));
        if shared.stopped() {
            return;
        }
        let now = (SystemTime::now(), Instant::now());
        if let Some(put) = put(clocks, now) {
            tracing::info!(?put, "wall clock put");
            shared.sessions.clock_was_put(now.0, put == Put::Forward, now.1);
        }
        clocks = now;
        if now.1 - learned >= IDLE {
            shared.learn_mtu();
            learned = now.1;
        }
        serve(shared, tray, &mut out, now.1);
        if now.1 >= wake || shared.sessions.is_native() {
            shared.sessions.tick(&mut out, now.1);
        }
        out.departures.send();
    }
}

fn wait(desk: &Desk, until: Instant) {
    let left = until.saturating_duration_since(Instant::now());
    let timeout = Timespec::try_from(left).expect("timers are due within seconds");
    // An interrupted wait is as good as a short one.
    let _ = poll(&mut [PollFd::new(&desk.bell, PollFlags::IN)], Some(&timeout));
    shared::quiet(&desk.bell);
    // Before the queues are looked at: what comes later rings again.
    desk.rung.store(false, Ordering::Release);
}

/// Everything that waits, a turn of handshakes at a time, with an end though more may come.
fn serve(shared: &Shared, tray: &Tray, out: &mut Made<'_>, now: Instant) {
    let mut left = TURN;
    while left > 0
        && let Ok((from, message)) = tray.members.try_recv().or_else(|_| tray.strangers.try_recv())
    {
        let relayed = crypto::relay::parse(from).is_some();
        out.departures.set_also(relayed.then_some(from));
        shared.sessions.answer(&message, from, out, now);
        out.departures.set_also(None);
        left -= 1;
    }
    for packet in tray.packets.try_iter().take(PACKETS) {
        shared.sessions.begin(&packet, out, now);
    }
    if left == 0 {
        shared.desk.ring();
    }
}

/// What the mesh's control half makes: sent in a moment, delivered and logged at once.
pub(super) struct Made<'a> {
    pub(super) departures: Departures<'a>,
}

impl<'a> Made<'a> {
    pub(super) fn new(shared: &'a Shared) -> Self {
        Self { departures: Departures::new(shared, shared.udp.of_worker(0)) }
    }
}

impl Outbox for Made<'_> {
    fn send(&mut self, to: SocketAddr, datagram: &[u8]) {
        self.departures.say(to, 0, datagram);
    }

    fn deliver(&mut self, packet: &[u8]) {
        let shared = self.departures.shared();
        let tun = shared.tun();
        let written = tun.is_some_and(|tun| write_one(tun.queue(0), packet).is_ok());
        shared.count(Discard::TunnelGone, u64::from(!written));
    }

    fn event(&mut self, event: Event<'_>) {
        shared::log(&event);
    }
}

/// How a wall clock was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Put {
    Forward,
    Back,
}

fn put(before: (SystemTime, Instant), now: (SystemTime, Instant)) -> Option<Put> {
    let expected = before.0 + now.1.saturating_duration_since(before.1);
    match now.0.duration_since(expected) {
        Ok(gain) => (gain > JUMP).then_some(Put::Forward),
        Err(loss) => (loss.duration() > JUMP).then_some(Put::Back),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_put_is_told_from_one_that_runs() {
        let (wall, monotonic) = (SystemTime::now(), Instant::now());
        let after = |wall_gain: i64, monotonic_gain: u64| {
            let gain = Duration::from_secs(wall_gain.unsigned_abs());
            let wall_now = if wall_gain < 0 { wall - gain } else { wall + gain };
            put((wall, monotonic), (wall_now, monotonic + Duration::from_secs(monotonic_gain)))
        };

        assert_eq!(after(10, 10), None);
        assert_eq!(after(11, 10), None, "slewed");
        assert_eq!(after(3600, 10), Some(Put::Forward));
        assert_eq!(after(-3600, 10), Some(Put::Back));
    }
}
