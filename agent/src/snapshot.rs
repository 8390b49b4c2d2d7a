//! What the agent last decided and found, for whoever asks: the local API and the node's status.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use ipnet::IpNet;

use crate::{
    kernel::{Blocked, guard_in_force},
    plan::{Actual, Facts, Heard, Plan, Refusal, Route, Target, Underlay, Way},
    rotation::{Installed, sending},
    view::{Backend, Detour, Encryption, Listener, PlainPeer, View},
};

/// One moment of the agent.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub node: String,
    /// The word after `--source`.
    pub source: String,
    /// When the view last changed; none while there is no view.
    pub view_since: Option<SystemTime>,
    pub mtu: u16,
    pub underlay: Underlay,
    /// This node's subnets that are in force.
    pub subnets: Vec<IpNet>,
    /// How each node is reached.
    pub carriers: BTreeMap<String, Backend>,
    /// What else each could be reached by, best first, where there is a choice.
    pub ways: BTreeMap<String, Vec<Way>>,
    /// Those whose sealed datagrams travel in the shape of VXLAN.
    pub shaped: BTreeSet<String>,
    /// Those whose sealed datagrams another node passes on: its place among their relays, and its name.
    pub relayed: BTreeMap<String, (u8, String)>,
    /// Those whose sealed datagrams travel in TLS over TCP.
    pub bridged: BTreeSet<String>,
    /// Nodes that may be called so.
    pub listeners: BTreeMap<String, Listener>,
    /// Those that cannot be reached otherwise, as far as is known.
    pub apart: BTreeSet<String>,
    /// For how long one that failed must answer before it is gone back to.
    pub return_after: Duration,
    /// This node says that there is a NAT before it.
    pub behind_nat: bool,
    /// What the view says of each peer.
    pub peers: BTreeMap<String, PeerFacts>,
    /// Those of them that may hand on what is for others.
    pub gateways: BTreeSet<String>,
    /// This node hands on what others send to each other.
    pub forwards: bool,
    /// Who is reached through which of them.
    pub detours: BTreeMap<String, Detour>,
    /// The keys of all nodes in force, as this agent's own status may confirm them; kept on disk.
    pub installed: Installed,
    pub routes: Vec<RouteFact>,
    pub guard: GuardFact,
    pub blocked: Blocked,
    pub refusals: Vec<Refusal>,
    /// How old the view may become; none: as old as it likes.
    pub max_view_age: Option<Duration>,
    /// What could not be done in the last round, in words.
    pub errors: Vec<String>,
    /// Nothing differs from the plan, and the plan takes part in the mesh.
    pub ready: bool,
    pub membership: Membership,
}

/// Whether this node is in the mesh, or what is left of it where the mesh is being removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Membership {
    #[default]
    Member,
    /// Something could not be taken away yet; `errors` says what.
    Leaving,
    /// Nothing of ours is left in the kernel, and no file that the runtime reads.
    Left,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerFacts {
    pub subnets: Vec<IpNet>,
    pub site: Option<String>,
    /// What holds between it and this node; plain peers are always sealed to.
    pub encryption: Encryption,
    /// False for a plain WireGuard peer.
    pub is_node: bool,
    /// Of a plain peer that this node is an entry of: the highest turn of its other entries.
    pub others_turn: Option<i64>,
    /// As it publishes them; none of a plain peer.
    pub endpoints: Vec<SocketAddr>,
}

/// A prefix and where it leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteFact {
    pub prefix: IpNet,
    pub leads: Leads,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leads {
    Peer(String),
    Pod { device: String },
    Nowhere,
}

/// Which layers of the guard hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GuardFact {
    pub routes: bool,
    pub nft: bool,
}

impl Snapshot {
    /// Before there has been a view.
    pub fn empty(node: &str, source: &str) -> Self {
        Self {
            node: node.to_owned(),
            source: source.to_owned(),
            view_since: None,
            mtu: 0,
            underlay: Underlay { v4: None, v6: None, mtu: 0 },
            subnets: Vec::new(),
            carriers: BTreeMap::new(),
            ways: BTreeMap::new(),
            shaped: BTreeSet::new(),
            relayed: BTreeMap::new(),
            bridged: BTreeSet::new(),
            listeners: BTreeMap::new(),
            apart: BTreeSet::new(),
            return_after: api::return_after(),
            peers: BTreeMap::new(),
            behind_nat: false,
            gateways: BTreeSet::new(),
            forwards: false,
            detours: BTreeMap::new(),
            installed: Installed::new(),
            routes: Vec::new(),
            guard: GuardFact::default(),
            blocked: Blocked::default(),
            refusals: Vec::new(),
            max_view_age: None,
            errors: Vec::new(),
            ready: false,
            membership: Membership::Member,
        }
    }

    /// After the node has been taken out of the mesh, as far as that went.
    #[must_use]
    pub fn of_removal(self, errors: Vec<String>) -> Self {
        let left = errors.is_empty();
        let empty = Self::empty(&self.node, &self.source);
        Self {
            view_since: self.view_since,
            mtu: self.mtu,
            underlay: self.underlay,
            blocked: self.blocked,
            membership: if left { Membership::Left } else { Membership::Leaving },
            errors,
            ..empty
        }
    }

    /// By which way a node is reached; none if it is not.
    pub fn way(&self, peer: &str) -> Option<Way> {
        let (backend, shaped) = (*self.carriers.get(peer)?, self.shaped.contains(peer));
        let relay = self.relayed.get(peer).map(|(place, _)| *place);
        Some(Way { backend, shaped, relay, tls: self.bridged.contains(peer) })
    }

    /// What a round found in the kernel after its changes.
    #[must_use]
    pub fn of_round(self, view: &View, facts: &Facts, plan: &Plan, actual: &Actual) -> Self {
        let (routes, nft) = guard_in_force(plan, actual);
        let settled = plan.changes_from(actual).is_empty();
        Self {
            mtu: plan.mtu,
            underlay: facts.underlay,
            subnets: plan.peers.own.clone(),
            carriers: plan.carriers.clone(),
            ways: plan.ways.clone(),
            shaped: plan.shaped.clone(),
            relayed: plan.relayed.clone(),
            bridged: plan.bridged.clone(),
            listeners: listeners(view, facts),
            apart: plan.apart.clone(),
            return_after: view.return_after,
            peers: peer_facts(view, &self.node),
            behind_nat: view.nodes.get(&self.node).is_some_and(|node| node.nat.is_some()),
            gateways: view.gateways().into_iter().map(str::to_owned).collect(),
            forwards: view.forwards,
            detours: view.detours.clone(),
            installed: installed(view, actual.peers == plan.peers),
            routes: actual
                .routes
                .iter()
                .filter(|route| !matches!(route.target, Target::Probe { .. }))
                .map(|route| route_fact(route, view, plan, facts))
                .collect(),
            guard: GuardFact { routes, nft },
            refusals: plan.refusals.clone(),
            membership: Membership::Member,
            max_view_age: view.max_age,
            ready: settled && plan.takes_part() && facts.heard != Heard::Asking && routes && nft,
            ..self
        }
    }
}

/// Nobody, where the engine could not use them, or the mesh is not spoken with yet.
fn listeners(view: &View, facts: &Facts) -> BTreeMap<String, Listener> {
    let spoken = facts.rotates && facts.heard != Heard::Asking;
    let all = view.listeners(&facts.node).filter(|(name, _)| !view.detours.contains_key(*name));
    all.filter(|_| spoken).map(|(name, one)| (name.clone(), one.clone())).collect()
}

fn via(route: &Route, view: &View) -> Option<String> {
    let mut nodes = view.nodes.iter();
    let owner = nodes.find(|(_, node)| {
        node.subnets.contains(&route.prefix) || node.announced.contains(&route.prefix)
    });
    owner.map(|(name, _)| view.through(name).to_owned())
}

/// Nothing, while the data path has other keys than the view.
fn installed(view: &View, in_force: bool) -> Installed {
    let nodes = view.nodes.iter().filter(|(_, node)| in_force && !node.revoked);
    let keys = nodes.map(|(name, node)| {
        let keys: BTreeMap<_, _> = node.keys.iter().copied().collect();
        (name.clone(), (sending(node.epoch, &keys.keys().copied().collect()), keys))
    });
    keys.filter(|(_, (_, keys))| !keys.is_empty()).collect()
}

fn peer_facts(view: &View, me: &str) -> BTreeMap<String, PeerFacts> {
    let nodes = view.spoken_to(me).map(|(name, node)| {
        let (subnets, site) = (node.subnets.clone(), node.site.clone());
        let encryption = view.encryption_between(me, name);
        let (is_node, others_turn, endpoints) = (true, None, node.endpoints.clone());
        let facts = PeerFacts { subnets, site, encryption, is_node, others_turn, endpoints };
        (name.clone(), facts)
    });
    let calls_us =
        |peer: &PlainPeer| peer.entries.is_empty() || peer.entries.iter().any(|entry| entry == me);
    let plain = view.peers.iter().filter(|(_, peer)| calls_us(peer)).map(|(name, peer)| {
        let others_turn = view.others_turn(name, peer, me);
        let subnets = peer.addresses.clone();
        let (site, encryption) = (None, Encryption::Required);
        let (is_node, endpoints) = (false, Vec::new());
        let facts = PeerFacts { subnets, site, encryption, is_node, others_turn, endpoints };
        (name.clone(), facts)
    });
    plain.chain(nodes).collect()
}

fn route_fact(route: &Route, view: &View, plan: &Plan, facts: &Facts) -> RouteFact {
    let owner = |prefix: &IpNet| {
        let mut peers = plan.peers.others.iter();
        peers.find(|peer| peer.allowed.contains(prefix)).map(|peer| peer.name.clone())
    };
    let leads = match &route.target {
        Target::Unreachable => Leads::Nowhere,
        Target::Device { name, .. } | Target::Machine { name } if *name == facts.tun => {
            owner(&route.prefix).map_or(Leads::Nowhere, Leads::Peer)
        }
        Target::Via { .. } | Target::Probe { .. } => {
            via(route, view).map_or(Leads::Nowhere, Leads::Peer)
        }
        Target::Device { name, .. } | Target::Machine { name } => {
            Leads::Pod { device: name.clone() }
        }
    };
    RouteFact { prefix: route.prefix, leads }
}
