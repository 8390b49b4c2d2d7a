//! `hawser verify wire`: sends marked packets and watches where they can be read.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    path::Path,
    thread::sleep,
    time::Duration,
};

use ipnet::IpNet;

use super::{
    canary,
    capture::{self, Capture},
    report::Check,
    tally::{Device, Marker, Probe, Role, Sent, Tally, judge},
};
use crate::{
    agent,
    args::Wire,
    exit::Failure,
    node_file::{self, NodeFile},
    settings::Settings,
    state::{Peer, State},
    terminal::Terminal,
};

/// Nobody listens on discard (RFC 863), so the peer's kernel answers, and its answer quotes us.
const DISCARD: u16 = 9;
/// The host side of every pod's device begins so.
const POD_DEVICES: &str = "hwp";
const CANARY_PROBES: u64 = 20;
const GAP: Duration = Duration::from_millis(5);
/// A first packet may have to wait for a handshake, and its answer for another node.
const SETTLE: Duration = Duration::from_millis(1500);

pub(super) async fn run(
    args: Wire,
    settings: &Settings,
    terminal: &Terminal,
) -> Result<Vec<Check>, Failure> {
    let state = agent::state(&settings.agent, settings.timeout).await?;
    let plan = Plan::new(&args, &state, &settings.agent)?;
    terminal.say(&format!(
        "sending {} packets to each of {} addresses, watching {}",
        plan.count,
        plan.targets.len(),
        plan.watched()
    ));
    let in_clear = if args.to.is_empty() { in_clear(&state) } else { Vec::new() };
    let checks = tokio::task::spawn_blocking(move || plan.carry_out())
        .await
        .map_err(|error| Failure::failed(format!("the check ended badly: {error}")))??;
    Ok(checks.into_iter().chain(in_clear).collect())
}

/// Everything that is decided before the first packet.
#[derive(Debug)]
struct Plan {
    node: String,
    tunnel: String,
    devices: BTreeMap<u32, Device>,
    ports: Vec<u16>,
    targets: Vec<IpAddr>,
    canaries: Vec<IpAddr>,
    count: u32,
}

impl Plan {
    fn new(args: &Wire, state: &State, socket: &Path) -> Result<Self, Failure> {
        let Wire { junit: _, tun, underlay, port, to, count } = args;
        let tunnel = tun.clone().unwrap_or_else(|| node_file::tunnel_of(socket));
        let devices = roles(capture::devices()?, &tunnel, underlay)?;
        let targets = if to.is_empty() { peer_addresses(state) } else { to.clone() };
        if targets.is_empty() {
            return Err(nobody(state).check("hawser peers, or name addresses with --to"));
        }
        let file = NodeFile::beside(socket);
        Ok(Self {
            node: state.node.clone(),
            tunnel,
            devices,
            ports: ports(*port, state),
            targets,
            canaries: canary::choose(&pools(state, &file), &owned(state, &file)),
            count: *count,
        })
    }

    fn watched(&self) -> String {
        let underlay = self.devices.values().filter(|device| device.role == Role::Underlay);
        let names: Vec<&str> = underlay.map(|device| device.name.as_str()).collect();
        format!("{} and {}", names.join(", "), self.tunnel)
    }

    fn carry_out(self) -> Result<Vec<Check>, Failure> {
        let marker = Marker::new(random()?);
        let tally = Tally::new(marker, self.ports.clone(), self.devices.clone());
        let capture = Capture::start(tally)?;
        let mut sockets = Sockets::open()?;
        let mut sent = Sent { node: self.node, tunnel: self.tunnel, ..Sent::default() };
        let mut never_sent: BTreeMap<IpAddr, io::Error> = BTreeMap::new();
        let mut reached = BTreeSet::new();
        for _ in 0..self.count {
            for target in &self.targets {
                let probe = if target.is_ipv4() { Probe::Peer4 } else { Probe::Peer6 };
                match sockets.send(&marker.payload(probe), *target) {
                    Ok(()) => {
                        *sent.accepted.entry(probe).or_default() += 1;
                        reached.insert(*target);
                    }
                    // The guard refuses what has no route yet; a later packet may find one.
                    Err(error) => drop(never_sent.insert(*target, error)),
                }
            }
            sleep(GAP);
        }
        never_sent.retain(|target, _| !reached.contains(target));
        sent.refused = never_sent.iter().map(|(to, error)| format!("{to}: {error}")).collect();
        for address in self.canaries {
            let probe = if address.is_ipv4() { Probe::Canary4 } else { Probe::Canary6 };
            for _ in 0..CANARY_PROBES {
                // Refused at once, or swallowed: both are blocked. The wire is what is judged.
                let _ = sockets.send(&marker.payload(probe), address);
            }
            sent.canaries.push((probe, address.to_string(), CANARY_PROBES));
        }
        sleep(SETTLE);
        Ok(judge(&sent, &capture.finish()?))
    }
}

fn roles(
    devices: BTreeMap<u32, String>,
    tunnel: &str,
    underlay: &[String],
) -> Result<BTreeMap<u32, Device>, Failure> {
    let names: Vec<&String> = devices.values().collect();
    if let Some(missing) =
        std::iter::once(&tunnel.to_owned()).chain(underlay).find(|wanted| !names.contains(wanted))
    {
        return Err(Failure::failed(format!("there is no device {missing} here")).check(
            "is hawser-agent running in this network namespace? --tun and --underlay name devices",
        ));
    }
    let role = |name: &str| {
        if name == tunnel {
            Role::Tunnel
        } else if underlay.is_empty() {
            let inside = name == "lo" || name.starts_with(POD_DEVICES);
            if inside { Role::Inside } else { Role::Underlay }
        } else if underlay.iter().any(|wanted| wanted == name) {
            Role::Underlay
        } else {
            Role::Inside
        }
    };
    Ok(devices.into_iter().map(|(i, name)| (i, Device { role: role(&name), name })).collect())
}

/// Each sealed peer's own address, where it has one: plain peers own single addresses, nodes subnets.
fn peer_addresses(state: &State) -> Vec<IpAddr> {
    let sealed = state.peers.iter().filter(|peer| peer.in_clear().is_none());
    sealed.flat_map(|peer| &peer.subnets).map(|subnet| api::first_host(*subnet)).collect()
}

fn nobody(state: &State) -> Failure {
    Failure::failed(if state.peers.is_empty() {
        "there is nobody to send to: this agent has no peers"
    } else {
        "there is nothing to prove: this agent seals to none of its peers"
    })
}

/// Peers whose packets go out in clear because the Mesh permits it: there is nothing to prove, and
/// they are named, so that nobody takes the rest for all.
fn in_clear(state: &State) -> Vec<Check> {
    let named = |peer: &Peer| {
        let backend = peer.in_clear()?;
        let policy = peer.encryption.as_deref().unwrap_or("unknown");
        let detail = format!(
            "{}: NOT ENCRYPTED, on {backend} (encryption {policy}); not sent to",
            peer.name
        );
        Some(Check::skipped(format!("clear/{}", peer.name), detail))
    };
    state.peers.iter().filter_map(named).collect()
}

/// The port of this node's tunnels, and those of the peers, should they differ.
fn ports(own: u16, state: &State) -> Vec<u16> {
    let endpoints = state.peers.iter().filter_map(|peer| peer.endpoint.as_deref());
    let theirs = endpoints.filter_map(|at| at.parse::<SocketAddr>().ok()).map(|at| at.port());
    let mut ports: Vec<u16> = std::iter::once(own).chain(theirs).collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// The mesh's range: what the guard's routes cover.
fn pools(state: &State, file: &NodeFile) -> Vec<IpNet> {
    let guard = state.routes.iter().filter(|route| route.kind.as_deref() == Some("unreachable"));
    let mut pools: Vec<IpNet> = guard.map(|route| route.prefix).collect();
    pools.extend(&file.pools);
    pools
}

fn owned(state: &State, file: &NodeFile) -> Vec<IpNet> {
    let peers = state.peers.iter().flat_map(|peer| &peer.subnets);
    let routes = state.routes.iter().filter(|route| route.kind.as_deref() != Some("unreachable"));
    peers.chain(routes.map(|route| &route.prefix)).chain(&file.subnets).copied().collect()
}

fn random<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| Failure::failed(format!("asking the kernel for random bytes: {error}")))?;
    Ok(bytes)
}

/// One socket a family, from an address that the kernel chooses, as a program on the node would.
struct Sockets {
    v4: UdpSocket,
    v6: Option<UdpSocket>,
}

impl Sockets {
    fn open() -> Result<Self, Failure> {
        let v4 = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))
            .map_err(|error| Failure::failed(format!("opening a UDP socket: {error}")))?;
        // A machine may have no IPv6; sending to such an address then says so.
        Ok(Self { v4, v6: UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).ok() })
    }

    fn send(&mut self, payload: &[u8], to: IpAddr) -> io::Result<()> {
        let socket = match to {
            IpAddr::V4(_) => &self.v4,
            IpAddr::V6(_) => {
                self.v6.as_ref().ok_or_else(|| io::Error::from(io::ErrorKind::Unsupported))?
            }
        };
        socket.send_to(payload, SocketAddr::new(to, DISCARD)).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    fn names() -> BTreeMap<u32, String> {
        let names = ["lo", "eth0", "eth1", "hawser0", "hwp12"];
        (1..).zip(names.map(str::to_owned)).collect()
    }

    fn role(roles: &BTreeMap<u32, Device>, name: &str) -> Role {
        roles.values().find(|device| device.name == name).unwrap().role
    }

    #[test]
    fn every_device_but_our_own_is_the_underlay() {
        let roles = roles(names(), "hawser0", &[]).unwrap();

        assert_eq!(role(&roles, "hawser0"), Role::Tunnel);
        assert_eq!(role(&roles, "eth1"), Role::Underlay);
        assert_eq!(role(&roles, "hwp12"), Role::Inside);
        assert_eq!(role(&roles, "lo"), Role::Inside);
    }

    #[test]
    fn named_devices_are_the_only_ones() {
        let roles = roles(names(), "hawser0", &["eth1".into()]).unwrap();

        assert_eq!(role(&roles, "eth1"), Role::Underlay);
        assert_eq!(role(&roles, "eth0"), Role::Inside);
    }

    #[test]
    fn a_device_that_is_not_there_stops_the_check() {
        assert!(roles(names(), "hawser7", &[]).is_err());
        assert!(roles(names(), "hawser0", &["wlan0".into()]).is_err());
    }

    #[test]
    fn every_peer_is_sent_to_in_both_families() {
        let addresses: Vec<String> =
            peer_addresses(&fixture::state()).iter().map(ToString::to_string).collect();

        assert_eq!(addresses, ["10.42.2.1", "fd42:0:0:2::1", "10.42.1.200"]);
    }

    #[test]
    fn a_pair_in_clear_is_named_and_not_sent_to() {
        let mut state = fixture::state();
        state.peers[0].backend = Some("vxlan".into());
        state.peers[0].encryption = Some("Preferred".into());
        let name = state.peers[0].name.clone();

        let addresses: Vec<String> =
            peer_addresses(&state).iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["10.42.1.200"]);
        let told = format!("{name}: NOT ENCRYPTED, on vxlan (encryption Preferred); not sent to");
        assert_eq!(in_clear(&state), [Check::skipped(format!("clear/{name}"), told)]);
        assert!(in_clear(&fixture::state()).is_empty());
    }

    #[test]
    fn canaries_come_from_the_guards_routes() {
        let (state, file) = (fixture::state(), NodeFile::default());

        let canaries = canary::choose(&pools(&state, &file), &owned(&state, &file));

        let canaries: Vec<String> = canaries.iter().map(ToString::to_string).collect();
        assert_eq!(canaries, ["10.42.255.254", "fd42::ffff:ffff:ffff:ffff:fffe"]);
    }
}
