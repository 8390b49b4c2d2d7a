//! Every peer of this node: seal, open, tick, next_wake, set_peers.

use std::{net::SocketAddr, time::Instant};

use ipnet::IpNet;
use keys::PrivateKey;

use crate::{Discard, Discards, PeerConfig, PeerStatus};

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
    HandshakeComplete {
        peer: &'a str,
    },
    HandshakeTimeout {
        peer: &'a str,
    },
    EndpointChanged {
        peer: &'a str,
        from: Option<SocketAddr>,
        to: SocketAddr,
    },
}

/// Something in a list of peers that cannot be honoured; the rest of the list is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("peers {0} and {1} have the same name; the second is ignored")]
    SameName(String, String),
    #[error("peers {0} and {1} publish the same public key; the second's is ignored")]
    SameKey(String, String),
    #[error("peers {0} and {1} both claim {2}; the second's claim is ignored")]
    SamePrefix(String, String, IpNet),
    #[error("peer {0} claims {1}, which is this node's own; the claim is ignored")]
    OwnPrefix(String, IpNet),
    #[error("peer {0} publishes this node's own public key; was the key file copied?")]
    OwnKey(String),
    #[error("peer {0} publishes a low-order key that belongs to nobody; it is ignored")]
    LowOrderKey(String),
}

/// All peers of one node, as one value without a socket or a clock.
pub struct Mesh {
    discards: Discards,
}

impl Mesh {
    pub fn new(private_key: &PrivateKey, _now: Instant) -> Self {
        let _ = private_key;
        Self {
            discards: Discards::default(),
        }
    }

    /// Makes `peers` the peers. Whoever stays keeps its sessions and its learned endpoint.
    /// `own` are this node's prefixes: no peer may send from them.
    pub fn set_peers(
        &mut self,
        _peers: Vec<PeerConfig>,
        _own: &[IpNet],
        _out: &mut impl Outbox,
        _now: Instant,
    ) -> Vec<Problem> {
        Vec::new()
    }

    /// Encrypts an IP packet for the peer that owns its destination.
    pub fn seal(
        &mut self,
        _packet: &[u8],
        _out: &mut impl Outbox,
        _now: Instant,
    ) -> Result<(), Discard> {
        Err(Discard::NoRoute)
    }

    /// Takes a datagram from the underlay.
    pub fn open(
        &mut self,
        _datagram: &[u8],
        _from: SocketAddr,
        _out: &mut impl Outbox,
        _now: Instant,
    ) -> Result<(), Discard> {
        Err(Discard::NotWireGuard)
    }

    /// Does what is due: retries, rekeys, keepalives, expiry.
    pub fn tick(&mut self, _out: &mut impl Outbox, _now: Instant) {}

    /// When [`Mesh::tick`] wants to be called next.
    pub fn next_wake(&self) -> Option<Instant> {
        None
    }

    pub fn status(&self) -> Vec<PeerStatus> {
        Vec::new()
    }

    pub fn discards(&self) -> &Discards {
        &self.discards
    }
}
