//! A peer: its keys, where it is, and the packets that wait for its first session.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::{
    engine::Message,
    tunnel::{Doing, Heard, Tunnel},
};
use crate::{
    Discard, Discards, Event, Outbox, PeerConfig, PeerStatus, Routes,
    source::{Owner, Sender, forwards, theirs},
};

/// Packets that wait for a handshake, at most (the Linux kernel's figure).
const QUEUE: usize = 128;
/// A peer that was heard within this time needs no help with its clock.
const SILENT: Duration = Duration::from_secs(5);

/// What a peer needs of the world for one call.
pub(crate) struct Io<'a, O> {
    pub(crate) out: &'a mut O,
    pub(crate) scratch: &'a mut [u8],
    pub(crate) discards: &'a mut Discards,
    pub(crate) now: Instant,
}

/// A message, for whom in the list it is and where it came from.
pub(crate) struct Arrival<'a> {
    pub(crate) message: Message,
    pub(crate) datagram: &'a [u8],
    pub(crate) from: SocketAddr,
    pub(crate) tunnel: u32,
    pub(crate) owner: Owner,
}

pub(crate) struct Peer {
    pub(crate) config: PeerConfig,
    /// Whose packets it may hand on.
    forwards: Option<Routes<()>>,
    /// By epoch, the newest last.
    pub(crate) tunnels: Vec<Tunnel>,
    endpoint: Option<SocketAddr>,
    queue: VecDeque<Vec<u8>>,
    last_sent: Option<Instant>,
    last_received: Option<Instant>,
    last_handshake: Option<Instant>,
    rx_bytes: u64,
    tx_bytes: u64,
    rtt: Option<Duration>,
}

impl Peer {
    pub(crate) fn new(config: PeerConfig, tunnels: Vec<Tunnel>) -> Self {
        Self {
            endpoint: config.endpoint,
            forwards: forwards(&config.forwards),
            config,
            tunnels,
            queue: VecDeque::new(),
            last_sent: None,
            last_received: None,
            last_handshake: None,
            rx_bytes: 0,
            tx_bytes: 0,
            rtt: None,
        }
    }

    /// Takes a new configuration. What was learned about the endpoint stays, unless the
    /// configured one changed.
    pub(crate) fn reconfigure(&mut self, config: PeerConfig, tunnels: Vec<Tunnel>) {
        if config.endpoint != self.config.endpoint && config.endpoint.is_some() {
            self.endpoint = config.endpoint;
        }
        self.forwards = forwards(&config.forwards);
        self.config = config;
        self.tunnels = tunnels;
    }

    /// Begins the first handshake of a peer that shall always be connected.
    pub(crate) fn start<O: Outbox>(&mut self, io: &mut Io<'_, O>) {
        if self.config.keepalive.is_some() && !self.established() {
            self.initiate(io);
        }
    }

    /// Encrypts a packet, or keeps it for the session that it asks for.
    pub(crate) fn seal<O: Outbox>(
        &mut self,
        packet: &[u8],
        io: &mut Io<'_, O>,
    ) -> Result<(), Discard> {
        let Some(tunnel) = self.tunnels.last() else {
            return Err(Discard::NoKey);
        };
        let Some(to) = self.endpoint else {
            return Err(Discard::NoEndpoint);
        };
        if tunnel.ready() {
            return self.send(packet, to, io);
        }
        self.wait(packet, io.discards);
        self.initiate(io);
        Ok(())
    }

    /// Takes a message that is for one of this peer's tunnels.
    pub(crate) fn open<O: Outbox>(
        &mut self,
        arrival: &Arrival<'_>,
        routes: &Routes<Owner>,
        io: &mut Io<'_, O>,
    ) -> Result<(), Discard> {
        let Some(tunnel) = self.tunnels.iter_mut().find(|tunnel| tunnel.id == arrival.tunnel)
        else {
            return Err(Discard::UnknownReceiver);
        };
        let message = (arrival.message, arrival.datagram);
        match tunnel.hear(message, arrival.from, io.scratch, io.now) {
            Ok(Heard::Nothing) => Ok(()),
            Ok(Heard::Answer(answer)) => {
                io.out.send(arrival.from, answer);
                Ok(())
            }
            Ok(Heard::Cookie) => {
                if let Some(initiation) = tunnel.use_cookie(io.scratch, io.now) {
                    io.out.send(self.endpoint.unwrap_or(arrival.from), initiation);
                }
                Ok(())
            }
            Ok(Heard::Complete(first, rtt)) => {
                let to = *self.endpoint.get_or_insert(arrival.from);
                io.out.send(to, first);
                let not_needed = tunnel.drop_held();
                self.completed(rtt, not_needed, io);
                Ok(())
            }
            Ok(Heard::Data { packet, first }) => {
                self.heard_from(arrival.from, io.now, io.out);
                let forwards = self.forwards.as_ref();
                let verdict = packet.map_or(Ok(()), |packet| {
                    let sender = Sender { owner: arrival.owner, forwards };
                    let packet = theirs(packet, sender, routes, None)?;
                    self.rx_bytes += packet.bytes().len() as u64;
                    io.out.deliver(packet.bytes());
                    Ok(())
                });
                if first {
                    self.established_now(io);
                }
                verdict
            }
            Err(Discard::StaleHandshake) => {
                self.help_a_late_clock(arrival.from, io);
                Err(Discard::StaleHandshake)
            }
            Err(discard) => Err(discard),
        }
    }

    /// Does what is due.
    pub(crate) fn tick<O: Outbox>(&mut self, io: &mut Io<'_, O>) {
        let mut gave_up = false;
        for tunnel in &mut self.tunnels {
            if let Some((to, answer)) = tunnel.release(io.scratch, io.now) {
                match answer {
                    Ok(answer) => io.out.send(to, answer),
                    Err(discard) => io.discards.count(discard),
                }
            }
            match tunnel.tick(io.scratch, io.now) {
                Doing::Nothing => {}
                Doing::Send(datagram) => {
                    if let Some(to) = self.endpoint {
                        self.last_sent = Some(io.now);
                        io.out.send(to, datagram);
                    }
                }
                Doing::GaveUp => match (tunnel.begin_again(io.scratch, io.now), self.endpoint) {
                    (Some(initiation), Some(to)) => io.out.send(to, initiation),
                    (Some(_) | None, _) => gave_up = true,
                },
            }
        }
        if gave_up {
            self.forget_queue(Discard::HandshakeTimeout, io.discards);
            io.out.event(Event::HandshakeTimeout { peer: &self.config.name });
        }
        self.keep_alive(io);
        if !self.queue.is_empty() {
            self.initiate(io);
        }
    }

    /// Shows the peer where we are, if there is a session to say it with.
    pub(crate) fn announce<O: Outbox>(&mut self, io: &mut Io<'_, O>) {
        if let Some(to) = self.endpoint.filter(|_| self.established())
            && let Err(discard) = self.send(&[], to, io)
        {
            io.discards.count(discard);
        }
    }

    /// Drops what waits, and counts it.
    pub(crate) fn forget_queue(&mut self, why: Discard, discards: &mut Discards) {
        for _ in self.queue.drain(..) {
            discards.count(why);
        }
    }

    pub(crate) fn status(&self) -> PeerStatus {
        PeerStatus {
            name: self.config.name.clone(),
            endpoint: self.endpoint,
            epoch: self.tunnels.last().map(|tunnel| tunnel.epoch),
            own_epoch: None,
            last_handshake: self.last_handshake,
            last_received: self.last_received,
            rx_bytes: self.rx_bytes,
            tx_bytes: self.tx_bytes,
            rtt: self.rtt,
            established: self.established(),
            allowed: self.config.allowed.clone(),
        }
    }

    fn established(&self) -> bool {
        self.tunnels.last().is_some_and(Tunnel::ready)
    }

    fn send<O: Outbox>(
        &mut self,
        packet: &[u8],
        to: SocketAddr,
        io: &mut Io<'_, O>,
    ) -> Result<(), Discard> {
        let Some(tunnel) = self.tunnels.last_mut() else {
            return Err(Discard::NoKey);
        };
        let (datagram, worn) = tunnel.seal(packet, io.scratch)?;
        io.out.send(to, datagram);
        self.tx_bytes += packet.len() as u64;
        self.last_sent = Some(io.now);
        if worn {
            self.initiate(io);
        }
        Ok(())
    }

    fn completed<O: Outbox>(
        &mut self,
        rtt: Duration,
        held_one_not_needed: bool,
        io: &mut Io<'_, O>,
    ) {
        if held_one_not_needed {
            io.discards.count(Discard::SimultaneousHandshake);
        }
        self.rtt = Some(rtt);
        self.last_sent = Some(io.now);
        self.established_now(io);
    }

    /// Authentic data came. Only that moves an endpoint: neither a handshake nor a cookie does.
    fn heard_from(&mut self, from: SocketAddr, now: Instant, out: &mut impl Outbox) {
        self.last_received = Some(now);
        if self.endpoint != Some(from) {
            let peer = &self.config.name;
            out.event(Event::EndpointChanged { peer, from: self.endpoint, to: from });
            self.endpoint = Some(from);
        }
    }

    fn wait(&mut self, packet: &[u8], discards: &mut Discards) {
        if self.queue.len() == QUEUE {
            self.queue.pop_front();
            discards.count(Discard::QueueFull);
        }
        self.queue.push_back(packet.to_vec());
    }

    fn initiate<O: Outbox>(&mut self, io: &mut Io<'_, O>) {
        let (Some(to), Some(tunnel)) = (self.endpoint, self.tunnels.last_mut()) else {
            return;
        };
        if let Some(initiation) = tunnel.initiate(io.scratch, io.now) {
            io.out.send(to, initiation);
            self.last_sent = Some(io.now);
        }
    }

    /// A session can be used: what waited goes first.
    fn established_now<O: Outbox>(&mut self, io: &mut Io<'_, O>) {
        self.last_received = Some(io.now);
        self.last_handshake = Some(io.now);
        io.out.event(Event::HandshakeComplete { peer: &self.config.name });
        let Some(to) = self.endpoint.filter(|_| self.established()) else {
            return;
        };
        while let Some(packet) = self.queue.pop_front() {
            if let Err(discard) = self.send(&packet, to, io) {
                io.discards.count(discard);
            }
        }
    }

    fn keep_alive<O: Outbox>(&mut self, io: &mut Io<'_, O>) {
        let (Some(every), Some(to)) = (self.config.keepalive, self.endpoint) else {
            return;
        };
        if self.last_sent.is_some_and(|sent| io.now.saturating_duration_since(sent) < every) {
            return;
        }
        if !self.established() {
            self.initiate(io);
        } else if let Err(discard) = self.send(&[], to, io) {
            io.discards.count(discard);
        }
    }

    /// A node whose clock went back (no battery, no network yet) cannot begin a handshake: its
    /// timestamps look like replays. It can answer one, though, so we begin. A replay can make us
    /// do so too, at most once in five seconds and only while the peer is silent.
    fn help_a_late_clock<O: Outbox>(&mut self, from: SocketAddr, io: &mut Io<'_, O>) {
        let silent =
            self.last_received.is_none_or(|at| io.now.saturating_duration_since(at) >= SILENT);
        let to = self.endpoint.unwrap_or(from);
        let Some(tunnel) = self.tunnels.last_mut() else {
            return;
        };
        if silent
            && tunnel.idle(io.now)
            && let Some(initiation) = tunnel.initiate(io.scratch, io.now)
        {
            io.out.send(to, initiation);
            self.last_sent = Some(io.now);
        }
    }
}
