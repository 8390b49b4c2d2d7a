//! Every peer of this node: seal, open, tick, next_wake, set_peers.
//!
//! One value, no socket, no clock. The one exception to "no clock" is boringtun's, inside the
//! engine.

use std::{
    collections::HashMap,
    mem,
    net::SocketAddr,
    time::{Duration, Instant},
};

use ipnet::IpNet;
use keys::{KeyEpoch, PrivateKey, PublicKey};

use super::{
    engine::{Engine, Identity, Message, Proof},
    peer::{Arrival, Io, Peer},
    tunnel::Tunnel,
};
use crate::{
    Discard, Discards, IpPacket, Outbox, PeerConfig, PeerStatus, Problem, Routes,
    admission::{self, Own},
    limiter::Limiter,
    source::Owner,
};

/// How often timers run: boringtun's own advice.
const TICK: Duration = Duration::from_millis(250);
/// The largest IP packet, with room for what a tunnel adds.
const SCRATCH: usize = 65_535 + 64;
/// A receiver index is a tunnel's id and eight bits for its sessions.
const ID_BITS: u32 = 24;

/// All peers of one node, as one value without a socket or a clock.
pub struct Mesh {
    identity: Identity,
    limiter: Limiter,
    /// By name. An [`Owner::Peer`] is a place in here; it holds until the next `set_peers`.
    peers: Vec<Peer>,
    routes: Routes<Owner>,
    by_tunnel: HashMap<u32, usize>,
    by_key: HashMap<PublicKey, (usize, u32)>,
    next_id: u32,
    ticked: Instant,
    discards: Discards,
    scratch: Box<[u8]>,
}

impl Mesh {
    pub fn new(private_key: &PrivateKey, now: Instant) -> Self {
        Self {
            identity: Identity::new(private_key),
            limiter: Limiter::new(now),
            peers: Vec::new(),
            routes: Routes::default(),
            by_tunnel: HashMap::new(),
            by_key: HashMap::new(),
            next_id: 1,
            ticked: now,
            discards: Discards::default(),
            scratch: vec![0; SCRATCH].into(),
        }
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
        let us = Own { keys: &[self.identity.public()], prefixes: own };
        let (configs, problems) = admission::admit(peers, &us);
        let mut before: HashMap<String, Peer> =
            mem::take(&mut self.peers).into_iter().map(|p| (p.config.name.clone(), p)).collect();
        for config in configs {
            let peer = self.peer(before.remove(&config.name), config);
            self.peers.push(peer);
        }
        for mut gone in before.into_values() {
            gone.forget_queue(Discard::PeerRemoved, &mut self.discards);
        }
        self.index(own);
        self.each(out, now, Peer::start);
        problems
    }

    /// Encrypts an IP packet for the peer that owns its destination.
    pub fn seal(
        &mut self,
        packet: &[u8],
        out: &mut impl Outbox,
        now: Instant,
    ) -> Result<(), Discard> {
        let result = self.seal_or_say_why(packet, out, now);
        result.inspect_err(|&discard| self.discards.count(discard))
    }

    /// Takes a datagram from the underlay.
    pub fn open(
        &mut self,
        datagram: &[u8],
        from: SocketAddr,
        out: &mut impl Outbox,
        now: Instant,
    ) -> Result<(), Discard> {
        let result = self.open_or_say_why(datagram, from, out, now);
        result.inspect_err(|&discard| self.discards.count(discard))
    }

    /// Does what is due: retries, rekeys, keepalives, expiry.
    pub fn tick(&mut self, out: &mut impl Outbox, now: Instant) {
        self.ticked = now;
        self.each(out, now, Peer::tick);
    }

    /// Sends an empty message on each session: this node may have another address now.
    pub fn announce(&mut self, out: &mut impl Outbox, now: Instant) {
        self.each(out, now, Peer::announce);
    }

    /// Tells that the wall clock was put forward. boringtun keeps the clock that a tunnel was made
    /// with; so whoever has no session gets a new one, whose handshakes are not taken for replays.
    pub fn clock_put_forward(&mut self) {
        for peer in &mut self.peers {
            let preshared = peer.config.preshared_key.as_ref();
            for tunnel in peer.tunnels.iter_mut().filter(|tunnel| !tunnel.ready()) {
                tunnel.renew(Engine::new(&self.identity, &tunnel.key, preshared, tunnel.id));
            }
        }
    }

    /// When [`Mesh::tick`] wants to be called next; `None` while there is nobody to care for.
    pub fn next_wake(&self) -> Option<Instant> {
        (!self.peers.is_empty()).then_some(self.ticked + TICK)
    }

    pub fn status(&self) -> Vec<PeerStatus> {
        self.peers.iter().map(Peer::status).collect()
    }

    pub fn discards(&self) -> &Discards {
        &self.discards
    }

    fn seal_or_say_why(
        &mut self,
        packet: &[u8],
        out: &mut impl Outbox,
        now: Instant,
    ) -> Result<(), Discard> {
        let packet = IpPacket::parse(packet).ok_or(Discard::NotIp)?;
        match self.routes.owner_of(packet.destination()) {
            None => Err(Discard::NoRoute),
            Some(Owner::Us) => Err(Discard::OwnDestination),
            Some(Owner::Peer(place)) => {
                let (scratch, discards) = (&mut self.scratch[..], &mut self.discards);
                let mut io = Io { out, scratch, discards, now };
                self.peers[place as usize].seal(packet.bytes(), &mut io)
            }
        }
    }

    fn open_or_say_why(
        &mut self,
        datagram: &[u8],
        from: SocketAddr,
        out: &mut impl Outbox,
        now: Instant,
    ) -> Result<(), Discard> {
        if datagram.len() > SCRATCH {
            return Err(Discard::NotWireGuard);
        }
        let message = Message::parse(datagram)?;
        let (place, tunnel) = match message {
            Message::Initiation => {
                self.admit_handshake(datagram, from, out, now)?;
                let key = self.identity.claimed_sender(datagram).ok_or(Discard::NotAuthentic)?;
                *self.by_key.get(&key).ok_or(Discard::UnknownPeer)?
            }
            Message::Response { receiver } => {
                let (place, tunnel) = self.receiver(receiver)?;
                if !self.peers[place].tunnels.iter().any(|tunnel| tunnel.awaits(receiver)) {
                    return Err(Discard::UnexpectedHandshake);
                }
                self.admit_handshake(datagram, from, out, now)?;
                (place, tunnel)
            }
            Message::Cookie { receiver } | Message::Data { receiver } => self.receiver(receiver)?,
        };
        let owner = Owner::Peer(place as u32);
        let arrival = Arrival { message, datagram, from, tunnel, owner };
        let (scratch, discards) = (&mut self.scratch[..], &mut self.discards);
        let mut io = Io { out, scratch, discards, now };
        self.peers[place].open(&arrival, &self.routes, &mut io)
    }

    fn receiver(&self, receiver: u32) -> Result<(usize, u32), Discard> {
        let tunnel = receiver >> (32 - ID_BITS);
        let place = *self.by_tunnel.get(&tunnel).ok_or(Discard::UnknownReceiver)?;
        Ok((place, tunnel))
    }

    /// Decides whether a handshake message is worth its 100 µs.
    fn admit_handshake(
        &mut self,
        datagram: &[u8],
        from: SocketAddr,
        out: &mut impl Outbox,
        now: Instant,
    ) -> Result<(), Discard> {
        if !self.identity.made_for_us(datagram) {
            return Err(Discard::BadMac);
        }
        if self.limiter.admit(from.ip(), now) {
            return Ok(());
        }
        match self.identity.proof(datagram, from, &mut self.scratch) {
            Proof::Given if self.limiter.admit_proven(from.ip(), now) => Ok(()),
            Proof::Given => Err(Discard::HandshakeLimit),
            Proof::Demand(cookie) => {
                out.send(from, cookie);
                Err(Discard::CookieDemanded)
            }
            Proof::BadMac => Err(Discard::BadMac),
        }
    }

    /// The peer of that name, with whatever of it can stay.
    fn peer(&mut self, before: Option<Peer>, config: PeerConfig) -> Peer {
        let Some(mut peer) = before else {
            let tunnels = config.keys.iter().map(|&key| self.tunnel(key, &config)).collect();
            return Peer::new(config, tunnels);
        };
        let mut stay = mem::take(&mut peer.tunnels);
        if peer.config.preshared_key != config.preshared_key {
            stay.clear();
        }
        let tunnels = config.keys.iter().map(|&key| {
            match stay.iter().position(|tunnel| (tunnel.epoch, tunnel.key) == key) {
                Some(place) => stay.swap_remove(place),
                None => self.tunnel(key, &config),
            }
        });
        let tunnels = tunnels.collect();
        peer.reconfigure(config, tunnels);
        peer
    }

    fn tunnel(&mut self, key: (KeyEpoch, PublicKey), config: &PeerConfig) -> Tunnel {
        let id = self.free_id();
        let engine = Engine::new(&self.identity, &key.1, config.preshared_key.as_ref(), id);
        let wins = self.identity.public() < key.1;
        Tunnel::new(engine, id, key, wins)
    }

    /// The next id that no tunnel had lately: a late message for a tunnel that is gone must not
    /// find another.
    fn free_id(&mut self) -> u32 {
        loop {
            let id = self.next_id;
            self.next_id = (self.next_id + 1) % (1 << ID_BITS);
            if !self.by_tunnel.contains_key(&id) {
                return id;
            }
        }
    }

    fn index(&mut self, own: &[IpNet]) {
        self.routes = Routes::default();
        self.by_tunnel.clear();
        self.by_key.clear();
        for prefix in own {
            self.routes.insert(*prefix, Owner::Us);
        }
        for (place, peer) in self.peers.iter().enumerate() {
            for prefix in &peer.config.allowed {
                self.routes.insert(*prefix, Owner::Peer(place as u32));
            }
            for tunnel in &peer.tunnels {
                self.by_tunnel.insert(tunnel.id, place);
                self.by_key.insert(tunnel.key, (place, tunnel.id));
            }
        }
    }

    fn each<O: Outbox>(
        &mut self,
        out: &mut O,
        now: Instant,
        call: impl Fn(&mut Peer, &mut Io<'_, O>),
    ) {
        let (scratch, discards) = (&mut self.scratch[..], &mut self.discards);
        let mut io = Io { out, scratch, discards, now };
        for peer in &mut self.peers {
            call(peer, &mut io);
        }
    }
}

#[cfg(test)]
mod tests;
