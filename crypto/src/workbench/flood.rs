//! A doorman with handshake messages before his door.

use std::{net::SocketAddr, time::Instant};

use keys::{KeyEpoch, PrivateKey};

use crate::{
    Discard, Random,
    doorman::{Arrival, Doorman, Verdict},
    handshake::Identity,
    message::INITIATION,
};

pub struct Flood {
    identities: Vec<Identity>,
    doorman: Doorman,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Answered,
    Demanded,
    Dropped(Discard),
}

impl Flood {
    /// A node with so many identities, up to 255.
    pub fn new(identities: u8, now: Instant) -> Self {
        let identity =
            |n: u8| Identity::new(KeyEpoch(u32::from(n)), &PrivateKey::from_bytes([n; 32]));
        Self { identities: (1..=identities).map(identity).collect(), doorman: Doorman::new(now) }
    }

    /// An initiation with a valid mac1 for one identity, as anybody can make who knows its public
    /// key; the rest of it is `filling`.
    pub fn initiation(&self, identity: usize, filling: u8) -> [u8; INITIATION] {
        let mut message = [filling; INITIATION];
        message[..4].copy_from_slice(&[1, 0, 0, 0]);
        self.identities[identity].door().stamp(&mut message, None);
        message
    }

    /// From somewhere unknown.
    pub fn judge(
        &mut self,
        datagram: &[u8],
        from: SocketAddr,
        now: Instant,
        random: &mut dyn Random,
    ) -> Fate {
        self.judge_arrival(Arrival { datagram, from, known: false }, now, random)
    }

    pub(crate) fn judge_arrival(
        &mut self,
        arrival: Arrival<'_>,
        now: Instant,
        random: &mut dyn Random,
    ) -> Fate {
        match self.doorman.judge(&self.identities, arrival, now, random) {
            Verdict::Answer(_) => Fate::Answered,
            Verdict::Demand(_) => Fate::Demanded,
            Verdict::Drop(discard) => Fate::Dropped(discard),
        }
    }
}
