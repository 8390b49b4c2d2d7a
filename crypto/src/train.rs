//! Messages to one peer, reserved together and sealed one after the other, each in place.

use std::{net::SocketAddr, sync::Arc};

use crate::{
    path::PeerPath,
    relay,
    session::{SendKey, padded},
};

/// What a data message has before its packet, and after it.
pub const HEADER: usize = 16;
pub const TAG: usize = 16;

/// Messages reserved on one session. Those that are not used are lost, which does no harm.
pub struct Train {
    key: Arc<SendKey>,
    peer: Arc<PeerPath>,
    endpoint: SocketAddr,
    next: u64,
    end: u64,
    /// Of the packets sealed so far.
    bytes: u64,
}

impl Train {
    pub(crate) fn new(
        key: Arc<SendKey>,
        peer: Arc<PeerPath>,
        endpoint: SocketAddr,
        messages: std::ops::Range<u64>,
    ) -> Self {
        Self { key, peer, endpoint, next: messages.start, end: messages.end, bytes: 0 }
    }

    /// The length of the datagram that carries a packet through a tunnel of that MTU: padded to 16
    /// bytes, but never above the MTU.
    pub fn length(packet: usize, mtu: usize) -> usize {
        HEADER + padded(packet).min(mtu.max(packet)) + TAG
    }

    /// Where the datagrams go.
    pub fn endpoint(&self) -> SocketAddr {
        self.endpoint
    }

    /// Where the peer itself is, whatever else is sent to; none if that is not known.
    pub fn direct(&self) -> Option<SocketAddr> {
        self.peer.direct()
    }

    /// What the peer is called where datagrams are passed on: its [`relay::id`].
    pub fn called(&self) -> u64 {
        self.peer.called
    }

    /// The peer by the relay of that place.
    pub fn relayed(&self, place: u16) -> SocketAddr {
        relay::address(self.peer.called, place)
    }

    /// Seals `record` = `[16 free | packet | at least 16 free]` in place and returns the length of
    /// the datagram at its beginning. The packet is padded to 16 bytes as far as the record has
    /// room: a record as long as [`Train::length`] says is filled exactly. 0 if the record is too
    /// short or the train has no message left.
    #[inline]
    pub fn seal(&mut self, record: &mut [u8], packet: usize) -> usize {
        let room = record.len().saturating_sub(HEADER + TAG);
        if packet > room || record.len() < HEADER + TAG || self.next == self.end {
            return 0;
        }
        let body = padded(packet).min(room);
        record[HEADER + packet..HEADER + body].fill(0);
        let length = HEADER + body + TAG;
        self.key.seal(self.next, &mut record[..length]);
        self.next += 1;
        self.bytes += packet as u64;
        length
    }
}

impl Drop for Train {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.key.count_bytes(self.bytes);
            self.peer.count_sent(self.bytes);
        }
    }
}
