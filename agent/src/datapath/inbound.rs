//! Datagrams from the underlay to the tunnel device. Mirror image of `outbound.rs`.

use std::{
    io::IoSlice,
    net::UdpSocket,
    ops::Range,
    time::{Duration, Instant},
};

use crypto::Discard;
use rustix::{io::Errno, thread::sched_yield};

use super::{
    bridge,
    offload::{Coalesce, Merged, Merging, VNET, ecn},
    recorder::Direction,
    sessions::{Came, Opened},
    shared::Shared,
    train::Departures,
    tun::{Queue, Tun},
    udp::{self, Arrival, LONGEST},
};

/// Slots of one receive call.
const SLOTS: usize = udp::MOST;
/// From this length on an arrival is a train, of which few at once fill the cache.
const TRAIN: usize = 8 << 10;
/// Trains taken in one call, and single datagrams where they come alone.
const FEW: usize = 1;
/// What comes in such a distance comes in numbers.
const CLOSE: Duration = Duration::from_micros(100);
/// Packets after whose delivery their readers have a turn before more are brought: without it
/// a flood fills a reader's socket and is dropped there, after all the work.
const BULK: usize = 16;
/// Packets merged at once.
const PACKETS: u16 = 1024;

pub(super) struct Inbound {
    slots: Box<[u8]>,
    arrivals: Vec<Arrival>,
    opened: Opened,
    coalesce: Coalesce,
    /// How many arrivals to ask for.
    most: usize,
    last: Instant,
}

impl Inbound {
    pub(super) fn new() -> Self {
        Self {
            slots: vec![0; SLOTS * LONGEST].into(),
            arrivals: Vec::with_capacity(SLOTS),
            opened: Opened::default(),
            coalesce: Coalesce::new(PACKETS, Merging::default()),
            most: SLOTS,
            last: Instant::now(),
        }
    }

    /// What the device takes in one piece.
    pub(super) fn set_merging(&mut self, merging: Merging) {
        self.coalesce.set_merging(merging);
    }

    /// Opens what waits in the socket and writes it to the device.
    pub(super) fn turn(
        &mut self,
        socket: &UdpSocket,
        device: Option<(&Tun, &Queue)>,
        out: &mut Departures<'_>,
    ) {
        self.receive(socket);
        let shared = out.shared();
        bridge::take_in(&mut self.arrivals);
        if shared.relays.any() {
            shared.relays.take_in(&mut self.slots, &mut self.arrivals, (shared, out.sockets()));
        }
        self.deliver(device, out);
    }

    /// The same for what comes in another shape.
    pub(super) fn turn_shaped(
        &mut self,
        socket: &UdpSocket,
        device: Option<(&Tun, &Queue)>,
        out: &mut Departures<'_>,
    ) {
        self.receive(socket);
        let shared = out.shared();
        let strange = shared.shapes.take_off(&mut self.slots, &mut self.arrivals);
        shared.count(Discard::NotWireGuard, strange);
        self.deliver(device, out);
    }

    /// Whatever it ends with (nothing more, or an error that a datagram of ours came back with), what
    /// was read counts.
    fn receive(&mut self, socket: &UdpSocket) {
        self.arrivals.clear();
        let _ = udp::receive(socket, &mut self.slots, self.most, &mut self.arrivals);
    }

    fn deliver(&mut self, device: Option<(&Tun, &Queue)>, out: &mut Departures<'_>) {
        if self.arrivals.is_empty() {
            return;
        }
        let now = Instant::now();
        let mut packets = 0;
        for number in 0..self.arrivals.len() {
            self.open(number, device, out, now);
            packets += self.opened.packets.len();
        }
        self.write(device, out.shared());
        out.send();
        if packets >= BULK {
            sched_yield();
        }
        let trains = self.arrivals.iter().any(|arrival| arrival.range.len() >= TRAIN);
        let close = now.saturating_duration_since(self.last) < CLOSE;
        self.most = if trains || !close { FEW } else { SLOTS };
        self.last = now;
    }

    fn open(
        &mut self,
        number: usize,
        device: Option<(&Tun, &Queue)>,
        out: &mut Departures<'_>,
        now: Instant,
    ) {
        let shared = out.shared();
        let Arrival { from, ref range, stride, class } = self.arrivals[number];
        let (start, train) = (range.start, &mut self.slots[range.clone()]);
        shared.recorder.outer((Direction::In, from), now, train, (stride, 0));
        if shared.clear.concerns(train, stride) {
            open_mixed(Came { bytes: &mut *train, from, stride }, &mut self.opened, out, now);
        } else {
            let came = Came { bytes: &mut *train, from, stride };
            shared.sessions.open(came, &mut self.opened, out, now);
        }
        for place in &self.opened.handshakes {
            shared.desk.handshake(&train[place.clone()], from, shared);
        }
        for place in 0..self.opened.packets.len() {
            let Range { start: first, end } = self.opened.packets[place];
            let packet = start + first..start + end;
            if let Err(discard) = ecn::combine(class, &mut self.slots[packet.clone()]) {
                shared.count(discard, 1);
                continue;
            }
            shared.recorder.inner(Direction::In, now, &self.slots[packet.clone()]);
            if self.coalesce.push(&self.slots, packet.clone()).is_err() {
                self.write(device, shared);
                let _ = self.coalesce.push(&self.slots, packet);
            }
        }
    }

    fn write(&mut self, device: Option<(&Tun, &Queue)>, shared: &Shared) {
        let Self { coalesce, slots, .. } = self;
        let mut refused = false;
        coalesce.emit(slots, |merged| {
            let done = match device {
                Some((_, queue)) => deliver(merged, slots, |parts| queue.write(parts)),
                None => Delivery { lost: merged.count(), refused: false },
            };
            shared.count(Discard::TunnelGone, done.lost as u64);
            refused |= done.refused;
        });
        if let Some((tun, _)) = device.filter(|_| refused) {
            tun.refused_a_train();
            coalesce.set_merging(tun.merging());
        }
    }
}

/// Frames in clear are taken apart here, whatever is sealed among them by its session.
fn open_mixed(
    Came { bytes, from, stride }: Came<'_>,
    opened: &mut Opened,
    out: &mut Departures<'_>,
    now: Instant,
) {
    let shared = out.shared();
    let mut one = Opened::default();
    let sealed = |datagram: &mut [u8], all: &mut Opened, base: usize| {
        let stride = datagram.len();
        shared.sessions.open(Came { bytes: datagram, from, stride }, &mut one, out, now);
        let there = |place: &Range<usize>| base + place.start..base + place.end;
        all.packets.extend(one.packets.iter().map(there));
        all.handshakes.extend(one.handshakes.iter().map(there));
    };
    let dead = |discard| shared.count(discard, 1);
    shared.clear.open_mixed(Came { bytes, from, stride }, opened, sealed, dead);
}

/// What became of one write.
#[derive(Debug, PartialEq, Eq)]
struct Delivery {
    /// Packets that the device did not take.
    lost: usize,
    /// It took none of them as a train, and some one by one.
    refused: bool,
}

/// Whole, or one by one where the kernel does not know that kind of train.
fn deliver(
    merged: &Merged<'_>,
    slots: &[u8],
    write: impl Fn(&[IoSlice<'_>]) -> Result<(), Errno>,
) -> Delivery {
    let Err(error) = merged.with_slices(&write) else {
        return Delivery { lost: 0, refused: false };
    };
    if merged.count() == 1 || error != Errno::INVAL {
        tracing::trace!(%error, "packet not taken by the tunnel device");
        return Delivery { lost: merged.count(), refused: false };
    }
    let one = |packet| write(&[IoSlice::new(&[0; VNET]), IoSlice::new(&slots[packet])]);
    let lost = merged.packets().filter(|packet| one(packet.clone()).is_err()).count();
    Delivery { lost, refused: lost < merged.count() }
}

/// A packet that needs nothing of the device.
pub(super) fn write_one(queue: &Queue, packet: &[u8]) -> Result<(), Errno> {
    queue.write(&[IoSlice::new(&[0; VNET]), IoSlice::new(packet)])
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    const LENGTH: usize = 28 + 100;

    /// Three datagrams of one flow, back to back.
    fn arena() -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, LENGTH as u8, 0, 0, 0x40, 0, 64, 17, 0, 0];
        packet.extend([10, 42, 1, 1, 10, 42, 2, 1, 0, 1, 0, 2, 0, 108, 0, 0]);
        packet.resize(LENGTH, 0);
        let sum = |bytes: &[u8]| {
            let sum = bytes.chunks(2).map(|two| u64::from(two[0]) << 8 | u64::from(two[1]));
            let mut sum: u64 = sum.sum();
            while sum > 0xffff {
                sum = (sum >> 16) + (sum & 0xffff);
            }
            (!(sum as u16)).to_be_bytes()
        };
        let pseudo = [&packet[12..20], &[0, 17, 0, 108], &packet[20..]].concat();
        let [header, datagram] = [sum(&packet[..20]), sum(&pseudo)];
        packet[10..12].copy_from_slice(&header);
        packet[26..28].copy_from_slice(&datagram);
        packet.repeat(3)
    }

    /// What a device that answers with `verdict` is given, as lengths of the writes.
    fn written(verdict: impl Fn(usize) -> Result<(), Errno>) -> (Vec<usize>, Vec<Delivery>) {
        let (arena, writes) = (arena(), RefCell::new(Vec::new()));
        let mut coalesce = Coalesce::new(8, Merging { tcp: true, udp: true });
        for start in (0..arena.len()).step_by(LENGTH) {
            coalesce.push(&arena, start..start + LENGTH).unwrap();
        }
        let mut deliveries = Vec::new();
        coalesce.emit(&arena, |merged| {
            deliveries.push(deliver(merged, &arena, |parts| {
                let length = parts.iter().map(|part| part.len()).sum();
                verdict(length)?;
                writes.borrow_mut().push(length);
                Ok(())
            }));
        });
        (writes.into_inner(), deliveries)
    }

    #[test]
    fn a_device_that_takes_trains_is_written_to_once() {
        let (writes, deliveries) = written(|_| Ok(()));

        assert_eq!(writes, [VNET + 28 + 300]);
        assert_eq!(deliveries, [Delivery { lost: 0, refused: false }]);
    }

    #[test]
    fn one_that_refuses_trains_gets_the_same_packets_one_by_one() {
        let single = VNET + LENGTH;

        let (writes, deliveries) =
            written(|length| if length > single { Err(Errno::INVAL) } else { Ok(()) });

        assert_eq!(writes, [single; 3]);
        assert_eq!(deliveries, [Delivery { lost: 0, refused: true }]);
    }

    #[test]
    fn one_that_is_down_loses_all_and_is_asked_once() {
        let (writes, deliveries) = written(|_| Err(Errno::IO));

        assert!(writes.is_empty());
        assert_eq!(deliveries, [Delivery { lost: 3, refused: false }]);
    }
}
