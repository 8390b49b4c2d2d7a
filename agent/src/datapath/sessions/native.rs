//! Our own engine: workers seal and open side by side, the control half has one lock that no
//! packet waits for.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard},
    time::Instant,
};

use crypto::{Discard, HEADER, Inbox, IpPacket, Mesh, Paths, Refused, Settings, Train};

use super::{Came, Opened, boringtun::lock};
use crate::datapath::{
    Sealed,
    control::Made,
    offload::{Split, Super, ecn},
    train::Departures,
};

/// Places that a peer is looked for at, at most.
const PLACES: u32 = 8;
/// Messages reserved at once, at most.
const RESERVED: usize = 64;

pub(in crate::datapath) struct Native {
    paths: Arc<Paths>,
    mesh: Mutex<Mesh>,
}

impl Native {
    pub(in crate::datapath) fn new(settings: Settings, now: Instant) -> Self {
        let mesh = Mesh::new(settings, now);
        Self { paths: mesh.paths(), mesh: Mutex::new(mesh) }
    }

    /// The control half.
    pub(super) fn mesh(&self) -> MutexGuard<'_, Mesh> {
        lock(&self.mesh)
    }

    pub(super) fn wants_control(&self) -> bool {
        self.paths.wants_control()
    }

    pub(super) fn is_endpoint(&self, address: SocketAddr) -> bool {
        self.paths.is_endpoint(address)
    }

    pub(super) fn paths(&self) -> &Paths {
        &self.paths
    }

    /// Without a session, the handshake for it goes this way too.
    pub(super) fn send_by(&self, packet: &[u8], by: Sealed, out: &mut Made<'_>, now: Instant) {
        let Some(parsed) = IpPacket::parse(packet) else { return };
        let Ok(mut train) = self.paths.probes(parsed.destination(), PLACES, now) else {
            // Whatever it dies of is counted.
            let _ = self.mesh().seal(packet, out, now);
            for (to, handshake) in out.departures.shared().relays.early() {
                out.departures.copy(to, 0, &handshake);
            }
            return;
        };
        let (places, relays) = (train.direct(), &out.departures.shared().relays);
        let places: BTreeSet<SocketAddr> = match by {
            Sealed::Relay(place) => [train.relayed(place)].into(),
            Sealed::Bridge => self.paths.bridge(train.called()).into_iter().collect(),
            Sealed::Shape => places.into_iter().collect(),
            Sealed::Plain => places.into_iter().chain(relays.sought_at(train.called())).collect(),
        };
        let room = Train::length(packet.len(), out.departures.shared().mtu());
        for to in places {
            out.departures.record(to, 0, room, |record| {
                record[HEADER..HEADER + packet.len()].copy_from_slice(packet);
                train.seal(record, packet.len())
            });
        }
    }

    pub(super) fn seal(&self, packet: Super<'_>, out: &mut Departures<'_>, now: Instant) {
        match packet {
            Super::One(packet) => self.seal_one(packet, out, now),
            Super::Many(split) => self.seal_many(&split, out, now),
        }
    }

    fn seal_one(&self, packet: &[u8], out: &mut Departures<'_>, now: Instant) {
        let shared = out.shared();
        let Some(parsed) = IpPacket::parse(packet) else {
            shared.count(Discard::NotIp, 1);
            return;
        };
        match self.paths.train(parsed.destination(), 1, now) {
            Ok(mut train) => {
                let class = ecn::outer(ecn::traffic_class(packet), shared.dscp);
                let room = Train::length(packet.len(), shared.mtu());
                out.record(train.endpoint(), class, room, |record| {
                    record[HEADER..HEADER + packet.len()].copy_from_slice(packet);
                    train.seal(record, packet.len())
                });
            }
            Err(Refused::Control) => shared.desk.packet(packet, shared),
            Err(Refused::Discard(_)) => {}
        }
    }

    /// One lookup and one reservation for up to [`RESERVED`] packets, each cut straight into the
    /// record that it is sealed in.
    fn seal_many(&self, split: &Split<'_>, out: &mut Departures<'_>, now: Instant) {
        let shared = out.shared();
        let (count, mtu) = (split.count(), shared.mtu());
        let class = ecn::outer(split.traffic_class(), shared.dscp);
        let room = Train::length(split.segment_length(), mtu);
        for start in (0..count).step_by(RESERVED) {
            let numbers = start..count.min(start + RESERVED);
            match self.paths.train(split.destination(), numbers.len() as u32, now) {
                Ok(mut train) => {
                    let to = train.endpoint();
                    for number in numbers {
                        out.record(to, class, room, |record| {
                            let length = split.write(number, &mut record[HEADER..]);
                            train.seal(&mut record[..Train::length(length, mtu)], length)
                        });
                    }
                }
                Err(Refused::Control) => {
                    let mut packet = vec![0; split.segment_length()];
                    for number in numbers {
                        let length = split.write(number, &mut packet);
                        shared.desk.packet(&packet[..length], shared);
                    }
                }
                Err(Refused::Discard(_)) => {}
            }
        }
    }

    pub(super) fn open(&self, train: Came<'_>, opened: &mut Opened, now: Instant) {
        self.paths.open(train.bytes, train.stride, train.from, now, opened);
    }
}

impl Inbox for Opened {
    fn packet(&mut self, place: Range<usize>) {
        self.packets.push(place);
    }

    fn handshake(&mut self, place: Range<usize>) {
        self.handshakes.push(place);
    }

    fn discard(&mut self, discard: Discard) {
        tracing::trace!(discard = discard.name(), "datagram not delivered");
    }
}
