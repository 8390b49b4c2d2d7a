//! What one wake-up of a worker reads, and what the mesh makes of it: two arenas that are filled,
//! emptied and used again, so that no packet allocates.

use std::{net::SocketAddr, ops::Range};

use crypto::{Event, Outbox};

/// No packet and no datagram is longer.
pub(super) const LONGEST: usize = 65_535;
/// Packets taken at one wake-up, at most.
pub(super) const BATCH: usize = 64;
/// Bytes read at one wake-up: 64 ordinary packets, or a few of the longest.
const ARENA: usize = 4 * LONGEST;

/// What was read, with a note of type `N` to each (where it came from).
pub(super) struct Inbox<N> {
    bytes: Box<[u8]>,
    used: usize,
    items: Vec<(Range<usize>, N)>,
}

impl<N> Inbox<N> {
    pub(super) fn new() -> Self {
        Self { bytes: vec![0; ARENA].into(), used: 0, items: Vec::with_capacity(BATCH) }
    }

    pub(super) fn clear(&mut self) {
        self.used = 0;
        self.items.clear();
    }

    /// Reads until `read` fails, which it is expected to do by having nothing more, or the batch
    /// is full. Returns what it failed with.
    pub(super) fn fill<E>(
        &mut self,
        mut read: impl FnMut(&mut [u8]) -> Result<(usize, N), E>,
    ) -> Result<(), E> {
        while self.items.len() < BATCH && self.bytes.len() - self.used >= LONGEST {
            let (length, note) = read(&mut self.bytes[self.used..self.used + LONGEST])?;
            self.items.push((self.used..self.used + length, note));
            self.used += length;
        }
        Ok(())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &N)> {
        self.items.iter().map(|(range, note)| (&self.bytes[range.clone()], note))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}

/// What the mesh wants to be sent, delivered and told.
#[derive(Default)]
pub(super) struct Outgoing {
    bytes: Vec<u8>,
    datagrams: Vec<(SocketAddr, Range<usize>)>,
    packets: Vec<Range<usize>>,
    events: Vec<Told>,
}

/// An [`Event`] that outlives the lock it was made under.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Told {
    HandshakeComplete { peer: String },
    HandshakeTimeout { peer: String },
    EndpointChanged { peer: String, from: Option<SocketAddr>, to: SocketAddr },
}

impl Outgoing {
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.datagrams.clear();
        self.packets.clear();
        self.events.clear();
    }

    pub(super) fn datagrams(&self) -> impl Iterator<Item = (SocketAddr, &[u8])> {
        self.datagrams.iter().map(|(to, range)| (*to, &self.bytes[range.clone()]))
    }

    pub(super) fn packets(&self) -> impl Iterator<Item = &[u8]> {
        self.packets.iter().map(|range| &self.bytes[range.clone()])
    }

    pub(super) fn events(&self) -> &[Told] {
        &self.events
    }

    fn keep(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        start..self.bytes.len()
    }
}

impl Outbox for Outgoing {
    fn send(&mut self, to: SocketAddr, datagram: &[u8]) {
        let range = self.keep(datagram);
        self.datagrams.push((to, range));
    }

    fn deliver(&mut self, packet: &[u8]) {
        let range = self.keep(packet);
        self.packets.push(range);
    }

    fn event(&mut self, event: Event<'_>) {
        self.events.push(match event {
            Event::HandshakeComplete { peer } => Told::HandshakeComplete { peer: peer.to_owned() },
            Event::HandshakeTimeout { peer } => Told::HandshakeTimeout { peer: peer.to_owned() },
            Event::EndpointChanged { peer, from, to } => {
                Told::EndpointChanged { peer: peer.to_owned(), from, to }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_ends_when_it_is_full_or_nothing_is_left() {
        let mut inbox = Inbox::new();
        let mut left = 3;
        let filled = inbox.fill(|into| {
            left -= 1;
            if left < 0 {
                return Err("empty");
            }
            into[0] = 7;
            Ok((1, ()))
        });
        assert_eq!(filled, Err("empty"));
        assert_eq!(inbox.iter().map(|(bytes, ())| bytes).collect::<Vec<_>>(), [[7]; 3]);

        inbox.clear();
        assert_eq!(inbox.fill(|_| Ok::<_, ()>((1, ()))), Ok(()));
        assert_eq!(inbox.iter().count(), BATCH);

        inbox.clear();
        assert_eq!(inbox.fill(|_| Ok::<_, ()>((LONGEST, ()))), Ok(()));
        assert_eq!(inbox.iter().count(), 4);
    }

    #[test]
    fn what_goes_out_comes_in_order_and_whole() {
        let mut out = Outgoing::default();
        let to = "192.0.2.1:51820".parse().unwrap();
        out.send(to, b"one");
        out.deliver(b"two");
        out.send(to, b"three");
        out.event(Event::HandshakeComplete { peer: "node-2" });

        assert_eq!(out.datagrams().collect::<Vec<_>>(), [(to, &b"one"[..]), (to, b"three")]);
        assert_eq!(out.packets().collect::<Vec<_>>(), [b"two"]);
        assert_eq!(out.events(), [Told::HandshakeComplete { peer: "node-2".to_owned() }]);
    }
}
