//! The control half: handshakes, timers, peers. One thread owns it.
#![allow(clippy::todo, dead_code, unused_variables, reason = "signatures first")]

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Instant, SystemTime},
};

use ipnet::IpNet;
use keys::{KeyEpoch, PrivateKey};

use crate::{Discard, Discards, Outbox, Paths, PeerConfig, PeerStatus, Problem, Random};

/// What a mesh begins with.
pub struct Settings {
    /// This node's keys by epoch: one, or two while a rotation is under way.
    pub identities: Vec<(KeyEpoch, PrivateKey)>,
    /// Which of them handshakes are begun with; one that is not listed means the newest.
    pub sending: KeyEpoch,
    pub random: Box<dyn Random>,
    /// The latest time ever put into a handshake, by [`Mesh::timestamp`] of an earlier life.
    pub timestamp_floor: Option<SystemTime>,
    pub wall: SystemTime,
}

/// All peers of one node, as one value without a socket or a clock.
pub struct Mesh;

impl Mesh {
    pub fn new(settings: Settings, now: Instant) -> Self {
        todo!()
    }

    /// Changes this node's own keys. Sessions of an epoch that is gone end; the others are renewed
    /// with the sending one, make before break.
    pub fn set_identities(
        &mut self,
        identities: Vec<(KeyEpoch, PrivateKey)>,
        sending: KeyEpoch,
        out: &mut impl Outbox,
        now: Instant,
    ) {
        todo!()
    }

    /// Tells what the wall clock says now. Handshakes' timestamps never go back.
    pub fn set_wall_clock(&mut self, wall: SystemTime, now: Instant) {
        todo!()
    }

    /// The latest time ever put into a handshake.
    pub fn timestamp(&self) -> SystemTime {
        todo!()
    }

    /// Makes `peers` the peers. Whoever stays keeps its sessions and its learned endpoint.
    /// `own` are this node's prefixes: no peer may send from them.
    pub fn set_peers(
        &mut self,
        peers: Vec<PeerConfig>,
        own: &[IpNet],
        out: &mut impl Outbox,
        now: Instant,
    ) -> Vec<Problem> {
        todo!()
    }

    /// Encrypts an IP packet for the peer that owns its destination, or keeps it for the session
    /// that it asks for.
    pub fn seal(
        &mut self,
        packet: &[u8],
        out: &mut impl Outbox,
        now: Instant,
    ) -> Result<(), Discard> {
        todo!()
    }

    /// Takes a datagram from the underlay.
    pub fn open(
        &mut self,
        datagram: &[u8],
        from: SocketAddr,
        out: &mut impl Outbox,
        now: Instant,
    ) -> Result<(), Discard> {
        todo!()
    }

    /// Does what is due, and what [`Paths`] asked for.
    pub fn tick(&mut self, out: &mut impl Outbox, now: Instant) {
        todo!()
    }

    /// When [`Mesh::tick`] wants to be called next.
    pub fn next_wake(&self) -> Option<Instant> {
        todo!()
    }

    pub fn status(&self) -> Vec<PeerStatus> {
        todo!()
    }

    /// What died, here and in [`Paths`].
    pub fn discards(&self) -> Discards {
        todo!()
    }

    /// The half that workers share.
    pub fn paths(&self) -> Arc<Paths> {
        todo!()
    }
}
