//! From resources to the values that decisions are made on. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::{Ipam, Mesh, MeshNode, MeshPeer, SubnetClaim, claim_name, conditions};
use embedded::RESTORED_AT;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node as KubeNode;
use kube::ResourceExt;

use super::mirror;
use super::report::ADMITTED;
use crate::admit::Publication;
use crate::allocate::{Claim, Former, Node, Owner, Pools, Rests, State, View};

/// The resources at one moment.
#[derive(Clone, Default)]
pub struct Seen {
    pub mesh: Option<Arc<Mesh>>,
    pub nodes: Vec<Arc<MeshNode>>,
    pub claims: Vec<Arc<SubnetClaim>>,
    pub peers: Vec<Arc<MeshPeer>>,
    /// The cluster's own Nodes; empty where there is no cluster.
    pub machines: Vec<Arc<KubeNode>>,
}

impl Seen {
    /// The verdict over the Mesh's pools; no Mesh, no pools.
    pub fn pools(&self) -> Pools {
        let Some(mesh) = &self.mesh else {
            return Pools::default();
        };
        let pools = mesh.spec.pools.iter();
        Pools::judge(
            pools.map(|pool| (pool.cidr.as_str(), pool.node_prefix_length)),
            mesh.spec.service_cidrs.iter().map(String::as_str),
        )
    }

    /// Whether the Mesh came back from a backup that may be older than some claims.
    pub fn restored(&self) -> bool {
        let Some(mesh) = &self.mesh else {
            return false;
        };
        mesh.annotations().contains_key(RESTORED_AT) || unsettled(mesh).is_some()
    }

    pub fn view(&self, pools: &Pools, rests: &Rests, now: Duration) -> View {
        let nodes = self.nodes.iter().map(|n| Node { assigned: self.assigned(n), ..node(n) });
        View {
            pools: pools.usable.clone(),
            names: self.names(),
            nodes: nodes.collect(),
            claims: (self.claims.iter())
                .filter_map(|claim| read_claim(claim, rests, now))
                .collect(),
            paused: self.restored(),
        }
    }

    /// By prefix; of two pools with one prefix the first is the one that is used.
    fn names(&self) -> BTreeMap<IpNet, Arc<str>> {
        let pools = self.mesh.iter().flat_map(|mesh| &mesh.spec.pools).rev();
        let by_prefix = pools.filter_map(|pool| Some((pool.cidr.parse().ok()?, &pool.name)));
        let all: BTreeMap<IpNet, _> = by_prefix.collect();
        all.into_iter().filter_map(|(net, name)| Some((net, name.as_deref()?.into()))).collect()
    }

    /// The podCIDRs of a node's Node, where they are to be its subnets.
    fn assigned(&self, node: &MeshNode) -> Option<Vec<IpNet>> {
        let asked = self.mesh.as_ref().is_some_and(|mesh| mesh.spec.ipam == Ipam::Kubernetes);
        let owner = mirror::owner(node).filter(|_| asked)?;
        let machine = self.machines.iter().find(|it| it.uid().as_ref() == Some(&owner.uid));
        let texts = machine.and_then(|it| it.spec.as_ref()?.pod_cidrs.clone());
        Some(prefixes(&texts.unwrap_or_default()))
    }

    /// Released claims: (subnet, generation).
    pub fn released(&self) -> impl Iterator<Item = (IpNet, i64)> {
        (self.claims.iter())
            .filter(|claim| claim.spec.released_at.is_some() && claim.spec.node_uid.is_none())
            .filter_map(|claim| Some((subnet(claim)?, claim.spec.generation)))
    }

    /// The newest key epoch that is known of each name that has, or had, a subnet.
    pub fn epochs(&self) -> BTreeMap<String, u32> {
        let owners = self.claims.iter().filter_map(|claim| claim.status.as_ref()?.owner.as_ref());
        let mut epochs = BTreeMap::new();
        for owner in owners {
            let newest = owner.keys.iter().map(|key| key.epoch).max();
            let known: &mut u32 = epochs.entry(owner.node.clone()).or_insert(1);
            *known = newest.unwrap_or(1).max(*known);
        }
        epochs
    }

    pub fn publications(&self) -> Vec<Publication> {
        self.nodes.iter().map(|node| publication(node)).collect()
    }

    /// All that the mesh carries itself: pools and service ranges, as far as they can be read.
    pub fn mesh_ranges(&self) -> Vec<IpNet> {
        let Some(mesh) = &self.mesh else {
            return Vec::new();
        };
        let pools = mesh.spec.pools.iter().map(|pool| &pool.cidr);
        (pools.chain(&mesh.spec.service_cidrs))
            .filter_map(|text| text.parse::<IpNet>().ok())
            .map(|range| range.trunc())
            .filter(|range| range.prefix_len() > 0)
            .collect()
    }
}

/// On the Mesh, with the time of `status.restored`: every machine is known or gone.
pub(super) const SETTLED: &str = "hawser.dev/restore-settled";

/// When the API was found to be restored, unless somebody has settled that.
pub(super) fn unsettled(mesh: &Mesh) -> Option<&String> {
    let restored = mesh.status.as_ref()?.restored.as_ref()?;
    (mesh.annotations().get(SETTLED) != Some(restored)).then_some(restored)
}

/// The subnet of a claim, if its name stands for it.
pub(super) fn subnet(claim: &SubnetClaim) -> Option<IpNet> {
    let subnet: IpNet = claim.spec.subnet.parse().ok()?;
    let matches = subnet == subnet.trunc() && claim.name_any() == claim_name(&subnet);
    matches.then_some(subnet)
}

/// A claim whose name and subnet disagree guards both of them and belongs to nobody.
fn read_claim(claim: &SubnetClaim, rests: &Rests, now: Duration) -> Option<Claim> {
    let spec = &claim.spec;
    let generation = spec.generation;
    let Some(subnet) = subnet(claim) else {
        return Some(Claim {
            subnet: api::subnet_of_claim(&claim.name_any())
                .ok()
                .or_else(|| spec.subnet.parse().ok())?,
            generation,
            state: State::Reserved,
            former: None,
        });
    };
    let state = match (&spec.node, &spec.node_uid) {
        (Some(node), Some(uid)) => {
            State::Bound(Owner { node: node.as_str().into(), uid: uid.as_str().into() })
        }
        (None, None) if spec.released_at.is_none() => State::Reserved,
        (None, None) if rests.is_over(subnet, generation, now) => State::Rested,
        (None, None) => State::Resting,
        (Some(_), None) | (None, Some(_)) => State::Reserved,
    };
    Some(Claim { subnet, generation, state, former: former(claim) })
}

/// What was written of the owner of this very generation.
fn former(claim: &SubnetClaim) -> Option<Former> {
    let owner = claim.status.as_ref()?.owner.as_ref()?;
    if owner.generation != claim.spec.generation {
        return None;
    }
    let keys = owner.keys.iter().map(|key| key.public_key.as_str().into()).collect();
    Some(Former { node: owner.node.as_str().into(), keys })
}

fn node(node: &MeshNode) -> Node {
    let subnets = prefixes(&node.spec.subnets);
    let written: Vec<String> = subnets.iter().map(IpNet::to_string).collect();
    let status = node.status.clone().unwrap_or_default();
    Node {
        name: node.name_any().into(),
        uid: node.uid().unwrap_or_default().into(),
        tidy: written == node.spec.subnets,
        subnets,
        in_force: prefixes(&status.subnets),
        underlay: (status.endpoints.iter())
            .filter_map(|text| text.parse::<std::net::SocketAddr>().ok())
            .map(|endpoint| endpoint.ip().to_canonical())
            .collect(),
        revoked: node.spec.revoked,
        keys: status.public_keys.iter().map(|key| key.public_key.as_str().into()).collect(),
        pool: node.spec.pool.as_deref().map(Into::into),
        assigned: None,
    }
}

fn prefixes(texts: &[String]) -> Vec<IpNet> {
    (texts.iter()).filter_map(|text| api::parse_prefix(text).ok()).collect()
}

fn publication(node: &MeshNode) -> Publication {
    let status = node.status.clone().unwrap_or_default();
    Publication {
        name: node.name_any(),
        uid: node.uid().unwrap_or_default(),
        admitted: conditions::holds(&status.conditions, ADMITTED),
        keys: status.public_keys,
        endpoints: status.endpoints,
        epoch: node.spec.key_epoch,
        epochs: node.spec.epochs.clone(),
    }
}
