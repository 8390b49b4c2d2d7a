//! What a mesh made of one call or of several.

use std::net::SocketAddr;

use crate::{Event, Outbox};

#[derive(Debug, Default)]
pub struct Made {
    pub datagrams: Vec<Vec<u8>>,
    pub packets: Vec<Vec<u8>>,
    /// How many were completed.
    pub handshakes: usize,
}

impl Outbox for Made {
    fn send(&mut self, _: SocketAddr, datagram: &[u8]) {
        self.datagrams.push(datagram.to_vec());
    }

    fn deliver(&mut self, packet: &[u8]) {
        self.packets.push(packet.to_vec());
    }

    fn event(&mut self, event: Event<'_>) {
        self.handshakes += usize::from(matches!(event, Event::HandshakeComplete { .. }));
    }
}
