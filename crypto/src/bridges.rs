//! Peers that are heard by a bridge: a socket of this machine that carries their datagrams in a byte
//! stream, where no datagram gets out. A peer that nothing came from by a bridge has no entry.
//!
//! ```text
//!   authentic by [100::port]:65535 ──▶ its bridge ── wanted ──▶ its detour
//!   the stream ended ───────────────▶ none
//! ```
//! A bridge is never where a peer is: what is known of that stays, and is gone back to.

use std::net::SocketAddr;

use dashmap::DashMap;

use crate::{Paths, path::PeerPath, relay};

/// By what the peers are called where datagrams are passed on.
#[derive(Default)]
pub(crate) struct Bridges(DashMap<u64, Bridge>);

#[derive(Default)]
struct Bridge {
    at: Option<SocketAddr>,
    /// Everything is sent to it.
    used: bool,
}

impl Bridges {
    pub(crate) fn remove(&self, id: u64) {
        self.0.remove(&id);
    }
}

impl Paths {
    /// The bridge to the peer of that [`relay::id`].
    pub fn bridge(&self, id: u64) -> Option<SocketAddr> {
        self.bridges.0.get(&id)?.at
    }

    /// Whom that bridge leads to.
    pub fn bridged(&self, bridge: SocketAddr) -> Option<u64> {
        let mut all = self.bridges.0.iter();
        all.find(|entry| entry.value().at == Some(bridge)).map(|entry| *entry.key())
    }

    /// Whoever made the bridge knows whom it leads to.
    pub fn set_bridge(&self, id: u64, bridge: SocketAddr) {
        if let Some(peer) = self.known(id) {
            self.cross(&peer, bridge);
        }
    }

    /// The stream of that bridge has ended.
    pub fn drop_bridge(&self, bridge: SocketAddr) {
        while let Some(id) = self.bridged(bridge) {
            let used = self.bridges.0.get_mut(&id).is_some_and(|mut entry| {
                entry.at = None;
                entry.used
            });
            if let Some(peer) = self.known(id).filter(|_| used) {
                peer.detour.store(None);
            }
            self.bridges.0.remove_if(&id, |_, entry| !entry.used && entry.at.is_none());
        }
    }

    /// What the peer is sent by its bridge, now or as soon as there is one.
    pub(crate) fn use_bridge(&self, peer: &PeerPath) {
        let mut entry = self.bridges.0.entry(peer.called).or_default();
        entry.used = true;
        peer.detour.store(entry.at.map(Into::into));
    }

    pub(crate) fn leave_bridge(&self, peer: &PeerPath) {
        if let Some(mut entry) = self.bridges.0.get_mut(&peer.called) {
            entry.used = false;
        }
    }

    /// Something authentic came from the peer by way of `from`.
    pub(crate) fn came_by(&self, peer: &PeerPath, from: SocketAddr) {
        if relay::bridge_port(from).is_some() && self.called.contains_key(&peer.called) {
            self.cross(peer, from);
        }
    }

    fn cross(&self, peer: &PeerPath, bridge: SocketAddr) {
        if self.bridge(peer.called) == Some(bridge) {
            return;
        }
        let mut entry = self.bridges.0.entry(peer.called).or_default();
        entry.at = Some(bridge);
        if entry.used {
            peer.detour.store(Some(bridge.into()));
        }
    }
}
