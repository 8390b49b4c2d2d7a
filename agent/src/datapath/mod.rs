//! Carries packets between the tunnel device and the underlay, on threads of its own.
//!
//! ```text
//!   tun.rs → outbound.rs → crypto::Mesh → udp.rs
//!   udp.rs → inbound.rs  → crypto::Mesh → tun.rs
//!            timers.rs   → crypto::Mesh
//! ```

mod batch;
mod inbound;
mod outbound;
mod shared;
mod timers;
mod tun;
mod udp;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime},
};

use crypto::boringtun::Mesh;
pub use crypto::PeerConfig;
use ipnet::IpNet;
use keys::{KeyEpoch, PrivateKey};

use self::{batch::Outgoing, shared::Shared, tun::Tun, udp::Udp};

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
    Tun { name: String, source: std::io::Error },
    #[error("thread {name}: {source}")]
    Thread { name: &'static str, source: std::io::Error },
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
    shared: Arc<Shared>,
    desired: Mutex<Desired>,
    workers: Vec<JoinHandle<()>>,
    started: (SystemTime, Instant),
}

/// What the mesh was last told.
#[derive(Debug, Default)]
struct Desired {
    peers: Vec<PeerConfig>,
    own: Vec<IpNet>,
}

impl Datapath {
    /// Binds UDP on both families and starts the threads. Opens no tunnel device yet.
    pub fn start(config: Config) -> Result<Self, DatapathError> {
        let port = config.listen_port;
        let bind = |source| DatapathError::Bind { port, source };
        let udp = Udp::bind(port, config.fwmark).map_err(bind)?;
        let mesh = Mesh::new(&config.private_key, Instant::now());
        let shared = Arc::new(Shared::new(mesh, udp).map_err(bind)?);
        let started = (SystemTime::now(), Instant::now());
        warn_of_a_late_clock(config.timestamp_floor, started.0);
        let workers = workers(&shared)?;
        Ok(Self { config, shared, desired: Mutex::default(), workers, started })
    }

    /// Attaches the tunnel device, creating it when it is missing. Repeating it is harmless, so
    /// it is also the repair after somebody deleted the device.
    pub fn attach_tun(&self) -> Result<TunInfo, DatapathError> {
        if let Some(ifindex) = self.tun_index() {
            return Ok(TunInfo { ifindex });
        }
        let name = &self.config.tun_name;
        let failed = |source| DatapathError::Tun { name: name.clone(), source };
        // Its file first: a device that was renamed is still held by it.
        self.shared.tun.store(None);
        let tun = Tun::open(name, self.config.mtu).map_err(failed)?;
        let ifindex = tun.index().map_err(failed)?;
        self.shared.tun.store(Some(Arc::new(tun)));
        self.shared.tun_was_changed();
        Ok(TunInfo { ifindex })
    }

    /// False when the device was deleted under us (or never attached).
    pub fn tun_attached(&self) -> bool {
        self.tun_index().is_some()
    }

    /// False when a worker died: the data path carries packets no more and must be restarted.
    pub fn alive(&self) -> bool {
        self.workers.iter().all(|worker| !worker.is_finished())
    }

    /// Makes `peers` the peers; unchanged ones keep sessions and learned endpoints.
    pub fn set_peers(&self, peers: Vec<PeerConfig>) {
        let mut desired = self.desired.lock().unwrap_or_else(PoisonError::into_inner);
        desired.peers = peers;
        self.apply(&desired);
    }

    /// This node's own prefixes: no peer may send from them.
    pub fn set_own_prefixes(&self, prefixes: Vec<IpNet>) {
        let mut desired = self.desired.lock().unwrap_or_else(PoisonError::into_inner);
        if desired.own != prefixes {
            desired.own = prefixes;
            self.apply(&desired);
        }
    }

    pub fn status(&self) -> Vec<PeerStatus> {
        let (status, now, wall) = (self.shared.mesh().status(), Instant::now(), SystemTime::now());
        let at = |instant: Instant| wall.checked_sub(now.saturating_duration_since(instant));
        status.into_iter().map(|peer| PeerStatus::new(peer, at)).collect()
    }

    /// Every reason, also those that never happened.
    pub fn discards(&self) -> BTreeMap<&'static str, u64> {
        let mut counts: BTreeMap<_, _> =
            self.shared.mesh().discards().iter().map(|(why, n)| (why.name(), n)).collect();
        for (why, n) in self.shared.failures() {
            *counts.entry(why.name()).or_default() += n;
        }
        counts
    }

    /// The port in use, for both families.
    pub fn listen_port(&self) -> u16 {
        self.shared.udp.port()
    }

    /// The latest time that may have been put into a handshake so far: what the caller keeps on
    /// disk and hands back as [`Config::timestamp_floor`].
    pub fn handshake_clock(&self) -> SystemTime {
        // The engine's clock runs on from when a peer was added, whatever becomes of the wall's.
        let engine = self.started.0 + self.started.1.elapsed();
        let now = SystemTime::now().max(engine);
        self.config.timestamp_floor.map_or(now, |floor| floor.max(now))
    }

    fn tun_index(&self) -> Option<u32> {
        self.shared.tun.load().as_ref().and_then(|tun| tun.index().ok())
    }

    fn apply(&self, desired: &Desired) {
        let mut out = Outgoing::default();
        let peers = desired.peers.clone();
        let problems = self.shared.mesh().set_peers(peers, &desired.own, &mut out, Instant::now());
        self.shared.flush(&mut out);
        for problem in problems {
            tracing::warn!(%problem, "peer not wholly accepted");
        }
    }
}

impl Drop for Datapath {
    fn drop(&mut self) {
        self.shared.stop();
        for worker in self.workers.drain(..) {
            // A worker that panicked has said so already.
            let _ = worker.join();
        }
    }
}

impl PeerStatus {
    fn new(peer: crypto::PeerStatus, at: impl Fn(Instant) -> Option<SystemTime>) -> Self {
        Self {
            name: peer.name,
            endpoint: peer.endpoint,
            epoch: peer.epoch,
            last_handshake: peer.last_handshake.and_then(&at),
            last_received: peer.last_received.and_then(&at),
            rx_bytes: peer.rx_bytes,
            tx_bytes: peer.tx_bytes,
            rtt: peer.rtt,
            established: peer.established,
            allowed: peer.allowed,
        }
    }
}

fn workers(shared: &Arc<Shared>) -> Result<Vec<JoinHandle<()>>, DatapathError> {
    let mut workers = vec![
        worker("hawser-outbound", shared, outbound::run)?,
        worker("hawser-timers", shared, timers::run)?,
    ];
    for socket in shared.udp.sockets() {
        let socket = socket
            .try_clone()
            .map_err(|source| DatapathError::Thread { name: "hawser-inbound", source })?;
        let run = move |shared: &Shared| inbound::run(shared, &socket);
        workers.push(worker("hawser-inbound", shared, run)?);
    }
    Ok(workers)
}

fn worker(
    name: &'static str,
    shared: &Arc<Shared>,
    run: impl FnOnce(&Shared) + Send + 'static,
) -> Result<JoinHandle<()>, DatapathError> {
    let shared = Arc::clone(shared);
    let started = thread::Builder::new().name(name.to_owned()).spawn(move || run(&shared));
    started.map_err(|source| DatapathError::Thread { name, source })
}

/// boringtun stamps its handshakes with the wall clock and cannot be told otherwise, so a machine
/// whose clock went back cannot begin a handshake. Peers of ours notice and begin themselves.
fn warn_of_a_late_clock(floor: Option<SystemTime>, now: SystemTime) {
    if let Some(behind) = floor.and_then(|floor| floor.duration_since(now).ok()) {
        tracing::warn!(
            ?behind,
            "the clock went back since the last start; until it is right again, only peers that \
             run hawser can be reached, or whoever begins the handshake"
        );
    }
}

#[cfg(test)]
mod tests;
