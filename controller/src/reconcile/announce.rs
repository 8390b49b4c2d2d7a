//! Which prefixes behind machines are routed: asks [`api::announced`], and writes what differs into
//! the nodes' specs, where no node can.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context;
use api::MeshNode;
use api::announced::{Announced, Announcer, announced, taken};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tracing::info;

use super::read::Seen;
use super::write::{Outcome, settle, version_of};

/// By the name of each node that asks for any.
pub(super) fn verdicts(seen: &Seen) -> BTreeMap<String, Announced> {
    let asks = |node: &Arc<MeshNode>| !node.spec.prefixes.is_empty();
    if !seen.nodes.iter().any(asks) {
        return BTreeMap::new();
    }
    let names: Vec<String> = seen.peers.iter().map(|peer| peer.name_any()).collect();
    let peers = names.iter().map(String::as_str).zip(seen.peers.iter().map(|peer| &peer.spec));
    let taken = taken(seen.mesh.as_ref().map(|mesh| &mesh.spec), peers);
    let nodes: Vec<Announcer> = seen.nodes.iter().map(|node| Announcer::new(node)).collect();
    announced(&taken, &nodes)
}

/// The nodes whose `spec.routed` is not what it should be, and what it should be.
pub(super) fn due(seen: &Seen) -> Vec<(Arc<MeshNode>, Vec<String>)> {
    let verdicts = verdicts(seen);
    let wanted = |node: &Arc<MeshNode>| {
        let verdict = verdicts.get(&node.name_any());
        let routed = verdict.map(|verdict| verdict.routed.as_slice()).unwrap_or_default();
        let routed: Vec<String> = routed.iter().map(ToString::to_string).collect();
        (routed != node.spec.routed).then(|| (Arc::clone(node), routed))
    };
    seen.nodes.iter().filter_map(wanted).collect()
}

/// Each under the version that was read; whoever loses is looked at again.
pub(super) async fn write(
    client: &Client,
    due: &[(Arc<MeshNode>, Vec<String>)],
) -> anyhow::Result<()> {
    let api: Api<MeshNode> = Api::all(client.clone());
    for (node, routed) in due {
        let name = node.name_any();
        let patch = json!({"metadata": version_of(node.as_ref()), "spec": {"routed": routed}});
        let answer = api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await;
        let outcome = settle(answer.map(drop));
        let outcome = outcome.with_context(|| format!("writing what {name} announces"))?;
        if outcome == Outcome::Done {
            info!(node = name, ?routed, "prefixes routed");
        }
    }
    Ok(())
}
