//! The last packets of this node, inner and outer, for whoever has to say what happened.
//!
//! ```text
//!   tunnel device ── inner ──▶ sealed ── outer ──▶ underlay      of each: when, which way, how long,
//!                 ◀── inner ── opened ◀── outer ──               and its headers
//! ```
//! Of an inner packet its headers alone are kept unless more was asked for, of an outer one
//! WireGuard's: no key and nothing that was said. Each thread has a ring of its own; who finds one in
//! use (it is being read) records nothing, so nobody waits.

use std::{
    cell::Cell,
    collections::VecDeque,
    net::SocketAddr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

/// Rings; threads beyond share them.
const SEATS: usize = 8;
/// Type, receiver and counter of a data message; type and sender of a handshake's.
const OUTER: usize = 16;
/// The longest headers of an inner packet that are kept: IPv4 and TCP with all their options.
const HEADERS: usize = 120;

/// What to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recording {
    /// Packets of each thread; 0 keeps none.
    pub packets: usize,
    /// Bytes behind an inner packet's headers.
    pub payload: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    In,
    Out,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// As the tunnel device has it.
    Inner,
    /// A datagram, or a train of them, to or from there.
    Outer { far: SocketAddr },
}

/// One packet, or one piece in which the kernel handed over several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    pub at: Instant,
    pub side: Side,
    pub direction: Direction,
    /// Bytes of the packet; of a train, of its first datagram.
    pub length: usize,
    /// Datagrams in the train.
    pub pieces: usize,
    /// Its beginning.
    pub head: Vec<u8>,
}

pub(super) struct Recorder {
    recording: Recording,
    rings: [Mutex<VecDeque<Recorded>>; SEATS],
}

thread_local! {
    static SEAT: Cell<Option<usize>> = const { Cell::new(None) };
}

impl Recorder {
    pub(super) fn new(recording: Recording) -> Self {
        let ring = || Mutex::new(VecDeque::with_capacity(recording.packets));
        Self { recording, rings: std::array::from_fn(|_| ring()) }
    }

    /// A whole packet, or one super packet.
    pub(super) fn inner(&self, direction: Direction, at: Instant, packet: &[u8]) {
        let kept = (headers(packet) + self.recording.payload).min(packet.len());
        self.keep((at, Side::Inner, direction), (packet.len(), 1), &packet[..kept]);
    }

    /// Datagrams of `stride` bytes (the last may be shorter), each behind `skip` of another kind.
    pub(super) fn outer(
        &self,
        (direction, far): (Direction, SocketAddr),
        at: Instant,
        train: &[u8],
        (stride, skip): (usize, usize),
    ) {
        let first = train[..stride.min(train.len())].get(skip..).unwrap_or_default();
        let head = &first[..OUTER.min(first.len())];
        let pieces = train.len().div_ceil(stride.max(1));
        self.keep((at, Side::Outer { far }, direction), (first.len(), pieces), head);
    }

    fn keep(
        &self,
        (at, side, direction): (Instant, Side, Direction),
        (length, pieces): (usize, usize),
        head: &[u8],
    ) {
        let Some(mut ring) =
            self.rings[seat()].try_lock().ok().filter(|_| self.recording.packets > 0)
        else {
            return;
        };
        // The oldest one's memory is the newest one's.
        let mut kept = if ring.len() < self.recording.packets {
            Vec::with_capacity(HEADERS + self.recording.payload)
        } else {
            ring.pop_front().map(|oldest| oldest.head).unwrap_or_default()
        };
        kept.clear();
        kept.extend_from_slice(head);
        ring.push_back(Recorded { at, side, direction, length, pieces, head: kept });
    }

    /// All that is kept, the oldest first.
    pub(super) fn all(&self) -> Vec<Recorded> {
        let ring = |ring: &Mutex<VecDeque<Recorded>>| {
            let ring = ring.lock().unwrap_or_else(PoisonError::into_inner);
            ring.iter().cloned().collect::<Vec<_>>()
        };
        let mut all: Vec<Recorded> = self.rings.iter().flat_map(ring).collect();
        all.sort_by_key(|recorded| recorded.at);
        all
    }
}

fn seat() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    SEAT.with(|seat| {
        let taken = seat.get().unwrap_or_else(|| NEXT.fetch_add(1, Ordering::Relaxed) % SEATS);
        seat.set(Some(taken));
        taken
    })
}

/// Bytes of the IP header and of what is right behind it. Nothing of a packet that makes no sense.
fn headers(packet: &[u8]) -> usize {
    let first = packet.first().copied().unwrap_or_default();
    let later = packet.get(6..8).is_some_and(|word| word[0] & 0x1f != 0 || word[1] != 0);
    let (ip, protocol) = match first >> 4 {
        // A later fragment goes on with what was said.
        4 => (usize::from(first & 0xf) * 4, packet.get(9).filter(|_| !later)),
        6 => (40, packet.get(6)),
        _ => return 0,
    };
    let transport = match protocol {
        Some(6) => packet.get(ip + 12).map_or(0, |offset| usize::from(offset >> 4) * 4),
        Some(1 | 17 | 58) => 8,
        _ => 0,
    };
    (ip + transport).min(HEADERS).min(packet.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREE: Recording = Recording { packets: 3, payload: 0 };

    fn udp(v4: bool, payload: &[u8]) -> Vec<u8> {
        let mut packet = if v4 { vec![0; 28] } else { vec![0; 48] };
        (packet[0], packet[if v4 { 9 } else { 6 }]) = (if v4 { 0x45 } else { 0x60 }, 17);
        packet.extend(payload);
        packet
    }

    #[test]
    fn of_an_inner_packet_the_headers_are_kept_and_nothing_that_was_said() {
        for (v4, length) in [(true, 28), (false, 48)] {
            let recorder = Recorder::new(THREE);

            recorder.inner(Direction::Out, Instant::now(), &udp(v4, b"secret"));

            let kept = &recorder.all()[0];
            assert_eq!((kept.head.len(), kept.length), (length, length + 6));
        }
        let mut tcp = vec![0; 60 + 32];
        (tcp[0], tcp[9], tcp[60 + 12]) = (0x4f, 6, 0x80);
        tcp.extend(b"secret");
        assert_eq!(headers(&tcp), 60 + 32);
        let mut fragment = udp(true, b"secret");
        fragment[7] = 1;
        assert_eq!(headers(&fragment), 20);
        assert_eq!([headers(&[]), headers(&[0x45]), headers(&[0x10; 9])], [0, 1, 0]);
    }

    #[test]
    fn more_of_it_only_where_it_was_asked_for() {
        let recorder = Recorder::new(Recording { payload: 4, ..THREE });

        recorder.inner(Direction::In, Instant::now(), &udp(true, b"secret"));

        assert!(recorder.all()[0].head.ends_with(b"secr"));
    }

    #[test]
    fn the_last_ones_are_kept_in_their_order_and_none_where_none_is_wanted() {
        let (recorder, far) = (Recorder::new(THREE), "192.0.2.1:51820".parse().unwrap());
        let none = Recorder::new(Recording { packets: 0, payload: 0 });

        for length in 20u8..30 {
            let train = vec![length; 2 * usize::from(length) + 1];
            for recorder in [&recorder, &none] {
                recorder.outer((Direction::Out, far), Instant::now(), &train, (length.into(), 0));
            }
        }

        let kept = recorder.all();
        assert_eq!(kept.iter().map(|one| one.length).collect::<Vec<_>>(), [27, 28, 29]);
        assert!(kept.iter().all(|one| one.pieces == 3 && one.head.len() == OUTER));
        assert!(none.all().is_empty());
    }
}
