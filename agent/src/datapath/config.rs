//! What a data path is told at its start.

use std::time::{Instant, SystemTime};

use crypto::{Random, Settings};
use keys::{KeyEpoch, PrivateKey};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::{
    Dscp, Recording,
    sessions::{Native, Sessions},
};

/// Which implementation of the sessions carries packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Engine {
    #[default]
    Native,
    Boringtun,
}

impl Engine {
    pub fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Boringtun => "boringtun",
        }
    }
}

/// What a data path needs to start.
#[derive(Debug, Clone)]
pub struct Config {
    pub engine: Engine,
    /// This node's keys by epoch: one, or two while a rotation is under way.
    pub identities: Vec<(KeyEpoch, PrivateKey)>,
    /// Which of them handshakes are begun with.
    pub sending: KeyEpoch,
    /// 0 takes a free one; see [`super::Datapath::listen_port`].
    pub listen_port: u16,
    /// Name of the tunnel device, at most 15 bytes.
    pub tun_name: String,
    /// MTU of the tunnel device when this data path creates it.
    pub mtu: u16,
    /// Firewall mark on the encrypted datagrams.
    pub fwmark: Option<u32>,
    /// The latest time that this node ever put into a handshake (kept by the caller, see
    /// [`super::Datapath::handshake_clock`]).
    pub timestamp_floor: Option<SystemTime>,
    /// Threads that carry packets; none means one for each core that this process may use.
    pub workers: Option<usize>,
    /// Binds each of them to a core.
    pub pinned: bool,
    /// What the outer header tells the underlay.
    pub dscp: Dscp,
    pub recording: Recording,
}

#[derive(Debug, thiserror::Error)]
pub enum DatapathError {
    #[error("udp/{port} on this node: {source}; does another WireGuard or agent listen there?")]
    Bind { port: u16, source: std::io::Error },
    #[error("tunnel device {name}: {source}")]
    Tun { name: String, source: std::io::Error },
    #[error("thread {name}: {source}")]
    Thread { name: &'static str, source: std::io::Error },
    #[error("no private key of epoch {0} to send with")]
    NoKey(KeyEpoch),
}

/// The tunnel device as attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TunInfo {
    pub ifindex: u32,
}

impl Config {
    pub(super) fn sessions(&self) -> Result<Sessions, DatapathError> {
        let Self { engine, identities, sending, timestamp_floor, .. } = self;
        let now = Instant::now();
        let key = identities.iter().find(|(epoch, _)| epoch == sending);
        let (_, key) = key.ok_or(DatapathError::NoKey(*sending))?;
        Ok(match engine {
            Engine::Native => Sessions::Native(Box::new(Native::new(
                Settings {
                    identities: identities.clone(),
                    sending: *sending,
                    random: Box::new(SystemRandom),
                    timestamp_floor: *timestamp_floor,
                    wall: SystemTime::now(),
                },
                now,
            ))),
            Engine::Boringtun => Sessions::boringtun(key, now),
        })
    }

    /// boringtun stamps its handshakes with the wall clock and cannot be told otherwise, so a
    /// machine whose clock went back cannot begin a handshake. Peers of ours notice and begin
    /// themselves.
    pub(super) fn warn_of_a_late_clock(&self, now: SystemTime) {
        let floor = self.timestamp_floor.filter(|_| self.engine == Engine::Boringtun);
        if let Some(behind) = floor.and_then(|floor| floor.duration_since(now).ok()) {
            tracing::warn!(
                ?behind,
                "the clock went back since the last start; until it is right again, only peers \
                 that run hawser can be reached, or whoever begins the handshake"
            );
        }
    }
}

/// The kernel's random numbers.
struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&mut self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("the kernel has random numbers since it booted");
    }
}

/// The cores that this process may use.
pub(super) struct Cores(CpuSet);

impl Cores {
    pub(super) fn allowed() -> Self {
        Self(sched_getaffinity(None).unwrap_or_else(|_| {
            let mut first = CpuSet::new();
            first.set(0);
            first
        }))
    }

    pub(super) fn count(&self) -> usize {
        self.0.count().max(1) as usize
    }

    /// Binds the calling thread to one of them; failing that it runs anywhere.
    pub(super) fn pin(&self, number: usize) {
        let number = number % self.count();
        let core = (0..CpuSet::MAX_CPU).filter(|&core| self.0.is_set(core)).nth(number);
        if let Some(core) = core {
            let mut one = CpuSet::new();
            one.set(core);
            let _ = sched_setaffinity(None, &one);
        }
    }
}
