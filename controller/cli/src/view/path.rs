//! `hawser path SRC DST`: what would happen to a packet, from what everybody already said.
//!
//! ```text
//! SRC, DST → addresses per family → owners (most specific) → claim → key → carrier → live figures
//!                                       any of these may end the path, and says why
//! ```
//! Nothing is sent. The figures of the tunnel itself are known only where the agent that was asked
//! runs on one of the two ends.

use std::net::IpAddr;

use api::{Backend, Encryption, Mesh, SubnetClaim};
use ipnet::IpNet;
use jiff::Timestamp;
use serde::Serialize;

use crate::{
    exit::Failure,
    member::{Kind, Member, Members},
    output::{Item, Output},
    state::{Peer, State},
    text::{self, UNKNOWN},
    view::{fields, peers},
};

#[cfg(test)]
mod tests;

const LOCAL: &str = "local, no tunnel";

/// Everything that is known, from whoever answered.
#[derive(Debug, Default)]
pub struct Known<'a> {
    pub members: Members,
    pub pools: Vec<IpNet>,
    pub mesh: Option<&'a Mesh>,
    /// None where the credentials may not see claims.
    pub claims: Option<&'a [SubnetClaim]>,
    pub state: Option<&'a State>,
}

/// The way from one address to another.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Leg {
    source: End,
    destination: End,
    /// The prefix that decides, and where it leads.
    route: Option<String>,
    claim: Option<Claim>,
    key_epoch: Option<u32>,
    fingerprint: Option<String>,
    carrier: Option<String>,
    /// `direct`, `punched` or `relayed`, as the agent at one of the ends says.
    #[serde(skip_serializing_if = "Option::is_none")]
    reached: Option<String>,
    endpoint: Option<String>,
    mtu: Option<u16>,
    last_handshake: Option<Timestamp>,
    last_discard: Option<String>,
    /// Why there is no path; absent where there is one.
    blocked: Option<String>,
    /// What the operator should know all the same.
    notes: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct End {
    address: IpAddr,
    owner: Option<String>,
    kind: Option<Kind>,
    prefix: Option<IpNet>,
}

#[derive(Debug, PartialEq, Serialize)]
struct Claim {
    name: String,
    generation: i64,
    owner: Option<String>,
}

/// The paths between two ends, one per address family that both have.
#[derive(Debug, Serialize)]
pub struct Answer {
    source: String,
    destination: String,
    paths: Vec<Leg>,
}

impl Answer {
    pub fn find(source: &str, destination: &str, known: &Known<'_>) -> Result<Self, Failure> {
        let (from, to) = (resolve(source, known)?, resolve(destination, known)?);
        let pairs = from
            .iter()
            .filter_map(|f| Some((*f, *to.iter().find(|t| t.is_ipv4() == f.is_ipv4())?)));
        let paths: Vec<Leg> = pairs.map(|(from, to)| leg(from, to, known)).collect();
        if paths.is_empty() {
            return Err(Failure::failed(format!(
                "no path: {source} and {destination} have no address family in common"
            ))
            .check("which subnets both have: hawser nodes"));
        }
        Ok(Self { source: source.into(), destination: destination.into(), paths })
    }

    /// True if every family has a path.
    pub fn is_whole(&self) -> bool {
        self.paths.iter().all(|leg| leg.blocked.is_none())
    }

    pub fn print(&self, now: Timestamp) -> Output {
        let legs: Vec<String> = self.paths.iter().map(|leg| leg.print(now)).collect();
        let name = format!("path/{}-{}", self.source, self.destination);
        Output::screen("Path", legs.join("\n"), Item::new(text::cell(&name), self))
    }
}

/// The addresses that a word stands for: itself, or those of the member of that name.
fn resolve(word: &str, known: &Known<'_>) -> Result<Vec<IpAddr>, Failure> {
    if let Ok(address) = word.parse() {
        return Ok(vec![address]);
    }
    let Some(member) = known.members.named(word) else {
        let names = text::list(known.members.0.iter().take(20).map(|member| &member.name));
        return Err(Failure::failed(format!(
            "{word:?} is no address, and no node or peer has that name"
        ))
        .check(format!("there are {names}")));
    };
    let addresses = member.addresses();
    if addresses.is_empty() {
        return Err(Failure::failed(format!("no path: {word} has no subnet yet"))
            .check(format!("the conditions that `hawser nodes show {word}` prints")));
    }
    Ok(addresses)
}

fn leg(from: IpAddr, to: IpAddr, known: &Known<'_>) -> Leg {
    let (source, destination) = (owner(from, known), owner(to, known));
    let mut leg = Leg {
        source: end(from, source),
        destination: end(to, destination),
        route: None,
        claim: None,
        key_epoch: None,
        fingerprint: None,
        carrier: None,
        reached: None,
        endpoint: None,
        mtu: None,
        last_handshake: None,
        last_discard: None,
        blocked: None,
        notes: Vec::new(),
    };
    leg.blocked = match (source, destination) {
        (None, _) => Some(format!("nobody in the mesh owns {from}")),
        (_, None) => Some(unowned(to, known)),
        (Some((a, _)), Some((b, net))) if a.name == b.name => {
            leg.route = Some(format!("{net} local"));
            leg.carrier = Some(LOCAL.into());
            None
        }
        (Some((a, _)), Some((b, net))) => leg.through_a_tunnel(a, b, net, known),
    };
    leg
}

fn owner<'a>(address: IpAddr, known: &'a Known<'_>) -> Option<(&'a Member, IpNet)> {
    known.members.owner_of(address)
}

fn end(address: IpAddr, owner: Option<(&Member, IpNet)>) -> End {
    End {
        address,
        owner: owner.map(|(member, _)| member.name.clone()),
        kind: owner.map(|(member, _)| member.kind),
        prefix: owner.map(|(_, net)| net),
    }
}

fn unowned(to: IpAddr, known: &Known<'_>) -> String {
    match known.pools.iter().find(|pool| pool.contains(&to)) {
        Some(pool) => {
            format!("nobody owns {to}: in pool {pool}, so it is unreachable and never leaves")
        }
        None if known.pools.is_empty() => format!("nobody in the mesh owns {to}"),
        None => format!("{to} is outside the mesh's pools and takes the node's default route"),
    }
}

impl Leg {
    /// Fills in the way from node to node. Returns what ends it.
    fn through_a_tunnel(
        &mut self,
        from: &Member,
        to: &Member,
        net: IpNet,
        known: &Known<'_>,
    ) -> Option<String> {
        self.route = Some(format!("{net} via {}", to.name));
        self.key_epoch = to.epoch;
        self.fingerprint.clone_from(&to.fingerprint);
        self.endpoint.clone_from(&to.endpoint);
        self.mtu =
            [from.mtu, to.mtu, known.mesh.and_then(|m| m.spec.mtu)].into_iter().flatten().min();
        // Without the Mesh nobody says how packets are carried, only that they are.
        let carrier = known.mesh.map(|mesh| self.carried(from, to, mesh));
        self.carrier = Some(carrier.map_or_else(|| "tunnel".to_owned(), |one| one.to_string()));
        let live = self.live(from, to, known);
        self.claimed_by_another(to, net, known)
            .or_else(|| keyless(from, to, known))
            .or_else(|| refused(known.mesh))
            .or_else(|| self.unreachable(from, to))
            .or(live)
    }

    /// By what, as the Mesh has it: pairs that have to be sealed take the tunnel, whatever the rest does.
    fn carried(&mut self, from: &Member, to: &Member, mesh: &Mesh) -> Backend {
        let (spec, sites) = (&mesh.spec, (from.site.as_deref(), to.site.as_deref()));
        let encryption = spec.encryption_between(sites.0, sites.1);
        if encryption != spec.encryption {
            self.notes.push(format!(
                "encryption is {encryption} between their sites, and {} elsewhere",
                spec.encryption
            ));
        }
        let sealed = encryption == Encryption::Required && spec.permits_clear();
        if sealed || to.kind == Kind::Peer || from.kind == Kind::Peer {
            return Backend::Wireguard;
        }
        spec.backend
    }

    fn claimed_by_another(&mut self, to: &Member, net: IpNet, known: &Known<'_>) -> Option<String> {
        if to.kind == Kind::Peer {
            return None;
        }
        let name = api::claim_name(&net);
        let claims = known.claims?;
        let Some(claim) = claims.iter().find(|c| c.metadata.name.as_deref() == Some(&name)) else {
            self.notes.push(format!("no SubnetClaim named {name}"));
            return None;
        };
        let spec = &claim.spec;
        self.claim = Some(Claim { name, generation: spec.generation, owner: spec.node.clone() });
        match &spec.node {
            Some(owner) if *owner == to.name => None,
            Some(owner) => Some(format!("{net} is claimed by {owner}, not by {}", to.name)),
            None => Some(format!("the claim of {net} is released")),
        }
    }

    fn unreachable(&mut self, from: &Member, to: &Member) -> Option<String> {
        if self.endpoint.is_some() {
            return None;
        }
        if from.endpoint.is_some() {
            self.notes.push(format!("{} has no endpoint: it must call first", to.name));
            return None;
        }
        Some(format!("neither {} nor {} has an endpoint", from.name, to.name))
    }

    /// Adds what the agent at one of the ends knows, and says what stops packets there.
    fn live(&mut self, from: &Member, to: &Member, known: &Known<'_>) -> Option<String> {
        let Some(state) = known.state else {
            self.notes.push("no live figures: no agent was asked".into());
            return None;
        };
        let other = if state.node == from.name {
            &to.name
        } else if state.node == to.name {
            &from.name
        } else {
            self.notes.push(format!("no live figures: the agent asked is {}'s", state.node));
            return None;
        };
        if !state.guard.stands() {
            self.notes.push(format!("the guard of {} is not complete", state.node));
        }
        let Some(peer) = state.peer(other) else {
            return Some(format!("the agent of {} does not know {other}", state.node));
        };
        self.take(peer, state, &to.name);
        self.route_is_missing(state, &to.name)
    }

    fn take(&mut self, peer: &Peer, state: &State, to: &str) {
        if peer.name == to {
            self.endpoint = peer.endpoint.clone().or(self.endpoint.take());
        }
        self.mtu = peer.mtu.or(self.mtu).or(state.mtu);
        self.last_handshake = peer.last_handshake;
        self.last_discard = peer.last_discard.clone().or_else(|| most_discarded(state));
        self.reached.clone_from(&peer.reached);
        if peer.in_clear().is_none() && (peer.reached.is_some() || peer.path.is_some()) {
            let way = peers::path(peer);
            self.carrier = self.carrier.take().map(|carrier| format!("{carrier} {way}"));
        }
        if peer.last_handshake.is_none() {
            self.notes.push(format!("no handshake with {} yet", peer.name));
        }
    }

    /// Judged by the sending node's own routes, where it names the peers of its routes at all.
    fn route_is_missing(&self, state: &State, to: &str) -> Option<String> {
        let named = state.routes.iter().any(|route| route.peer.is_some());
        if self.source.owner.as_deref() != Some(&state.node) || !named {
            return None;
        }
        let address = self.destination.address;
        let best = state
            .routes
            .iter()
            .filter(|route| route.prefix.contains(&address))
            .max_by_key(|route| (route.prefix.prefix_len(), route.peer.is_some()));
        match best.and_then(|route| route.peer.as_deref()) {
            Some(peer) if peer == to => None,
            Some(peer) => Some(format!("{} routes {address} to {peer}, not to {to}", state.node)),
            None => Some(format!("{} has no route to {address}", state.node)),
        }
    }

    fn print(&self, now: Timestamp) -> String {
        let yes_or_why = match &self.blocked {
            None => "ok".to_owned(),
            Some(why) => format!("none: {why}"),
        };
        let claim = self
            .claim
            .as_ref()
            .map(|claim| format!("{} generation {}", claim.name, claim.generation));
        let key = self.key_epoch.map(|epoch| {
            format!("epoch {epoch} {}", self.fingerprint.as_deref().unwrap_or(UNKNOWN))
        });
        let carrier = self.carrier.as_ref().map(|carrier| match &self.endpoint {
            Some(endpoint) => format!("{carrier} {endpoint}"),
            None => carrier.clone(),
        });
        let handshake =
            self.last_handshake.map(|then| text::duration(text::since(then, now)) + " ago");
        let known = [
            ("Route", self.route.clone()),
            ("Claim", claim),
            ("Key", key.or_else(|| self.fingerprint.clone())),
            ("Carrier", carrier),
            ("Handshake", handshake),
            ("MTU", self.mtu.map(|mtu| mtu.to_string())),
            ("Last drop", self.last_discard.clone()),
        ];
        let mut rows = vec![("From", self.source.print()), ("To", self.destination.print())];
        // Where the path ends early, what was never asked is left out.
        let whole = self.blocked.is_none() && self.carrier.as_deref() != Some(LOCAL);
        rows.extend(known.into_iter().filter_map(|(label, value)| match value {
            Some(value) => Some((label, value)),
            None => whole.then(|| (label, UNKNOWN.to_owned())),
        }));
        rows.push(("Path", yes_or_why));
        rows.extend(self.notes.iter().map(|note| ("Note", note.clone())));
        fields(&rows)
    }
}

impl End {
    fn print(&self) -> String {
        match (&self.owner, &self.prefix) {
            (Some(owner), Some(net)) => format!("{} of {owner} by {net}", self.address),
            _ => format!("{} of nobody", self.address),
        }
    }
}

/// Why one of the two cannot open a session at all.
fn keyless(from: &Member, to: &Member, known: &Known<'_>) -> Option<String> {
    for member in [from, to] {
        if member.revoked {
            return Some(format!("{} is revoked", member.name));
        }
        if member.fingerprint.is_none() && known.mesh.is_some() {
            let epoch = member.epoch.unwrap_or(1);
            return Some(format!("{} has not published its key of epoch {epoch}", member.name));
        }
    }
    None
}

/// Where no pair may be in clear, a plain backend leaves agents without a plan.
fn refused(mesh: Option<&Mesh>) -> Option<String> {
    let (spec, encryption) = (&mesh?.spec, mesh?.spec.encryption);
    let plain = spec.carriers().find(|backend| !backend.encrypts())?;
    (!spec.permits_clear())
        .then(|| format!("backend {plain} is in clear, and encryption is {encryption}"))
}

/// The agent's most frequent reason for dropping, where it keeps none per peer.
fn most_discarded(state: &State) -> Option<String> {
    let (reason, count) = state.discards.iter().max_by_key(|(_, count)| **count)?;
    (*count > 0).then(|| format!("{reason} ({count} on this node, any peer)"))
}
