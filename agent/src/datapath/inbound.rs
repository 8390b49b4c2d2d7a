//! Datagrams from the underlay to the tunnel device. Mirror image of `outbound.rs`.

use std::{io::IoSlice, net::UdpSocket, ops::Range, time::Instant};

use crypto::Discard;
use rustix::io::Errno;

use super::{
    offload::{Coalesce, Merged, Merging, VNET, ecn},
    sessions::Opened,
    shared::Shared,
    train::Departures,
    tun::{Queue, Tun},
    udp::{self, Arrival, LONGEST},
};

/// Slots of one receive call.
const SLOTS: usize = udp::MOST;
/// From this length on an arrival is a train, of which few at once fill the cache.
const TRAIN: usize = 8 << 10;
/// Trains taken in one call.
const FEW: usize = 1;
/// Packets merged at once.
const PACKETS: u16 = 1024;

pub(super) struct Inbound {
    slots: Box<[u8]>,
    arrivals: Vec<Arrival>,
    opened: Opened,
    coalesce: Coalesce,
    /// How many arrivals to ask for.
    most: usize,
}

impl Inbound {
    pub(super) fn new() -> Self {
        Self {
            slots: vec![0; SLOTS * LONGEST].into(),
            arrivals: Vec::with_capacity(SLOTS),
            opened: Opened::default(),
            coalesce: Coalesce::new(PACKETS, Merging::default()),
            most: SLOTS,
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
        self.arrivals.clear();
        // Whatever it ends with (nothing more, or an error that a datagram of ours came back
        // with), what was read counts.
        let _ = udp::receive(socket, &mut self.slots, self.most, &mut self.arrivals);
        if self.arrivals.is_empty() {
            return;
        }
        let now = Instant::now();
        for number in 0..self.arrivals.len() {
            self.open(number, device, out, now);
        }
        self.write(device, out.shared());
        out.send();
        let trains = self.arrivals.iter().any(|arrival| arrival.range.len() >= TRAIN);
        self.most = if trains { FEW } else { SLOTS };
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
        shared.sessions.open(train, (from, stride), &mut self.opened, out, now);
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
            if self.coalesce.push(&self.slots, packet.clone()).is_err() {
                self.write(device, shared);
                let _ = self.coalesce.push(&self.slots, packet);
            }
        }
    }

    fn write(&mut self, device: Option<(&Tun, &Queue)>, shared: &Shared) {
        let Self { coalesce, slots, .. } = self;
        let mut refused = None;
        coalesce.emit(slots, |merged| {
            let Some((_, queue)) = device else {
                shared.count(Discard::TunnelGone, merged.count() as u64);
                return;
            };
            if let Err(error) = write(queue, slots, merged, shared) {
                refused = Some(error);
            }
        });
        if let (Some(Errno::INVAL), Some((tun, _))) = (refused, device) {
            tun.refused_a_train();
            coalesce.set_merging(tun.merging());
        }
    }
}

/// Whole, or one by one where the kernel refuses that.
fn write(
    queue: &Queue,
    slots: &[u8],
    merged: &Merged<'_>,
    shared: &Shared,
) -> Result<(), Errno> {
    let Err(error) = merged.with_slices(|parts| queue.write(parts)) else {
        return Ok(());
    };
    if merged.count() == 1 || error != Errno::INVAL {
        tracing::trace!(%error, "packet not taken by the tunnel device");
        shared.count(Discard::TunnelGone, merged.count() as u64);
        return Ok(());
    }
    for packet in merged.packets() {
        if write_one(queue, &slots[packet]).is_err() {
            shared.count(Discard::TunnelGone, 1);
        }
    }
    Err(error)
}

/// A packet that needs nothing of the device.
pub(super) fn write_one(queue: &Queue, packet: &[u8]) -> Result<(), Errno> {
    queue.write(&[IoSlice::new(&[0; VNET]), IoSlice::new(packet)])
}
