//! Either engine behind the same words, so that every promise is asked of both.

use std::{
    net::SocketAddr,
    time::{Duration, Instant, SystemTime},
};

use crypto::{Discard, Discards, PeerConfig, PeerStatus, Problem, Settings, boringtun};
use ipnet::IpNet;
use keys::{KeyEpoch, PrivateKey};

use crate::{Random, node::Made};

/// Which engine the nodes of a world have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engines {
    Native,
    Boringtun,
    /// Neighbours have different ones; who has which depends on the seed.
    Mixed,
}

impl Engines {
    /// The engine of the node at `place`.
    pub(crate) fn at(self, place: usize, seed: u64) -> Engine {
        match self {
            Self::Native => Engine::Native,
            Self::Boringtun => Engine::Boringtun,
            Self::Mixed if (place as u64 + seed).is_multiple_of(2) => Engine::Native,
            Self::Mixed => Engine::Boringtun,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    Native,
    Boringtun,
}

/// The sessions of one node.
pub enum Mesh {
    Native(Box<crypto::Mesh>),
    Boringtun(Box<boringtun::Mesh>),
}

impl crypto::Random for Random {
    fn fill(&mut self, bytes: &mut [u8]) {
        bytes.fill_with(|| self.number() as u8);
    }
}

/// Calls the same of either.
macro_rules! either {
    ($mesh:expr, $inner:ident => $call:expr) => {
        match $mesh {
            Self::Native($inner) => $call,
            Self::Boringtun($inner) => $call,
        }
    };
}

impl Mesh {
    /// A native one begins at a wall clock of the year 2027, whatever time it is in the world: a
    /// node that begins again has a clock that went back.
    pub(crate) fn new(engine: Engine, private: &PrivateKey, random: Random, now: Instant) -> Self {
        match engine {
            Engine::Native => Self::Native(Box::new(crypto::Mesh::new(
                Settings {
                    identities: vec![(KeyEpoch::FIRST, private.clone())],
                    sending: KeyEpoch::FIRST,
                    random: Box::new(random),
                    timestamp_floor: None,
                    wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000),
                },
                now,
            ))),
            Engine::Boringtun => Self::Boringtun(Box::new(boringtun::Mesh::new(private, now))),
        }
    }

    pub fn engine(&self) -> Engine {
        match self {
            Self::Native(_) => Engine::Native,
            Self::Boringtun(_) => Engine::Boringtun,
        }
    }

    pub fn status(&self) -> Vec<PeerStatus> {
        either!(self, mesh => mesh.status())
    }

    pub fn discards(&self) -> Discards {
        either!(self, mesh => mesh.discards().clone())
    }

    pub(crate) fn set_peers(
        &mut self,
        peers: Vec<PeerConfig>,
        own: &[IpNet],
        made: &mut Made,
        now: Instant,
    ) -> Vec<Problem> {
        either!(self, mesh => mesh.set_peers(peers, own, made, now))
    }

    /// Gives it other keys of its own. Only the native engine has more than one.
    pub(crate) fn set_identities(
        &mut self,
        identities: Vec<(KeyEpoch, PrivateKey)>,
        sending: KeyEpoch,
        made: &mut Made,
        now: Instant,
    ) {
        match self {
            Self::Native(mesh) => mesh.set_identities(identities, sending, made, now),
            Self::Boringtun(_) => unreachable!("boringtun has one key"),
        }
    }

    pub(crate) fn seal(
        &mut self,
        packet: &[u8],
        made: &mut Made,
        now: Instant,
    ) -> Result<(), Discard> {
        either!(self, mesh => mesh.seal(packet, made, now))
    }

    pub(crate) fn open(
        &mut self,
        datagram: &[u8],
        from: SocketAddr,
        made: &mut Made,
        now: Instant,
    ) -> Result<(), Discard> {
        either!(self, mesh => mesh.open(datagram, from, made, now))
    }

    pub(crate) fn tick(&mut self, made: &mut Made, now: Instant) {
        either!(self, mesh => mesh.tick(made, now));
    }

    pub(crate) fn next_wake(&self) -> Option<Instant> {
        either!(self, mesh => mesh.next_wake())
    }
}
