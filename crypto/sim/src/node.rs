//! One node of the simulated mesh.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::{Duration, Instant},
};

use crypto::{Event, Outbox, PeerConfig};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use keys::{KeyEpoch, PrivateKey};

use crate::{Content, Flight, Mesh, Nat, Random, engine::Engine};

/// An event of the mesh, kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    HandshakeComplete(String),
    HandshakeTimeout(String),
    EndpointChanged(String, SocketAddr),
}

pub struct Node {
    pub name: String,
    pub mesh: Mesh,
    pub private: PrivateKey,
    /// Where its datagrams come from, as the others see it.
    pub address: SocketAddr,
    /// Then nobody else sees its address, nor reaches it there.
    pub nat: Option<Nat>,
    pub peers: Vec<PeerConfig>,
    /// What reached its tunnel device.
    pub delivered: Vec<Content>,
    pub events: Vec<Told>,
}

impl Node {
    pub(crate) fn new(number: u8, engine: Engine, mut random: Random, now: Instant) -> Self {
        let mut private = [0; 32];
        crypto::Random::fill(&mut random, &mut private);
        let private = PrivateKey::from_bytes(private);
        Self {
            name: format!("node-{number}"),
            mesh: Mesh::new(engine, &private, random, now),
            private,
            address: SocketAddr::from((Ipv4Addr::new(192, 0, 2, number), 51820)),
            nat: None,
            peers: Vec::new(),
            delivered: Vec::new(),
            events: Vec::new(),
        }
    }

    /// As other nodes are told of it.
    pub(crate) fn as_peer(&self, number: u8, keepalive: Option<Duration>) -> PeerConfig {
        PeerConfig {
            name: self.name.clone(),
            keys: vec![(KeyEpoch::FIRST, self.private.public())],
            send_to: None,
            follows: true,
            preshared_key: None,
            endpoint: Some(self.address),
            keepalive,
            allowed: subnets(number),
            others: Vec::new(),
            forwards: Vec::new(),
            relayed: false,
        }
    }

    /// Whether a datagram reaches it.
    pub(crate) fn is_at(&mut self, flight: &Flight, now: Instant) -> bool {
        match &mut self.nat {
            None => self.address == flight.to,
            Some(nat) => nat.enters(flight.from, flight.to, now),
        }
    }

    /// Where a datagram to `to` comes from.
    pub(crate) fn seen_by(&mut self, to: SocketAddr, now: Instant) -> SocketAddr {
        self.nat.as_mut().map_or(self.address, |nat| nat.leave(to, now))
    }

    /// The numbers of the packets from `source`, in the order of their arrival.
    pub fn numbers_from(&self, source: IpAddr) -> Vec<u64> {
        self.delivered.iter().filter(|c| c.source == source).map(|c| c.number).collect()
    }

    pub fn handshakes(&self) -> usize {
        self.events.iter().filter(|e| matches!(e, Told::HandshakeComplete(_))).count()
    }
}

pub(crate) fn subnets(number: u8) -> Vec<IpNet> {
    vec![
        Ipv4Net::new_assert(Ipv4Addr::new(10, 42, number, 0), 24).into(),
        Ipv6Net::new_assert(Ipv6Addr::new(0xfd42, 0, 0, number.into(), 0, 0, 0, 0), 64).into(),
    ]
}

/// Collects what a mesh makes of one call.
#[derive(Default)]
pub(crate) struct Made {
    pub(crate) datagrams: Vec<(SocketAddr, Vec<u8>)>,
    pub(crate) delivered: Vec<Vec<u8>>,
    pub(crate) events: Vec<Told>,
}

impl Outbox for Made {
    fn send(&mut self, to: SocketAddr, datagram: &[u8]) {
        self.datagrams.push((to, datagram.to_vec()));
    }

    fn deliver(&mut self, packet: &[u8]) {
        self.delivered.push(packet.to_vec());
    }

    fn event(&mut self, event: Event<'_>) {
        self.events.push(match event {
            Event::HandshakeComplete { peer } => Told::HandshakeComplete(peer.to_owned()),
            Event::HandshakeTimeout { peer } => Told::HandshakeTimeout(peer.to_owned()),
            Event::EndpointChanged { peer, to, .. } => Told::EndpointChanged(peer.to_owned(), to),
        });
    }
}
