//! Sealed datagrams in the shape of VXLAN, for networks that let that pass and not the tunnel's own
//! port: still sealed, 50 bytes longer, and for the sessions the same as ever.
//!
//! ```text
//! 0        8           22      42     50
//! │ VXLAN  │ Ethernet  │ IPv4  │ UDP  │ sealed datagram …     RFC 7348, section 5
//! ```
//! A seam between trains and sockets: on their way out, trains to peers that are reached so are put
//! into the shape, and on their way in they leave it and come from where their peer is said to be. So
//! nothing behind it knows how a datagram travelled, and no endpoint is learned from it. Handshakes
//! travel every way at once: before there is a session, nobody knows which way is open.

pub(super) mod listen;

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use arc_swap::{ArcSwap, ArcSwapOption};

use super::{
    offload::shape,
    udp::{Arrival, MOST_BYTES, MOST_SEGMENTS, Sockets, Train},
};

/// Who may be reached in the shape, and who is now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shaped {
    /// Listened on, and sent to: 4789, or 8472.
    pub port: u16,
    /// Endpoints of peers, as they are without it.
    pub peers: BTreeSet<SocketAddr>,
    /// Those that are reached so.
    pub used: BTreeSet<SocketAddr>,
}

/// Which way trains go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum By {
    /// As it was chosen for each peer.
    #[default]
    Chosen,
    Plain,
    Shape,
    /// All that there are: the same datagram twice.
    Every,
}

/// The seam. Where nothing is shaped, it is one look at a flag for each call of the kernel.
#[derive(Default)]
pub(super) struct Shapes {
    any: AtomicBool,
    table: ArcSwap<Shaped>,
    sockets: ArcSwapOption<Sockets>,
}

impl Shapes {
    pub(super) fn any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    /// Without sockets nothing is shaped.
    pub(super) fn set(&self, shaped: Shaped, sockets: Option<Arc<Sockets>>) {
        self.any.store(sockets.is_some(), Ordering::Relaxed);
        self.table.store(Arc::new(shaped));
        self.sockets.store(sockets);
    }

    pub(super) fn port(&self) -> u16 {
        self.table.load().port
    }

    pub(super) fn sockets(&self) -> Option<Arc<Sockets>> {
        self.sockets.load_full()
    }

    /// Sends in order, each train its way, and returns how many datagrams were refused.
    pub(super) fn send(&self, trains: &[Train], bytes: &[u8], by: By, plain: &Sockets) -> u64 {
        let (table, sockets) = (self.table.load(), self.sockets.load());
        let Some(sockets) = sockets.as_ref() else {
            // What was to go in the shape alone goes nowhere, as if that were blocked.
            return if by == By::Shape { 0 } else { plain.send(trains, bytes) };
        };
        let mut refused = 0;
        for train in trains {
            let known = table.peers.contains(&train.to);
            let (open, shape) = match by {
                By::Chosen => (!table.used.contains(&train.to), table.used.contains(&train.to)),
                By::Plain => (true, false),
                By::Shape => (false, known),
                By::Every => (true, known),
            };
            if open {
                refused += plain.send(std::slice::from_ref(train), bytes);
            }
            if shape {
                let (trains, bytes) = put_on(train, bytes, table.port);
                refused += sockets.send(&trains, &bytes);
            }
        }
        refused
    }

    /// Takes the shape off what came, in place. What has none, or comes from nobody's endpoint, is
    /// left out; how many datagrams that was is returned.
    pub(super) fn take_off(&self, slots: &mut [u8], arrivals: &mut Vec<Arrival>) -> u64 {
        let table = self.table.load();
        let mut strange = 0;
        arrivals.retain_mut(|arrival| {
            let from = arrival.from.ip();
            let mut peers = table.peers.range(SocketAddr::new(from, 0)..);
            let peer = peers.next().filter(|peer| peer.ip() == from);
            let train = &mut slots[arrival.range.clone()];
            let (count, stride) = (train.len().div_ceil(arrival.stride.max(1)), arrival.stride);
            match (peer, shape::strip(train, stride)) {
                (Some(peer), Some(length)) => {
                    arrival.from = *peer;
                    arrival.range.end = arrival.range.start + length;
                    arrival.stride = stride - shape::HEADER;
                    true
                }
                (_, _) => {
                    strange += count as u64;
                    false
                }
            }
        });
        strange
    }
}

/// As one train, or several where the longer datagrams no longer fit into one.
fn put_on(train: &Train, bytes: &[u8], port: u16) -> (Vec<Train>, Vec<u8>) {
    let stride = train.stride + shape::HEADER;
    let most = MOST_SEGMENTS.min(MOST_BYTES / stride).max(1);
    let datagrams: Vec<&[u8]> = bytes[train.range.clone()].chunks(train.stride).collect();
    let (mut trains, mut shaped) = (Vec::new(), Vec::with_capacity(datagrams.len() * stride));
    for run in datagrams.chunks(most) {
        let start = shaped.len();
        for datagram in run {
            shape::append(datagram, &mut shaped);
        }
        let to = SocketAddr::new(train.to.ip(), port);
        trains.push(Train { to, range: start..shaped.len(), stride, class: train.class });
    }
    (trains, shaped)
}

/// Whether the control half made it for a handshake: an initiation, a response or a cookie.
pub(super) fn is_handshake(datagram: &[u8]) -> bool {
    matches!(datagram.first(), Some(1..=3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shaped(port: u16) -> Shaped {
        let peers: BTreeSet<SocketAddr> = ["192.0.2.2:51820".parse().unwrap()].into();
        Shaped { port, used: peers.clone(), peers }
    }

    #[test]
    fn a_train_keeps_its_datagrams_through_the_shape_and_comes_from_where_its_peer_is() {
        let bytes: Vec<u8> = (0..45).flat_map(|n| vec![n; 1452]).chain([9; 100]).collect();
        let to = "192.0.2.2:51820".parse().unwrap();
        let train = Train { to, range: 0..bytes.len(), stride: 1452, class: 3 };

        let (trains, mut outer) = put_on(&train, &bytes, 8472);
        assert!(trains.len() > 1, "longer than one train may be");
        let mut arrivals: Vec<Arrival> = trains
            .into_iter()
            .map(|Train { to, range, stride, class }| {
                assert!(range.len() <= MOST_BYTES);
                Arrival { from: to, range, stride, class }
            })
            .collect();
        let shapes = Shapes::default();
        shapes.set(shaped(8472), None);
        assert_eq!(shapes.take_off(&mut outer, &mut arrivals), 0);

        let inner: Vec<&[u8]> = arrivals
            .iter()
            .flat_map(|came| outer[came.range.clone()].chunks(came.stride))
            .collect();
        assert_eq!(inner, bytes.chunks(1452).collect::<Vec<_>>());
        assert!(arrivals.iter().all(|came| came.from == to && came.class == 3));
    }

    #[test]
    fn what_comes_from_nobody_or_has_no_shape_is_left_out() {
        let shapes = Shapes::default();
        shapes.set(shaped(8472), None);
        let mut good = Vec::new();
        shape::append(&[4; 96], &mut good);
        let came = |from: &str, slots: &mut Vec<u8>| {
            let (range, from) = (0..slots.len(), from.parse().unwrap());
            let mut arrivals = vec![Arrival { from, stride: range.len(), range, class: 0 }];
            let strange = shapes.take_off(slots, &mut arrivals);
            (strange, arrivals.pop().map(|came| came.range))
        };

        assert_eq!(came("192.0.2.2:8472", &mut good.clone()), (0, Some(0..96)));
        assert_eq!(came("192.0.2.3:8472", &mut good.clone()), (1, None));
        for cut in [1, 8, 49, 50] {
            assert_eq!(came("192.0.2.2:8472", &mut good[..cut].to_vec()), (1, None), "{cut}");
        }
        assert_eq!(came("192.0.2.2:8472", &mut vec![4; 200]), (1, None));
    }
}
