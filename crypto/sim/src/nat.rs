//! A NAT before a node: as whom its datagrams leave, and who gets in.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

/// How a mapping comes about. Either lets in only addresses and ports that were sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mapping {
    /// One for all receivers (endpoint-independent).
    One,
    /// Another for each (address-and-port-dependent: "symmetric").
    Each,
}

/// The state of one.
#[derive(Debug, Clone)]
pub struct Nat {
    mapping: Mapping,
    outside: IpAddr,
    idle: Duration,
    /// The next mapping's port.
    next: u16,
    /// By port and receiver: when it was last used.
    open: BTreeMap<(u16, SocketAddr), Instant>,
}

impl Nat {
    /// Forgets what was not used for `idle`.
    pub fn new(mapping: Mapping, outside: IpAddr, idle: Duration) -> Self {
        Self { mapping, outside, idle, next: 40_001, open: BTreeMap::new() }
    }

    /// Where its node is seen by whoever it sends to next, if all see it at one place.
    pub fn outside(&self) -> SocketAddr {
        (self.outside, self.next).into()
    }

    /// Forgets all, and takes other ports from now on.
    pub fn rebind(&mut self) {
        self.open.clear();
        self.next += 1;
    }

    /// As whom a datagram to `to` leaves.
    pub(crate) fn leave(&mut self, to: SocketAddr, now: Instant) -> SocketAddr {
        self.expire(now);
        let known = self.open.keys().find(|(_, receiver)| *receiver == to).map(|(port, _)| *port);
        let port = known.unwrap_or(self.next);
        if known.is_none() && self.mapping == Mapping::Each {
            self.next += 1;
        }
        self.open.insert((port, to), now);
        (self.outside, port).into()
    }

    /// Whether what `from` sent to `to` reaches the node.
    pub(crate) fn enters(&mut self, from: SocketAddr, to: SocketAddr, now: Instant) -> bool {
        self.expire(now);
        let used = self.open.get_mut(&(to.port(), from)).filter(|_| to.ip() == self.outside);
        used.map(|used| *used = now).is_some()
    }

    fn expire(&mut self, now: Instant) {
        let idle = self.idle;
        self.open.retain(|_, used| now.saturating_duration_since(*used) < idle);
    }
}
