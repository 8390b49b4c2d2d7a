//! Time and the underlay: what is under way, when it arrives, and who wakes when.

use std::{
    collections::{BTreeMap, VecDeque},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::{Duration, Instant},
};

use crypto::Discard;
use keys::{KeyEpoch, PrivateKey};
use mock_instant::MockClock;

use crate::{
    Content, Engines, Link, Mesh, Node, Random,
    node::{Made, subnets},
    packet,
};

/// How many datagrams an eavesdropper remembers.
const OVERHEARD: usize = 100_000;

/// A datagram on the underlay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flight {
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub datagram: Vec<u8>,
}

/// Nodes, the links between them, and the time.
pub struct World {
    pub nodes: Vec<Node>,
    pub link: Link,
    /// Everything that was sent, the newest last: what an eavesdropper has.
    pub overheard: VecDeque<Flight>,
    now: Instant,
    random: Random,
    under_way: BTreeMap<(Instant, u64), Flight>,
    sent: u64,
}

impl World {
    /// Nodes 1 to `count`, each a peer of every other, `10.42.N.0/24` and `fd42:0:0:N::/64`.
    #[allow(clippy::disallowed_methods, reason = "an Instant has no other origin to count from")]
    pub fn mesh(engines: Engines, count: u8, seed: u64, keepalive: Option<Duration>) -> Self {
        let now = Instant::now();
        let mut random = Random::new(seed);
        let node = |number: u8| {
            let engine = engines.at(usize::from(number), seed);
            Node::new(number, engine, random.another(), now)
        };
        let mut world = Self {
            nodes: (1..=count).map(node).collect(),
            link: Link::PERFECT,
            overheard: VecDeque::new(),
            now,
            random,
            under_way: BTreeMap::new(),
            sent: 0,
        };
        for place in 0..world.nodes.len() {
            let others =
                (1..=count).zip(&world.nodes).filter(|(n, _)| usize::from(*n) != place + 1);
            world.nodes[place].peers = others.map(|(n, node)| node.as_peer(n, keepalive)).collect();
        }
        world
    }

    /// Tells every node its peers.
    pub fn start(mut self) -> Self {
        for place in 0..self.nodes.len() {
            self.configure(place);
        }
        self
    }

    /// Tells one node its peers, as they now stand in `peers`.
    pub fn configure(&mut self, place: usize) {
        let own = subnets(place as u8 + 1);
        let now = self.now;
        self.call(place, |node, made| {
            let problems = node.mesh.set_peers(node.peers.clone(), &own, made, now);
            assert_eq!(problems, [], "{}", node.name);
        });
    }

    /// Gives one node these keys, to send with `sending`.
    pub fn identify(
        &mut self,
        place: usize,
        identities: Vec<(KeyEpoch, PrivateKey)>,
        sending: KeyEpoch,
    ) {
        let now = self.now;
        self.call(place, |node, made| {
            node.mesh.set_identities(identities, sending, made, now);
        });
    }

    /// The node forgets everything but its key and its peers.
    pub fn restart(&mut self, place: usize) {
        let now = self.now;
        let random = self.random.another();
        let node = &mut self.nodes[place];
        node.mesh = Mesh::new(node.mesh.engine(), &node.private, random, now);
        self.configure(place);
    }

    pub fn now(&self) -> Instant {
        self.now
    }

    pub fn random(&mut self) -> &mut Random {
        &mut self.random
    }

    /// A pod's address on the node at `place`.
    pub fn v4(&self, place: usize) -> IpAddr {
        Ipv4Addr::new(10, 42, place as u8 + 1, 5).into()
    }

    pub fn v6(&self, place: usize) -> IpAddr {
        Ipv6Addr::new(0xfd42, 0, 0, place as u16 + 1, 0, 0, 0, 5).into()
    }

    /// A pod on node `from` sends a numbered packet to one on node `to`.
    pub fn send(&mut self, from: usize, to: usize, number: u64) -> Result<(), Discard> {
        self.seal(from, &packet(self.v4(from), self.v4(to), number))
    }

    /// The kernel of node `from` hands this packet to the tunnel.
    pub fn seal(&mut self, from: usize, packet: &[u8]) -> Result<(), Discard> {
        let now = self.now;
        self.call(from, |node, made| node.mesh.seal(packet, made, now))
    }

    /// Anybody sends anything: `from` need not be true.
    pub fn inject(&mut self, flight: Flight) -> Result<(), Discard> {
        let now = self.now;
        let Some(place) = self.nodes.iter_mut().position(|node| node.is_at(&flight, now)) else {
            return Ok(());
        };
        self.call(place, |node, made| node.mesh.open(&flight.datagram, flight.from, made, now))
    }

    /// Lets time pass: what is under way arrives, timers run.
    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let arrival = self.under_way.keys().next().map(|(at, _)| *at);
            let wake = self.nodes.iter().filter_map(|node| node.mesh.next_wake()).min();
            let next = [arrival, wake].into_iter().flatten().min().unwrap_or(end);
            if next > end {
                return self.pass_to(end);
            }
            self.pass_to(next);
            self.arrive();
            self.wake();
            if next == end {
                return;
            }
        }
    }

    /// Nothing is delivered any more of what is under way.
    pub fn cut(&mut self) {
        self.under_way.clear();
    }

    fn pass_to(&mut self, now: Instant) {
        if let Some(step) = now.checked_duration_since(self.now) {
            MockClock::advance(step);
            self.now = now;
        }
    }

    fn arrive(&mut self) {
        while let Some(entry) = self.under_way.first_entry() {
            if entry.key().0 > self.now {
                return;
            }
            let flight = entry.remove();
            // How a datagram dies is counted by the node.
            let _ = self.inject(flight);
        }
    }

    fn wake(&mut self) {
        let now = self.now;
        for place in 0..self.nodes.len() {
            if self.nodes[place].mesh.next_wake().is_some_and(|wake| wake <= now) {
                self.call(place, |node, made| node.mesh.tick(made, now));
            }
        }
    }

    fn call<R>(&mut self, place: usize, call: impl FnOnce(&mut Node, &mut Made) -> R) -> R {
        let mut made = Made::default();
        let result = call(&mut self.nodes[place], &mut made);
        for (to, datagram) in made.datagrams {
            let from = self.nodes[place].seen_by(to, self.now);
            self.launch(Flight { from, to, datagram });
        }
        let node = &mut self.nodes[place];
        node.delivered.extend(made.delivered.iter().filter_map(|bytes| Content::read(bytes)));
        node.events.extend(made.events);
        result
    }

    fn launch(&mut self, flight: Flight) {
        for (delay, corrupted) in self.link.fates(&mut self.random) {
            let mut copy = flight.clone();
            if corrupted {
                let bit = self.random.below(copy.datagram.len() as u64 * 8);
                copy.datagram[(bit / 8) as usize] ^= 1 << (bit % 8);
            }
            self.sent += 1;
            self.under_way.insert((self.now + delay, self.sent), copy);
        }
        if self.overheard.len() == OVERHEARD {
            self.overheard.pop_front();
        }
        self.overheard.push_back(flight);
    }
}
