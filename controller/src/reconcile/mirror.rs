//! In a cluster: a MeshNode for each Kubernetes Node, gone with it.
//!
//! A MeshNode made here names its Node as owner, with the UID. Machines outside the cluster have
//! no such owner and are left alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::Context;
use api::{MeshNode, MeshNodeSpec, published};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node as KubeNode;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use super::write::{settle, version_of};

/// The label of a Node that says where it stands. What a kubelet writes, it may write of its own Node
/// only: at worst it has its own packets seen, which it can show anyway.
const SITE: &str = "hawser.dev/site";
/// As many as the schema takes.
const ADDRESSES: usize = 8;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    Create(Box<MeshNode>),
    /// What the Node says, into the MeshNode as it was seen.
    Describe(Arc<MeshNode>, Place),
    /// (name, UID of the MeshNode)
    Delete(String, String),
}

/// Where a machine is, as its Node says.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Place {
    /// Its own addresses.
    addresses: Vec<String>,
    /// Its label [`SITE`], if it can be a site's name.
    site: Option<String>,
}

/// Pure: which MeshNodes are missing and which have outlived their Node.
/// `mesh` holds the ranges that the mesh carries itself, `epochs` the newest key epoch that was known
/// of a name: a machine that comes back has that key, and a new one of its name uses no number again.
pub(super) fn plan(
    machines: &[Arc<KubeNode>],
    nodes: &[Arc<MeshNode>],
    mesh: &[IpNet],
    epochs: &BTreeMap<String, u32>,
) -> Vec<Step> {
    let places = places(machines, nodes, mesh);
    let machines: BTreeMap<String, String> = (machines.iter())
        .filter_map(|machine| Some((machine.name_any(), machine.uid()?)))
        .collect();
    let known: BTreeSet<String> = nodes.iter().map(|node| node.name_any()).collect();
    let gone = nodes.iter().filter_map(|node| {
        let owner = owner(node)?;
        let lives = machines.get(&owner.name) == Some(&owner.uid);
        (!lives).then(|| Some(Step::Delete(node.name_any(), node.uid()?)))?
    });
    let missing =
        (machines.iter()).filter(|(name, _)| !known.contains(*name)).map(|(name, uid)| {
            let epoch = epochs.get(name).copied();
            Step::Create(Box::new(mesh_node((name, uid), places[name].clone(), epoch)))
        });
    let moved = nodes.iter().filter_map(|node| {
        let owner = owner(node).filter(|owner| machines.get(&owner.name) == Some(&owner.uid))?;
        let place = &places[&owner.name];
        (place.addresses != node.spec.addresses || place.site != node.spec.site)
            .then(|| Step::Describe(Arc::clone(node), place.clone()))
    });
    gone.chain(missing).chain(moved).collect()
}

/// Each Node's place: its label's site, and its InternalIPs, as far as pods elsewhere may reach them through the tunnel. A kubelet
/// writes them itself: one that two Nodes name is neither's, unless one of them had it before.
fn places(
    machines: &[Arc<KubeNode>],
    nodes: &[Arc<MeshNode>],
    mesh: &[IpNet],
) -> BTreeMap<String, Place> {
    let sites: BTreeMap<String, Option<String>> =
        (machines.iter()).map(|machine| (machine.name_any(), site(machine))).collect();
    let named: Vec<(String, Vec<String>)> =
        (machines.iter()).map(|machine| (machine.name_any(), internal(machine, mesh))).collect();
    let mut owners: BTreeMap<String, usize> = BTreeMap::new();
    for address in named.iter().flat_map(|(_, all)| all) {
        *owners.entry(address.clone()).or_default() += 1;
    }
    let had = |name: &str, address: &String| {
        let mut same = nodes.iter().filter(|node| node.name_any() == name);
        same.any(|node| node.spec.addresses.contains(address))
    };
    let settled = named.into_iter().map(|(name, mut all)| {
        all.retain(|address| owners[address] == 1 || had(&name, address));
        let site = sites[&name].clone();
        (name, Place { addresses: all, site })
    });
    settled.collect()
}

/// As MeshNode.spec.site takes it; labels may hold more.
fn site(machine: &KubeNode) -> Option<String> {
    let label = machine.labels().get(SITE)?;
    let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    let good = !label.is_empty()
        && label.len() <= 63
        && label.bytes().all(plain)
        && !label.starts_with('-')
        && !label.ends_with('-');
    if !good {
        let node = machine.name_any();
        tracing::warn!(?node, ?label, "label {SITE} is no site: a-z, 0-9 and - inside");
    }
    good.then(|| label.clone())
}

fn internal(machine: &KubeNode, mesh: &[IpNet]) -> Vec<String> {
    let status = machine.status.iter().flat_map(|status| &status.addresses).flatten();
    let internal = status.filter(|address| address.type_ == "InternalIP");
    let usable = internal.filter_map(|a| published::machine_address(&a.address, mesh));
    usable.map(|address| address.to_string()).take(ADDRESSES).collect()
}

pub(super) fn owner(node: &MeshNode) -> Option<&OwnerReference> {
    (node.owner_references().iter()).find(|owner| owner.kind == "Node" && owner.api_version == "v1")
}

fn mesh_node((name, uid): (&str, &str), place: Place, epoch: Option<u32>) -> MeshNode {
    let first = MeshNodeSpec::default();
    let Place { addresses, site } = place;
    let spec =
        MeshNodeSpec { addresses, site, key_epoch: epoch.unwrap_or(first.key_epoch), ..first };
    let mut node = MeshNode::new(name, spec);
    node.metadata.owner_references = Some(vec![OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: name.to_owned(),
        uid: uid.to_owned(),
        ..OwnerReference::default()
    }]);
    node
}

/// Tries all steps; the last error is told.
pub(super) async fn apply(client: &Client, steps: &[Step]) -> anyhow::Result<()> {
    let api: Api<MeshNode> = Api::all(client.clone());
    let mut told = Ok(());
    for step in steps {
        let done = match step {
            Step::Create(node) => {
                let answer = api.create(&PostParams::default(), node).await.map(drop);
                settle(answer).with_context(|| format!("adding {}", node.name_any()))
            }
            Step::Describe(node, Place { addresses, site }) => {
                let name = node.name_any();
                let spec = json!({"addresses": addresses, "site": site});
                let patch = json!({"metadata": version_of(&**node), "spec": spec});
                let patch = Patch::Merge(&patch);
                let answer = api.patch(&name, &PatchParams::default(), &patch).await.map(drop);
                settle(answer)
                    .with_context(|| format!("writing the addresses and the site of {name}"))
            }
            Step::Delete(name, uid) => {
                let exactly = Preconditions { uid: Some(uid.clone()), resource_version: None };
                let exactly = DeleteParams::default().preconditions(exactly);
                let answer = api.delete(name, &exactly).await.map(drop);
                settle(answer).with_context(|| format!("removing {name}"))
            }
        };
        told = done.map(drop).and(told);
    }
    told
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{NodeAddress, NodeStatus};

    use super::*;

    fn machine(name: &str, uid: &str) -> Arc<KubeNode> {
        let mut machine = KubeNode::default();
        machine.metadata.name = Some(name.to_owned());
        machine.metadata.uid = Some(uid.to_owned());
        Arc::new(machine)
    }

    fn stored(name: &str, machine_uid: &str) -> Arc<MeshNode> {
        let mut node = mesh_node((name, machine_uid), Place::default(), None);
        node.metadata.uid = Some(format!("mesh-{name}"));
        Arc::new(node)
    }

    #[test]
    fn each_machine_has_a_mesh_node_and_an_edge_node_stays() {
        let mut edge = MeshNode::new("edge", MeshNodeSpec::default());
        edge.metadata.uid = Some("mesh-edge".to_owned());

        let steps = plan(
            &[machine("a", "1"), machine("b", "2")],
            &[stored("a", "1"), stored("gone", "3"), Arc::new(edge)],
            &[],
            &BTreeMap::new(),
        );

        let delete = Step::Delete("gone".to_owned(), "mesh-gone".to_owned());
        assert_eq!(
            steps,
            [delete, Step::Create(Box::new(mesh_node(("b", "2"), Place::default(), None)))]
        );
    }

    #[test]
    fn a_machine_made_again_goes_on_with_the_epoch_that_its_name_had() {
        let epochs = BTreeMap::from([("a".to_owned(), 5)]);

        let steps = plan(&[machine("a", "new"), machine("b", "2")], &[], &[], &epochs);

        let epoch = |step: &Step| match step {
            Step::Create(node) => node.spec.key_epoch,
            other => panic!("{other:?}"),
        };
        assert_eq!(steps.iter().map(epoch).collect::<Vec<_>>(), [5, 1]);
    }

    #[test]
    fn a_machine_made_again_gets_a_new_mesh_node() {
        let steps = plan(&[machine("a", "new")], &[stored("a", "old")], &[], &BTreeMap::new());

        assert_eq!(steps, [Step::Delete("a".to_owned(), "mesh-a".to_owned())]);
    }

    fn at(name: &str, addresses: &[&str]) -> Arc<KubeNode> {
        let internal = addresses.iter().map(|address| NodeAddress {
            address: (*address).to_owned(),
            type_: "InternalIP".to_owned(),
        });
        let status = NodeStatus { addresses: Some(internal.collect()), ..NodeStatus::default() };
        let mut machine = KubeNode::clone(&machine(name, name));
        machine.status = Some(status);
        Arc::new(machine)
    }

    #[test]
    fn a_machines_addresses_follow_its_node_and_nobody_takes_anothers() {
        let mesh = ["10.42.0.0/16".parse().unwrap()];
        let mut first = MeshNode::clone(&stored("a", "a"));
        first.spec.addresses = vec!["10.0.0.1".to_owned()];
        let nodes = [Arc::new(first), stored("b", "b"), stored("c", "c")];
        let thief = ["10.0.0.1", "10.0.0.9", "10.42.7.7", "127.0.0.1", "fe80::1", "fd00::2"];
        let machines = [at("a", &["10.0.0.1"]), at("b", &thief), at("c", &["10.0.0.9"])];

        let steps = plan(&machines, &nodes, &mesh, &BTreeMap::new());

        let place = Place { addresses: vec!["fd00::2".to_owned()], site: None };
        assert_eq!(steps, [Step::Describe(Arc::clone(&nodes[1]), place)]);
    }

    #[test]
    fn a_nodes_label_says_its_site_and_what_can_be_none_leaves_it_without() {
        let labelled = |name: &str, label: Option<&str>| {
            let mut machine = KubeNode::clone(&machine(name, name));
            let label = label.map(|label| (SITE.to_owned(), label.to_owned()));
            machine.metadata.labels = Some(label.into_iter().collect());
            Arc::new(machine)
        };
        let mut there = MeshNode::clone(&stored("b", "b"));
        there.spec.site = Some("aws".to_owned());
        let nodes = [Arc::new(there)];
        let site = |label| match &plan(&[labelled("b", label)], &nodes, &[], &BTreeMap::new())[..] {
            [] => Some("aws".to_owned()),
            [Step::Describe(_, place)] => place.site.clone(),
            other => panic!("{other:?}"),
        };

        assert_eq!(site(Some("aws")).as_deref(), Some("aws"));
        assert_eq!(site(Some("rack-7")).as_deref(), Some("rack-7"));
        assert_eq!(
            [site(None), site(Some("")), site(Some("Rack_7")), site(Some("-a"))],
            [const { None }; 4]
        );
        let made = plan(&[labelled("c", Some("aws"))], &[], &[], &BTreeMap::new());
        let Step::Create(node) = &made[0] else { panic!("{made:?}") };
        assert_eq!(node.spec.site.as_deref(), Some("aws"));
    }
}
