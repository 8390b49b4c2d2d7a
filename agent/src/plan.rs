//! What this node should look like, as one value: peers, addresses, routes, guard, MTU, sysctls.
//!
//! ```text
//! (View, Facts) ─▶ Plan ─▶ changes_from(Actual) ─▶ [guard … device … addresses … peers … routes]
//! ```
//!
//! Pure: no clock, no system call. What is refused (a backend that this version lacks, a plain one
//! where encryption is required) leaves a plan of the guard alone, so it fails closed.

mod actual;
pub mod barred;
mod carrier;
mod change;
mod guard;
mod here;
mod peers;
mod refusal;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use crypto::PeerConfig;
use ipnet::IpNet;
use keys::PresharedKey;

pub(crate) use self::carrier::first;
pub use self::{
    actual::{Actual, Device},
    barred::{Barred, LocalLookups},
    carrier::{Mac, VNI, VXLAN_DEVICE, VXLAN_PORT, Vtep, Vxlan},
    change::Change,
    guard::{Guard, Open},
    peers::Peers,
    refusal::Refusal,
};
use crate::{
    datapath::Sealed,
    view::{Backend, Node, View},
};

/// Below this Linux takes IPv6 off a device (RFC 8200, section 5).
const SMALLEST_MTU: u16 = 1280;

/// What only this machine knows.
#[derive(Clone, Debug)]
pub struct Facts {
    pub node: String,
    /// The tunnel device's name.
    pub tun: String,
    pub underlay: Underlay,
    /// False on a kernel without IPv6.
    pub ipv6: bool,
    /// Devices that are neither the tunnel's, nor a pod's, nor a port of a bridge.
    pub foreign: BTreeSet<String>,
    /// Routes of pods whose device is there.
    pub pods: Vec<PodRoute>,
    /// A pod's device is there, ours or another plugin's, also one without a record.
    pub has_pods: bool,
    /// Devices that are there and that another plugin's pods are behind.
    pub devices: BTreeSet<String>,
    /// Gateways that do not answer.
    pub silent: BTreeSet<String>,
    /// The preshared keys that could be read, by MeshPeer.
    pub preshared: BTreeMap<String, PresharedKey>,
    /// False if the engine listens to one key a peer.
    pub rotates: bool,
    /// `--keepalive`, which overrides what follows from NATs.
    pub keepalive: Option<Duration>,
    /// When the source of the view was last heard.
    pub heard: Heard,
    /// `--backend`, which overrides the Mesh.
    pub backend: Option<Backend>,
    /// By device: prefixes that this node announces and that the routing table leads to by it.
    pub networks: BTreeMap<String, BTreeSet<IpNet>>,
    /// Endpoints of others that no router lies before, and the device that they are on. Asked for
    /// only where a plain route is wanted.
    pub on_link: BTreeMap<IpAddr, String>,
    /// What to use to each node, where there is a choice; who is missing gets the first that can.
    pub chosen: BTreeMap<String, Way>,
}

/// When the API that the view is from last answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Now, or it is the operator's own file.
    Now,
    /// It is being asked; the view is the last run's, and nobody in it is spoken with yet.
    Asking,
    Ago(Duration),
    /// The clock stands before the last time that it did.
    Unknown,
}

/// How this node reaches the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Underlay {
    pub v4: Option<Ipv4Addr>,
    pub v6: Option<Ipv6Addr>,
    pub mtu: u16,
}

/// A pod's address and the device it is behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodRoute {
    pub address: IpAddr,
    pub device: String,
}

/// A carrier, and which way its datagrams take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    pub backend: Backend,
    /// Sealed datagrams in the shape of VXLAN.
    pub shaped: bool,
    /// Passed on by the relay of that place in the list that both ends have.
    pub relay: Option<u8>,
    /// Carried in TLS over TCP.
    pub tls: bool,
}

impl Way {
    /// Its place among those that there are now, or that of the nearest: where it was a relay's that is
    /// gone, another relay's. The best, if there is none.
    pub(crate) fn place_among(self, ways: &[Self]) -> usize {
        let relay = |way: &Self| self.relay.is_some() && way.relay.is_some();
        let same = ways.iter().position(|way| *way == self);
        same.or_else(|| ways.iter().position(relay)).unwrap_or(0)
    }

    /// Sealed, and as a datagram to the other node itself.
    pub(crate) fn is_datagram(self) -> bool {
        self.backend == Backend::Wireguard && self.relay.is_none() && !self.tls
    }

    /// How the tunnel's datagrams travel.
    pub(crate) fn sealed(self) -> Sealed {
        match (self.tls, self.relay, self.shaped) {
            (true, _, _) => Sealed::Bridge,
            (false, Some(place), _) => Sealed::Relay(place.into()),
            (false, None, true) => Sealed::Shape,
            (false, None, false) => Sealed::Plain,
        }
    }
}

impl From<Backend> for Way {
    fn from(backend: Backend) -> Self {
        Self { backend, shaped: false, relay: None, tls: false }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shape = if self.shaped { " in the shape of VXLAN" } else { "" };
        let tls = if self.tls { " in TLS" } else { "" };
        write!(f, "{}{shape}{tls}", self.backend)?;
        self.relay.map_or(Ok(()), |place| write!(f, " through relay {}", place + 1))
    }
}

/// A route of ours.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Route {
    pub prefix: IpNet,
    pub target: Target,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// The guard's: whoever asks gets an error instead of a way out.
    Unreachable,
    Device {
        name: String,
        source: Option<IpAddr>,
    },
    /// Through a neighbour on a device.
    Via {
        gateway: IpAddr,
        device: String,
        source: Option<IpAddr>,
    },
    /// For packets of pods alone, in a table of their own: another node's own address, through the
    /// tunnel of this name. The main table keeps leading there without it, for the tunnel's own
    /// datagrams and everything else between the machines.
    Machine {
        name: String,
    },
    /// For this agent's probes alone, in a table of their own: another node by a carrier, whether or
    /// not that is in use.
    Probe {
        table: SideTable,
        gateway: IpAddr,
        device: String,
        source: Option<IpAddr>,
    },
}

impl Route {
    /// None: the main table.
    pub fn table(&self) -> Option<SideTable> {
        match &self.target {
            Target::Machine { .. } => Some(SideTable::Machines),
            Target::Probe { table, .. } => Some(*table),
            Target::Unreachable | Target::Device { .. } | Target::Via { .. } => None,
        }
    }
}

/// A routing table of ours beside the main one; packets of its mark are looked up there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SideTable {
    /// Pods' packets to other machines.
    Machines,
    /// Probes by the kernel's VXLAN.
    Vxlan,
    /// Probes by plain routes.
    Direct,
}

impl SideTable {
    /// What a packet that is looked up there has in its mark: the value, and which bits of it count.
    /// Pods' packets may have marks of others beside ours, probes have none.
    pub const fn mark(self) -> (u32, u32) {
        match self {
            Self::Machines => (0x40, 0x40),
            Self::Vxlan => (0x4857_0009, u32::MAX),
            Self::Direct => (0x4857_000a, u32::MAX),
        }
    }
}

/// Sends packets of a table's mark there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rule {
    pub family: Family,
    pub table: SideTable,
}

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub fn of(prefix: &IpNet) -> Self {
        match prefix {
            IpNet::V4(_) => Self::V4,
            IpNet::V6(_) => Self::V6,
        }
    }
}

/// A switch under /proc/sys, by its path there, and the value it must have.
pub type Sysctls = BTreeMap<&'static str, &'static str>;

/// What this node should look like.
#[derive(Clone, Debug)]
pub struct Plan {
    pub guard: Guard,
    /// Of the tunnel device.
    pub mtu: u16,
    /// Of pods: what every carrier in use takes.
    pub pod_mtu: u16,
    /// How each node is reached.
    pub carriers: BTreeMap<String, Backend>,
    /// What else it could be reached by, best first and that one included, where there is a choice.
    pub ways: BTreeMap<String, Vec<Way>>,
    /// Whose sealed datagrams travel in the shape of VXLAN.
    pub shaped: BTreeSet<String>,
    /// Whose sealed datagrams another node passes on: its place among their relays, and its name.
    pub relayed: BTreeMap<String, (u8, String)>,
    /// Whose sealed datagrams travel in TLS over TCP.
    pub bridged: BTreeSet<String>,
    /// Who cannot be reached otherwise, as far as is known.
    pub apart: BTreeSet<String>,
    pub vxlan: Option<Vxlan>,
    /// This node's own addresses, on the tunnel device.
    pub addresses: BTreeSet<IpNet>,
    /// Without the guard's.
    pub routes: BTreeSet<Route>,
    /// For every table beside the main one that has routes.
    pub rules: BTreeSet<Rule>,
    /// The guard's.
    pub barred: BTreeSet<Barred>,
    pub sysctls: Sysctls,
    pub peers: Peers,
    pub refusals: Vec<Refusal>,
}

impl Plan {
    /// `view` as this node sees it (`View::seen_by`).
    pub fn new(view: &View, facts: &Facts) -> Self {
        let (view, here) = here::without(view, facts);
        let view = &*view;
        let mut refusals = refusal::judge(view, facts);
        let me = view.nodes.get(&facts.node).filter(|_| refusals.is_empty());
        let (mut peers, missing) = match me {
            Some(_) => peers::configure(view, facts),
            None => (Peers::default(), Vec::new()),
        };
        refusals.extend(missing.into_iter().chain(here));
        let addresses: BTreeSet<IpNet> = me.map(|node| own(node, facts)).unwrap_or_default();
        let carriers = me.map(|_| carrier::of(view, facts, &addresses)).unwrap_or_default();
        refusals.extend(carriers.refusals.iter().cloned());
        peers.clear.clone_from(&carriers.clear);
        peers.shaped.clone_from(&carriers.shaped);
        peers.relays.clone_from(&carriers.relays);
        carrier::call(&mut peers, facts.underlay);
        let asking = facts.heard == Heard::Asking;
        let open = if asking { BTreeMap::new() } else { carriers.open.clone() };
        let guard = guard::of(view, facts, (&carriers.chosen, open));
        let others = routes(view, &peers.others, &addresses, (&guard.machines, facts));
        let routes: BTreeSet<Route> = others.chain(carriers.routes.iter().cloned()).collect();
        let rule =
            |route: &Route| Some(Rule { family: Family::of(&route.prefix), table: route.table()? });
        let mtu = |measured: u16| view.mtu.unwrap_or(measured).max(SMALLEST_MTU);
        Self {
            mtu: mtu(carrier::tunnel_mtu(view, facts)),
            pod_mtu: mtu(carriers.mtu(view, facts)),
            vxlan: carriers.vxlan.map(|vxlan| Vxlan { mtu: mtu(vxlan.mtu), ..vxlan }),
            carriers: carriers.chosen,
            shaped: carriers.in_shape,
            relayed: carriers.relayed,
            bridged: carriers.bridged,
            apart: carriers.apart,
            ways: if asking { BTreeMap::new() } else { carriers.ways },
            rules: routes.iter().filter_map(rule).collect(),
            barred: barred::of(&guard, &facts.foreign, facts.ipv6),
            guard,
            routes,
            addresses,
            sysctls: sysctls(facts),
            peers: if asking { peers.silent() } else { peers },
            refusals,
        }
    }

    /// True if this node takes part in the mesh.
    pub fn takes_part(&self) -> bool {
        !self.addresses.is_empty()
    }
}

fn own(node: &Node, facts: &Facts) -> BTreeSet<IpNet> {
    let usable = node.subnets.iter().filter(|subnet| facts.ipv6 || subnet.addr().is_ipv4());
    usable.map(|subnet| IpNet::from(api::first_host(*subnet))).collect()
}

/// To plain peers, which are always reached through the tunnel, their own or an entry's, for pods to the machines that are
/// reached so, and to this node's pods.
fn routes<'a>(
    view: &'a View,
    peers: &'a [PeerConfig],
    own: &'a BTreeSet<IpNet>,
    (machines, facts): (&'a BTreeSet<IpNet>, &'a Facts),
) -> impl Iterator<Item = Route> + 'a {
    let source = |v4: bool| own.iter().map(IpNet::addr).find(|a| a.is_ipv4() == v4);
    let target = move |prefix: &IpNet| {
        let name = facts.tun.clone();
        if machines.contains(prefix) {
            return Target::Machine { name };
        }
        Target::Device { name, source: source(prefix.addr().is_ipv4()) }
    };
    let tunnel = move |prefix: &IpNet| Route { prefix: *prefix, target: target(prefix) };
    let pod = |pod: &PodRoute| Route {
        prefix: IpNet::from(pod.address),
        target: Target::Device { name: pod.device.clone(), source: None },
    };
    let usable = |route: &Route| facts.ipv6 || route.prefix.addr().is_ipv4();
    let plain: BTreeSet<&IpNet> = view.peers.values().flat_map(|peer| &peer.addresses).collect();
    let prefixes = peers.iter().flat_map(|peer| &peer.allowed);
    let prefixes = prefixes.filter(move |net| plain.contains(net) || machines.contains(*net));
    prefixes.map(tunnel).chain(facts.pods.iter().map(pod)).filter(usable)
}

/// Forwarding only: reverse-path filters of others' devices stay as they are, because every mesh
/// source has its route through the device that it comes from, but for moments.
fn sysctls(facts: &Facts) -> Sysctls {
    let mut wanted = Sysctls::from([("net/ipv4/ip_forward", "1")]);
    if facts.ipv6 {
        wanted.insert("net/ipv6/conf/all/forwarding", "1");
    }
    wanted
}

#[cfg(test)]
mod tests;
