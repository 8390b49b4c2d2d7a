//! In a cluster: a MeshNode for each Kubernetes Node, gone with it.
//!
//! A MeshNode made here names its Node as owner, with the UID. Machines outside the cluster have
//! no such owner and are left alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::Context;
use api::{MeshNode, MeshNodeSpec};
use k8s_openapi::api::core::v1::Node as KubeNode;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, Client, ResourceExt};

use super::write::settle;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    Create(Box<MeshNode>),
    /// (name, UID of the MeshNode)
    Delete(String, String),
}

/// Pure: which MeshNodes are missing and which have outlived their Node.
pub(super) fn plan(machines: &[Arc<KubeNode>], nodes: &[Arc<MeshNode>]) -> Vec<Step> {
    let machines: BTreeMap<String, String> = (machines.iter())
        .filter_map(|machine| Some((machine.name_any(), machine.uid()?)))
        .collect();
    let known: BTreeSet<String> = nodes.iter().map(|node| node.name_any()).collect();
    let gone = nodes.iter().filter_map(|node| {
        let owner = owner(node)?;
        let lives = machines.get(&owner.name) == Some(&owner.uid);
        (!lives).then(|| Some(Step::Delete(node.name_any(), node.uid()?)))?
    });
    let missing = (machines.iter())
        .filter(|(name, _)| !known.contains(*name))
        .map(|(name, uid)| Step::Create(Box::new(mesh_node(name, uid))));
    gone.chain(missing).collect()
}

fn owner(node: &MeshNode) -> Option<&OwnerReference> {
    (node.owner_references().iter()).find(|owner| owner.kind == "Node" && owner.api_version == "v1")
}

fn mesh_node(name: &str, uid: &str) -> MeshNode {
    let mut node = MeshNode::new(name, MeshNodeSpec::default());
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
    use super::*;

    fn machine(name: &str, uid: &str) -> Arc<KubeNode> {
        let mut machine = KubeNode::default();
        machine.metadata.name = Some(name.to_owned());
        machine.metadata.uid = Some(uid.to_owned());
        Arc::new(machine)
    }

    fn stored(name: &str, machine_uid: &str) -> Arc<MeshNode> {
        let mut node = mesh_node(name, machine_uid);
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
        );

        let delete = Step::Delete("gone".to_owned(), "mesh-gone".to_owned());
        assert_eq!(steps, [delete, Step::Create(Box::new(mesh_node("b", "2")))]);
    }

    #[test]
    fn a_machine_made_again_gets_a_new_mesh_node() {
        let steps = plan(&[machine("a", "new")], &[stored("a", "old")]);

        assert_eq!(steps, [Step::Delete("a".to_owned(), "mesh-a".to_owned())]);
    }
}
