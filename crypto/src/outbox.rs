//! What a mesh makes: datagrams, packets, news.

use std::net::SocketAddr;

/// Where a mesh puts what it makes. Called in order; the bytes are only lent.
pub trait Outbox {
    /// A datagram for the underlay.
    fn send(&mut self, to: SocketAddr, datagram: &[u8]);
    /// A packet for the tunnel device.
    fn deliver(&mut self, packet: &[u8]);
    /// Something an operator would write in a diary.
    fn event(&mut self, event: Event<'_>);
}

/// What changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    HandshakeComplete { peer: &'a str },
    HandshakeTimeout { peer: &'a str },
    EndpointChanged { peer: &'a str, from: Option<SocketAddr>, to: SocketAddr },
}
