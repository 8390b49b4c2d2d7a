//! Carries packets between the tunnel device and the underlay, on threads of its own.
//!
//! ```text
//!   one worker a core:  tun.rs → outbound.rs → sessions.rs → train.rs → udp.rs
//!                       udp.rs → inbound.rs  → sessions.rs → offload/ → tun.rs
//!                       (clear.rs in the place of sessions.rs, where encryption is none)
//!   between trains and sockets: shape.rs, for peers that are reached by another port, relay.rs,
//!   for those that are reached through another node, and bridge.rs, by a byte stream
//!   beside them, one:   control.rs: handshakes, waiting packets, timers
//! ```

mod bridge;
mod clear;
mod config;
mod control;
mod inbound;
pub mod offload;
mod outbound;
mod recorder;
mod relay;
mod sessions;
mod shape;
mod shared;
mod train;
mod tun;
mod udp;
mod worker;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime},
};

use crypto::relay::Detour;
pub use crypto::{PeerConfig, Signs};
use ipnet::IpNet;
use keys::{KeyEpoch, PrivateKey};

pub use self::{
    bridge::BRIDGES,
    clear::ClearPeer,
    config::{Config, DatapathError, Engine, TunInfo},
    offload::{ecn::Dscp, shape::HEADER as SHAPE, udp_packet},
    recorder::{Direction, Recorded, Recording, Side},
    relay::{HEADER as RELAY, PassedOn, Relayed, Relays},
    shape::Shaped,
};
use self::{
    config::Cores,
    control::{Desk, Made, Tray},
    shared::Shared,
    tun::Tun,
    udp::Udp,
};

// The simulator's clock would stop every handshake.
const _: () = assert!(!crypto::SIMULATED);

/// Which way a sealed datagram takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sealed {
    Plain,
    Shape,
    /// By the relay of that place.
    Relay(u16),
    /// By its bridge, if there is one.
    Bridge,
}

/// One peer, live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerStatus {
    pub name: String,
    pub endpoint: Option<SocketAddr>,
    /// The epoch of the key that packets to it are sealed for.
    pub epoch: Option<KeyEpoch>,
    /// The epoch of our own key in the session that packets are sealed with.
    pub own_epoch: Option<KeyEpoch>,
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
    threads: Vec<JoinHandle<()>>,
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
    pub fn start(mut config: Config) -> Result<Self, DatapathError> {
        let port = config.listen_port;
        let bind = |source| DatapathError::Bind { port, source };
        let workers = config.workers.unwrap_or_else(|| Cores::allowed().count()).max(1);
        let sessions = config.sessions()?;
        // The sessions have them; here they would outlive a rotation.
        config.identities.clear();
        let udp = Udp::bind(port, config.fwmark, workers).map_err(bind)?;
        let (desk, tray) = Desk::new().map_err(bind)?;
        let settings = (config.mtu, config.dscp, config.recording);
        let shared = Shared::new(sessions, udp, desk, settings);
        let shared = shared.map_err(bind)?;
        let shared = Arc::new(shared);
        let started = (SystemTime::now(), Instant::now());
        config.warn_of_a_late_clock(started.0);
        let threads = threads(&shared, tray, workers, config.pinned)?;
        Ok(Self { config, shared, desired: Mutex::default(), threads, started })
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
        self.shared.set_tun(None);
        let queues = self.shared.workers();
        let tun = Tun::open(name, self.config.mtu, queues).map_err(failed)?;
        let ifindex = tun.index().map_err(failed)?;
        self.shared.set_tun(Some(Arc::new(tun)));
        Ok(TunInfo { ifindex })
    }

    /// False when the device was deleted under us (or never attached).
    pub fn tun_attached(&self) -> bool {
        self.tun_index().is_some()
    }

    /// False when a worker died: the data path carries packets no more and must be restarted.
    pub fn alive(&self) -> bool {
        self.threads.iter().all(|thread| !thread.is_finished())
    }

    /// Makes `peers` the peers; unchanged ones keep sessions and learned endpoints.
    pub fn set_peers(&self, peers: Vec<PeerConfig>) {
        let mut desired = self.desired.lock().unwrap_or_else(PoisonError::into_inner);
        desired.peers = peers;
        self.apply(&desired);
    }

    /// The last packets, the oldest first.
    pub fn recorded(&self) -> Vec<Recorded> {
        self.shared.recorder.all()
    }

    /// Shows every peer where this node is now.
    pub fn announce(&self) {
        let mut out = Made::new(&self.shared);
        self.shared.sessions.announce(&mut out, Instant::now());
        out.departures.send();
    }

    /// Makes these the peers that packets may be in clear to and from; all others are sealed to.
    pub fn set_clear(&self, peers: &[ClearPeer]) {
        self.shared.clear.set(peers);
    }

    /// Who may be reached in another shape, and who is: listens on its port from now on, or no more.
    /// A port that is taken by others stays theirs, and everybody is reached as usual.
    pub fn set_shaped(&self, shaped: Option<Shaped>) {
        let Some(shaped) = shaped else {
            self.shared.shapes.set(Shaped::default(), None);
            return;
        };
        let before = self.shared.shapes.sockets();
        let sockets = match before.filter(|_| self.shared.shapes.port() == shaped.port) {
            Some(sockets) => Some(sockets),
            None => self.listen_beside(shaped.port),
        };
        self.shared.shapes.set(shaped, sockets);
    }

    fn listen_beside(&self, port: u16) -> Option<Arc<udp::Sockets>> {
        // Another's sockets must be closed before the port is free.
        self.shared.shapes.set(Shaped::default(), None);
        let sockets = match Udp::beside(port, self.config.fwmark) {
            Ok(sockets) => Arc::new(sockets),
            Err(error) => {
                tracing::warn!(%error, port, "no datagrams in the shape of VXLAN; who listens there?");
                return None;
            }
        };
        let (shared, own) = (Arc::clone(&self.shared), Arc::clone(&sockets));
        let run = move || shape::listen::run(&shared, &own);
        // It ends by itself, half a second after the data path or its port.
        let started = thread::Builder::new().name("hawser-shaped".to_owned()).spawn(run);
        started.map(|_| sockets).inspect_err(|error| tracing::warn!(%error, "no thread")).ok()
    }

    /// Who may be reached through whom, and who is; none: no node passes anything on. boringtun's
    /// engine reaches nobody so.
    pub fn set_relays(&self, relays: Option<Relays>) {
        let relays = relays.filter(|_| self.shared.sessions.is_native());
        let used = relays.clone().unwrap_or_default().peers;
        let before = self.shared.relays.set(relays);
        let gone = before.peers.keys().filter(|id| !used.contains_key(id));
        for id in gone {
            self.shared.sessions.set_detour(*id, Detour::None);
        }
        for (id, peer) in used {
            let relay = peer.used.map_or(Detour::None, Detour::Relay);
            let detour = if peer.bridged { Detour::Bridge } else { relay };
            self.shared.sessions.set_detour(id, detour);
        }
    }

    /// The bridge of that local port leads to that peer.
    pub fn set_bridge(&self, peer: &str, port: u16) {
        let Some(paths) = self.shared.sessions.paths() else { return };
        paths.set_bridge(crypto::relay::id(peer), crypto::relay::bridge(port));
        let mut out = Made::new(&self.shared);
        self.shared.sessions.hurry(peer, &mut out, Instant::now());
        out.departures.send();
        self.shared.desk.ring();
    }

    /// The stream of that bridge has ended.
    pub fn drop_bridge(&self, port: u16) {
        if let Some(paths) = self.shared.sessions.paths() {
            paths.drop_bridge(crypto::relay::bridge(port));
        }
    }

    /// Whether a peer was heard by that bridge, or the bridge was made to it.
    pub fn is_bridge(&self, port: u16) -> bool {
        let paths = self.shared.sessions.paths();
        paths.is_some_and(|paths| paths.bridged(crypto::relay::bridge(port)).is_some())
    }

    /// Whether streams can stand in for datagrams: boringtun's engine has none.
    pub fn has_bridges(&self) -> bool {
        self.shared.sessions.is_native()
    }

    /// What is to be seen of the peer of that name, where relays may serve it.
    pub fn signs(&self, peer: &str) -> Option<Signs> {
        self.shared.sessions.signs(crypto::relay::id(peer))
    }

    /// What this node has passed on for others since its start.
    pub fn passed_on(&self) -> PassedOn {
        self.shared.relays.passed_on()
    }

    /// Sends a whole packet sealed to whom its destination is of, plain, in the shape or by one of
    /// its relays, whatever carries the others.
    pub fn send_sealed(&self, packet: &[u8], by: Sealed) {
        let mut out = Made::new(&self.shared);
        out.departures.set_way(match by {
            Sealed::Shape => shape::By::Shape,
            Sealed::Plain | Sealed::Relay(_) | Sealed::Bridge => shape::By::Plain,
        });
        self.shared.sessions.send_by(packet, by, &mut out, Instant::now());
        out.departures.send();
        self.shared.desk.ring();
    }

    /// Sends a whole packet in clear, if its destination is of somebody who may be heard in clear.
    pub fn send_clear(&self, packet: &mut [u8]) {
        let mut out = Made::new(&self.shared);
        let packet = offload::Super::One(packet);
        if let Some(to) = self.shared.clear.known(&packet) {
            clear::send(packet, to, &mut out.departures);
        }
        out.departures.send();
    }

    /// This node's own prefixes: no peer may send from them.
    pub fn set_own_prefixes(&self, prefixes: Vec<IpNet>) {
        let mut desired = self.desired.lock().unwrap_or_else(PoisonError::into_inner);
        if desired.own != prefixes {
            desired.own = prefixes;
            self.apply(&desired);
        }
    }

    /// Changes this node's own keys: several while a rotation is under way, of which `sending`
    /// begins handshakes. Sessions of a key that is gone end. boringtun has one key for life, and
    /// keeps it.
    pub fn set_identities(&self, identities: Vec<(KeyEpoch, PrivateKey)>, sending: KeyEpoch) {
        let mut out = Made::new(&self.shared);
        let now = Instant::now();
        if !self.shared.sessions.set_identities(identities, sending, &mut out, now) {
            tracing::warn!("the engine boringtun cannot change its key while it runs");
        }
        out.departures.send();
        self.shared.desk.ring();
    }

    pub fn status(&self) -> Vec<PeerStatus> {
        let status = self.shared.sessions.status();
        let (now, wall) = (Instant::now(), SystemTime::now());
        let at = |instant: Instant| wall.checked_sub(now.saturating_duration_since(instant));
        status.into_iter().map(|peer| PeerStatus::new(peer, at)).collect()
    }

    /// When anything authentic last came from each peer: exactly the same value until something
    /// does again, which a wall clock's time is not.
    pub fn heard(&self) -> BTreeMap<String, Instant> {
        let status = self.shared.sessions.status().into_iter();
        status.filter_map(|peer| Some((peer.name, peer.last_received?))).collect()
    }

    /// Every reason, also those that never happened.
    pub fn discards(&self) -> BTreeMap<&'static str, u64> {
        let mut counts: BTreeMap<_, _> =
            self.shared.sessions.discards().iter().map(|(why, n)| (why.name(), n)).collect();
        for (why, n) in self.shared.counts() {
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
        let latest = self.shared.sessions.timestamp().unwrap_or_else(|| {
            // boringtun's clock runs on from when a peer was added, whatever becomes of the wall's.
            SystemTime::now().max(self.started.0 + self.started.1.elapsed())
        });
        self.config.timestamp_floor.map_or(latest, |floor| floor.max(latest))
    }

    fn tun_index(&self) -> Option<u32> {
        self.shared.tun().and_then(|tun| tun.index().ok())
    }

    fn apply(&self, desired: &Desired) {
        let mut out = Made::new(&self.shared);
        let (peers, now) = (desired.peers.clone(), Instant::now());
        let problems = self.shared.sessions.set_peers(peers, &desired.own, &mut out, now);
        out.departures.send();
        self.shared.desk.ring();
        for problem in problems {
            tracing::warn!(%problem, "peer not wholly accepted");
        }
    }
}

impl Drop for Datapath {
    fn drop(&mut self) {
        self.shared.stop();
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so already.
            let _ = thread.join();
        }
    }
}

impl PeerStatus {
    fn new(peer: crypto::PeerStatus, at: impl Fn(Instant) -> Option<SystemTime>) -> Self {
        Self {
            name: peer.name,
            endpoint: peer.endpoint,
            epoch: peer.epoch,
            own_epoch: peer.own_epoch,
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

fn threads(
    shared: &Arc<Shared>,
    tray: Tray,
    workers: usize,
    pinned: bool,
) -> Result<Vec<JoinHandle<()>>, DatapathError> {
    let mut threads = vec![thread("hawser-control", shared, move |shared| {
        control::run(shared, &tray);
    })?];
    for number in 0..workers {
        let run = move |shared: &Shared| {
            if pinned {
                Cores::allowed().pin(number);
            }
            worker::run(shared, number);
        };
        threads.push(thread("hawser-worker", shared, run)?);
    }
    Ok(threads)
}

fn thread(
    name: &'static str,
    shared: &Arc<Shared>,
    run: impl FnOnce(&Shared) + Send + 'static,
) -> Result<JoinHandle<()>, DatapathError> {
    let shared = Arc::clone(shared);
    let started = thread::Builder::new().name(name.to_owned()).spawn(move || run(&shared));
    started.map_err(|source| DatapathError::Thread { name, source })
}

#[cfg(test)]
mod tests;
