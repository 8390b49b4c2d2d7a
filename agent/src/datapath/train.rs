//! Datagrams on their way out, sealed where they lie: neighbours of one length to one address go
//! as one train.
//!
//! ```text
//!   [ record | record | record | shorter ][ record | record …
//!    └──────────── one train ───────────┘  └─ the next: another length, address or class
//! ```

use std::{net::SocketAddr, ops::Range, time::Instant};

use super::{
    recorder::Direction,
    relay,
    shape::{By, is_handshake},
    shared::Shared,
    udp::{MOST_BYTES, MOST_SEGMENTS, Sockets, Train},
};

/// Room for one super packet with what its records add, and one more that begins the next train.
const ROOM: usize = 160 << 10;

/// What is to be sent, and the sockets that send it.
pub(super) struct Departures<'a> {
    shared: &'a Shared,
    sockets: &'a Sockets,
    bytes: Box<[u8]>,
    used: usize,
    trains: Vec<Train>,
    by: By,
    also: Option<SocketAddr>,
}

impl<'a> Departures<'a> {
    pub(super) fn new(shared: &'a Shared, sockets: &'a Sockets) -> Self {
        let bytes = vec![0; ROOM].into();
        let (trains, by) = (Vec::with_capacity(64), By::Chosen);
        Self { shared, sockets, bytes, used: 0, trains, by, also: None }
    }

    pub(super) fn shared(&self) -> &'a Shared {
        self.shared
    }

    /// Bytes that wait.
    pub(super) fn waiting(&self) -> usize {
        self.used
    }

    /// Lets `write` fill a record of up to `room` bytes and say how long the datagram is; 0 takes
    /// it back. Sends what waits first if the record does not fit behind it. What goes by a relay
    /// gets its header here, before it.
    pub(super) fn record(
        &mut self,
        to: SocketAddr,
        class: u8,
        room: usize,
        write: impl FnOnce(&mut [u8]) -> usize,
    ) {
        let head = self.shared.relays.head(to);
        let skip = if head.is_some() { relay::HEADER } else { 0 };
        if self.bytes.len() - self.used < skip + room {
            self.send();
        }
        let Some(slot) = self.bytes.get_mut(self.used..self.used + skip + room) else {
            return;
        };
        let length = write(&mut slot[skip..]);
        if length > 0 {
            head.inspect(|head| head.write(slot));
            append(&mut self.trains, to, class, self.used..self.used + skip + length);
            self.used += skip + length;
        }
    }

    /// Takes a datagram that is made already.
    pub(super) fn copy(&mut self, to: SocketAddr, class: u8, datagram: &[u8]) {
        self.record(to, class, datagram.len(), |record| {
            record.copy_from_slice(datagram);
            datagram.len()
        });
    }

    /// What comes from now on goes this way; what waits goes before, as it was meant to.
    pub(super) fn set_way(&mut self, by: By) -> By {
        self.send();
        std::mem::replace(&mut self.by, by)
    }

    /// Handshakes go there too from now on, or no more.
    pub(super) fn set_also(&mut self, also: Option<SocketAddr>) {
        self.also = also;
    }

    /// One of the engine's own. A handshake with a peer that is silent goes every way there is: nobody
    /// knows yet which is open.
    pub(super) fn say(&mut self, to: SocketAddr, class: u8, datagram: &[u8]) {
        let shared = self.shared;
        if !is_handshake(datagram) || !(shared.shapes.any() || shared.relays.any()) {
            self.copy(to, class, datagram);
            return;
        }
        let before = self.set_way(By::Every);
        self.copy(to, class, datagram);
        let mut others = shared.relays.copies(to, datagram, (shared, Instant::now()));
        others.extend(self.also.filter(|also| *also != to));
        for other in others {
            self.copy(other, class, datagram);
        }
        self.set_way(before);
    }

    /// Sends everything, in order.
    pub(super) fn send(&mut self) {
        if self.trains.is_empty() {
            return;
        }
        self.record_trains();
        let refused = if self.shared.relays.any() {
            self.send_mixed()
        } else {
            self.send_straight(&self.trains)
        };
        self.shared.count(crypto::Discard::SendFailed, refused);
        self.trains.clear();
        self.used = 0;
    }

    fn send_straight(&self, trains: &[Train]) -> u64 {
        let shapes = &self.shared.shapes;
        if shapes.any() || self.by != By::Chosen {
            shapes.send(trains, &self.bytes, self.by, self.sockets)
        } else {
            self.sockets.send(trains, &self.bytes)
        }
    }

    /// Some may go by relays.
    fn send_mixed(&self) -> u64 {
        let relayed = |train: &Train| crypto::relay::parse(train.to).is_some();
        let runs = self.trains.chunk_by(|a, b| relayed(a) == relayed(b));
        let seam = (self.shared, self.sockets);
        let sent = runs.map(|run| {
            if relayed(&run[0]) {
                self.shared.relays.send(run, &self.bytes, seam)
            } else {
                self.send_straight(run)
            }
        });
        sent.sum()
    }

    pub(super) fn sockets(&self) -> &'a Sockets {
        self.sockets
    }

    fn record_trains(&self) {
        let now = Instant::now();
        for Train { to, range, stride, .. } in &self.trains {
            let train = &self.bytes[range.clone()];
            let skip = if crypto::relay::parse(*to).is_some() { relay::HEADER } else { 0 };
            self.shared.recorder.outer((Direction::Out, *to), now, train, (*stride, skip));
        }
    }
}

/// The bytes right behind those of the last train join it if they may.
fn append(trains: &mut Vec<Train>, to: SocketAddr, class: u8, range: Range<usize>) {
    if let Some(last) = trains.last_mut() {
        let length = last.range.len();
        let segments = length / last.stride;
        let all_alike = length == segments * last.stride;
        if all_alike
            && (last.to, last.class) == (to, class)
            && range.len() <= last.stride
            && segments < MOST_SEGMENTS
            && length + range.len() <= MOST_BYTES
        {
            last.range.end = range.end;
            return;
        }
    }
    let stride = range.len();
    trains.push(Train { to, range, stride, class });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each train as the lengths of its datagrams.
    fn trains(records: &[(u16, u8, usize)]) -> Vec<Vec<usize>> {
        let (mut trains, mut used) = (Vec::new(), 0);
        for &(port, class, length) in records {
            append(&mut trains, ([192, 0, 2, 1], port).into(), class, used..used + length);
            used += length;
        }
        let bytes = vec![0u8; used];
        let lengths = |train: Train| {
            bytes[train.range].chunks(train.stride).map(<[u8]>::len).collect::<Vec<_>>()
        };
        trains.into_iter().map(lengths).collect()
    }

    #[test]
    fn neighbours_of_one_length_share_a_train_and_a_shorter_one_ends_it() {
        assert_eq!(trains(&[(1, 0, 96), (1, 0, 96)]), [[96, 96]]);
        assert_eq!(trains(&[(1, 0, 96), (1, 0, 80), (1, 0, 80)]), [vec![96, 80], vec![80]]);
        assert_eq!(trains(&[(1, 0, 80), (1, 0, 96)]), [[80], [96]]);
    }

    #[test]
    fn another_address_or_class_is_another_train() {
        assert_eq!(trains(&[(1, 0, 96), (2, 0, 96)]), [[96], [96]]);
        assert_eq!(trains(&[(1, 0, 96), (1, 2, 96)]), [[96], [96]]);
    }

    #[test]
    fn no_train_is_longer_than_the_kernel_takes() {
        let many = trains(&[(1, 0, 96); MOST_SEGMENTS + 1]);
        assert_eq!((many[0].len(), many[1].len()), (MOST_SEGMENTS, 1));

        for (stride, fit) in [(1452, 45), (1424, 45), (1440, 45)] {
            let long = trains(&[(1, 0, stride); 46]);
            assert_eq!((long[0].len(), long[1].len()), (fit, 46 - fit), "{stride}");
            let on_the_device = long[0].iter().sum::<usize>() + 8 + 40 + 18;
            assert!(on_the_device < 65_536, "{stride}: the kernel takes it apart");
        }
    }
}
