//! boringtun's engine on the same trains: packet by packet, under its one lock.

use std::{
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use crypto::{Event, Outbox, boringtun::Mesh};

use super::{Came, Opened};
use crate::datapath::{
    offload::{Super, ecn},
    shared,
    train::Departures,
};

/// What a data message has before its packet.
const HEADER: usize = crypto::HEADER;

/// A mesh stays usable after a thread's panic: its state is checked with every packet, and a node
/// that is cut off helps nobody.
pub(super) fn lock<T>(mesh: &Mutex<T>) -> MutexGuard<'_, T> {
    mesh.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn seal(mesh: &mut Mesh, packet: Super<'_>, out: &mut Departures<'_>, now: Instant) {
    match packet {
        Super::One(packet) => seal_one(mesh, packet, out, now),
        Super::Many(split) => {
            let mut packet = vec![0; split.segment_length()];
            for number in 0..split.count() {
                let length = split.write(number, &mut packet);
                seal_one(mesh, &packet[..length], out, now);
            }
        }
    }
}

fn seal_one(mesh: &mut Mesh, packet: &[u8], out: &mut Departures<'_>, now: Instant) {
    let class = ecn::outer(ecn::traffic_class(packet), out.shared().dscp);
    let mut made = Made { out, class, delivered: Vec::new() };
    if let Err(discard) = mesh.seal(packet, &mut made, now) {
        tracing::trace!(discard = discard.name(), "packet not sent");
    }
}

pub(super) fn open(
    mesh: &mut Mesh,
    Came { bytes, from, stride }: Came<'_>,
    opened: &mut Opened,
    out: &mut Departures<'_>,
    now: Instant,
) {
    let mut made = Made { out, class: 0, delivered: Vec::new() };
    for (place, datagram) in bytes.chunks_mut(stride).enumerate() {
        made.delivered.clear();
        if let Err(discard) = mesh.open(datagram, from, &mut made, now) {
            tracing::trace!(discard = discard.name(), %from, "datagram not delivered");
        }
        let packet = HEADER..HEADER + made.delivered.len();
        if let Some(into) = datagram.get_mut(packet.clone()).filter(|into| !into.is_empty()) {
            into.copy_from_slice(&made.delivered);
            let base = place * stride;
            opened.packets.push(base + packet.start..base + packet.end);
        }
    }
}

/// What came of one packet or datagram.
struct Made<'a, 'b> {
    out: &'a mut Departures<'b>,
    class: u8,
    delivered: Vec<u8>,
}

impl Outbox for Made<'_, '_> {
    fn send(&mut self, to: SocketAddr, datagram: &[u8]) {
        self.out.say(to, self.class, datagram);
    }

    fn deliver(&mut self, packet: &[u8]) {
        self.delivered.extend_from_slice(packet);
    }

    fn event(&mut self, event: Event<'_>) {
        shared::log(&event);
    }
}
