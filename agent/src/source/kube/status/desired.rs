//! Pure: the status that a node should have, if it differs from the one it has.

use std::net::{IpAddr, SocketAddr};

use api::{
    Condition, Confirmation, MeshNode, MeshNodeStatus, Probes, PublishedKey, Served, TlsListener,
    conditions::{self, REMOVED},
};
use ipnet::IpNet;
use jiff::Timestamp;
use keys::{KeyEpoch, PublicKey};
use serde_json::{Map, Value, json};

use crate::{
    datapath::PeerStatus,
    keyring::PublicFace,
    options::Endpoint,
    outside::{Nat, Seen},
    rotation::{Rotation, confirm},
    snapshot::{Membership, Snapshot},
    tls::Published,
};

/// As many as the schema takes.
const UNREACHABLE: usize = 1000;

/// What never changes while the agent runs.
#[derive(Clone, Debug)]
pub struct Identity {
    pub listen_port: u16,
    /// As the operator gave them; else they follow from the underlay.
    pub endpoints: Vec<Endpoint>,
    pub version: String,
    pub boot_id: Option<String>,
    /// A digest of what outlives a boot.
    pub machine_id: Option<String>,
}

/// What changes all the time, and is boiled down to what rarely does.
#[derive(Clone, Debug)]
pub struct Live {
    pub keys: PublicFace,
    pub rotation: Option<Rotation>,
    /// Every session has used the keys to send with for long enough.
    pub settled: bool,
    /// The plain peers that came to this node.
    pub serves: Vec<Served>,
    pub peers: Vec<PeerStatus>,
    /// What became of the probes of a rotation, if there was one.
    pub counts: Option<Counts>,
    /// Where peers see this node.
    pub(crate) seen: Seen,
    /// Where it is called over TLS.
    pub(crate) listens: Option<Published>,
    /// The listeners that it is spoken with by TLS.
    pub relays: Vec<String>,
    pub now: Timestamp,
}

/// Figures that go with another write, unless they are worth one of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts {
    pub probes: Probes,
    pub worth_a_write: bool,
}

/// None if the node's status says all this already.
pub(super) fn status(
    node: &MeshNode,
    identity: &Identity,
    snapshot: &Snapshot,
    live: &Live,
) -> Option<MeshNodeStatus> {
    let before = node.status.clone().unwrap_or_default();
    let tunnels = Tunnels::count(snapshot, live);
    let mut conditions = before.conditions.clone();
    let told = [tunnels.condition(snapshot, live.now), key_current(node, live)];
    let removed = removed(snapshot, live.now);
    conditions.retain(|condition| removed.is_some() || condition.type_ != REMOVED);
    for condition in told.into_iter().chain(removed) {
        conditions::set(&mut conditions, condition.observed(node.metadata.generation));
    }
    let after = MeshNodeStatus {
        observed_generation: node.metadata.generation,
        public_keys: live.keys.keys.iter().map(published).collect(),
        newest_epoch: Some(live.keys.newest.0),
        confirmed: confirmed(snapshot, live).or(before.confirmed.clone()),
        probes: live.counts.as_ref().map(|c| c.probes.clone()).or(before.probes.clone()),
        unreachable: tunnels.down.iter().take(UNREACHABLE).cloned().collect(),
        endpoints: published_endpoints(identity, snapshot, &live.seen),
        tls: live.listens.as_ref().and_then(|listens| listener(listens, identity, snapshot)),
        relays: live.relays.clone(),
        nat: live.seen.nat.map(Nat::name).map(str::to_owned),
        peers: Some(format!("{}/{}", tunnels.up, tunnels.all)),
        mtu: Some(snapshot.mtu).filter(|mtu| *mtu > 0),
        version: Some(identity.version.clone()),
        boot_id: identity.boot_id.clone(),
        subnets: snapshot.subnets.iter().map(ToString::to_string).collect(),
        serves: live.serves.clone(),
        conditions,
        ..before.clone()
    };
    let worth_it = live.counts.as_ref().is_none_or(|counts| counts.worth_a_write);
    let probes = if worth_it { after.probes.clone() } else { before.probes.clone() };
    let compared = MeshNodeStatus { probes, ..after.clone() };
    let nothing = live.rotation.is_some() && same_but_observed(&before, &compared);
    (compared != before && !nothing).then_some(after)
}

/// True if there is nothing to say but that the spec was looked at. While a rotation is under way,
/// what it asks for follows soon, and each write is news to every agent.
fn same_but_observed(before: &MeshNodeStatus, after: &MeshNodeStatus) -> bool {
    let without = |status: &MeshNodeStatus| MeshNodeStatus {
        observed_generation: None,
        conditions: Vec::new(),
        ..status.clone()
    };
    conditions::same_but_observed(&before.conditions, &after.conditions)
        && without(before) == without(after)
}

/// As a merge patch, in which what is left out stays as it was: what is gone has to be said.
pub(super) fn change(before: Option<&MeshNodeStatus>, after: &MeshNodeStatus) -> Value {
    let mut patch = json!(after);
    let before = json!(before);
    for field in before.as_object().into_iter().flat_map(Map::keys) {
        if patch.get(field).is_none() {
            patch[field] = Value::Null;
        }
    }
    patch
}

fn published((epoch, key): &(KeyEpoch, PublicKey)) -> PublishedKey {
    PublishedKey { epoch: epoch.0, public_key: key.to_string() }
}

/// Its own, and then where peers see it, unless the operator said where it is reached. An address of the
/// mesh would be nobody's to call.
fn published_endpoints(identity: &Identity, snapshot: &Snapshot, seen: &Seen) -> Vec<String> {
    let mut all = endpoints(identity, snapshot);
    if identity.endpoints.is_empty() {
        let meshes: Vec<IpNet> =
            snapshot.peers.values().flat_map(|peer| &peer.subnets).copied().collect();
        let usable = |at: &&SocketAddr| api::published::endpoint(&at.to_string(), &meshes).is_ok();
        all.extend(seen.endpoints.iter().filter(usable));
    }
    all.iter().map(ToString::to_string).collect()
}

pub(super) fn endpoints(identity: &Identity, snapshot: &Snapshot) -> Vec<SocketAddr> {
    if !identity.endpoints.is_empty() {
        let port = |given: &Endpoint| given.port.unwrap_or(identity.listen_port);
        return identity.endpoints.iter().map(|e| (e.address, port(e)).into()).collect();
    }
    let v4 = snapshot.underlay.v4.map(IpAddr::V4);
    let v6 = snapshot.underlay.v6.map(IpAddr::V6);
    let found = v4.into_iter().chain(v6);
    found.map(|address| (address, identity.listen_port).into()).collect()
}

/// On all its addresses, or on the one that it listens on.
fn listener(
    Published { address, fingerprint }: &Published,
    identity: &Identity,
    snapshot: &Snapshot,
) -> Option<TlsListener> {
    let all = endpoints(identity, snapshot).into_iter().map(|at| at.ip());
    // On [::] both families are listened to.
    let heard = |ip: &IpAddr| address.is_ipv6() || ip.is_ipv4();
    let (all, port) = (all.filter(heard), address.port());
    let addresses: Vec<IpAddr> =
        if address.ip().is_unspecified() { all.collect() } else { vec![address.ip()] };
    let endpoints: Vec<String> =
        addresses.into_iter().map(|ip| SocketAddr::new(ip, port).to_string()).collect();
    let fingerprint = api::join::hex(fingerprint);
    (!endpoints.is_empty()).then_some(TlsListener { endpoints, fingerprint })
}

/// Tunnels to nodes; a laptop that sleeps is nobody's fault.
struct Tunnels {
    up: usize,
    all: usize,
    down: Vec<String>,
}

impl Tunnels {
    fn count(snapshot: &Snapshot, live: &Live) -> Self {
        let nodes = snapshot.peers.iter().filter(|(_, facts)| facts.is_node);
        let is_up =
            |name: &String| live.peers.iter().any(|peer| peer.name == *name && peer.established);
        let (up, down): (Vec<_>, Vec<_>) = nodes.map(|(name, _)| name).partition(|n| is_up(n));
        let all = up.len() + down.len();
        Self { up: up.len(), all, down: down.into_iter().cloned().collect() }
    }

    fn condition(&self, snapshot: &Snapshot, now: Timestamp) -> Condition {
        let (holds, reason, message) = self.judge(snapshot);
        Condition::new("TunnelsUp", holds, (reason, message), now)
    }

    /// A node that reaches some is not the one to blame for the rest.
    fn judge(&self, snapshot: &Snapshot) -> (bool, &'static str, String) {
        if let Some(refusal) = snapshot.refusals.first() {
            return (false, refusal.reason(), refusal.to_string());
        }
        if snapshot.membership != Membership::Member {
            return (false, "Removing", "the mesh is being removed".to_owned());
        }
        if let Some(error) = snapshot.errors.first() {
            return (false, "NotAsPlanned", error.clone());
        }
        if !snapshot.ready {
            return (false, "NotReady", "the plan is not in force yet".to_owned());
        }
        let names = self.down.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
        match (self.up, self.all) {
            (_, 0) => (true, "NoPeers", "there are no other nodes yet".to_owned()),
            (0, _) => {
                let text = format!("no tunnel to {names}; is the UDP port open?");
                (false, "NoTunnels", text)
            }
            (up, all) if up < all => (true, "SomeDown", format!("no tunnel to {names}")),
            (_, _) => (true, "AllUp", String::new()),
        }
    }
}

/// Told only while the mesh is being removed.
fn removed(snapshot: &Snapshot, now: Timestamp) -> Option<Condition> {
    let (holds, reason) = match snapshot.membership {
        Membership::Member => return None,
        Membership::Leaving => (false, "StillThere"),
        Membership::Left => (true, "TakenDown"),
    };
    Some(Condition::new(REMOVED, holds, (reason, snapshot.errors.join("; ")), now))
}

/// What this node can say about the rotation that is under way.
fn confirmed(snapshot: &Snapshot, live: &Live) -> Option<Confirmation> {
    let rotation = live.rotation.as_ref().filter(|_| live.keys.rotates)?;
    confirm(rotation, &snapshot.installed, live.settled)
}

fn key_current(node: &MeshNode, live: &Live) -> Condition {
    let wanted = KeyEpoch(node.spec.key_epoch);
    let has = |wanted: KeyEpoch| live.keys.keys.iter().any(|(epoch, _)| *epoch == wanted);
    let missing = node.spec.epochs.iter().copied().find(|epoch| !has(KeyEpoch(*epoch)));
    let (holds, reason, message) = match (has(wanted), missing) {
        (_, Some(epoch)) if !live.keys.rotates => (
            has(wanted),
            "EngineCannotRotate",
            format!(
                "no key of epoch {epoch}: the engine boringtun has one key for life; use native"
            ),
        ),
        (_, Some(epoch)) if live.keys.lost.contains(&KeyEpoch(epoch)) => (
            false,
            "KeyLost",
            format!(
                "this node had a key of epoch {epoch} and lost it; \
                 `hawser keys rotate --node {} --lost` gives it a new one",
                node.metadata.name.as_deref().unwrap_or_default()
            ),
        ),
        (true, _) => (true, "KeyCurrent", String::new()),
        (false, _) => (false, "NoSuchKey", format!("this node has no key of epoch {wanted}")),
    };
    Condition::new("KeyCurrent", holds, (reason, message), live.now)
}

#[cfg(test)]
mod tests;
