//! `hawser keys status`: who is on which epoch. Fingerprints only, never a key.

use api::{KeyRotation, MeshNode, MeshNodeStatus, Probes};
use serde::Serialize;

use crate::{
    output::{Item, Output, Table},
    text::{self, NONE, PENDING},
    view::nodes::{Key, keys_of, name_of},
};

const COLUMNS: &[&str] = &["NAME", "EPOCH", "FINGERPRINT", "OTHERS", "ROTATION", "LOST", "ALL"];
const NARROW: usize = 6;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct NodeKeys {
    name: String,
    /// The epoch that the node's peers send with.
    epoch: u32,
    /// Of the key in use; absent until the node has published it.
    fingerprint: Option<String>,
    published: Vec<Key>,
    /// Where the node stands in a rotation that is under way.
    rotation: Option<String>,
    /// What it lost on the way to other nodes in that rotation.
    probes: Option<Lost>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Lost {
    sent: u64,
    lost: u64,
}

impl Lost {
    fn of(probes: &Probes, running: &KeyRotation) -> Option<Self> {
        let of_it = running.metadata.uid.as_ref() == Some(&probes.rotation);
        of_it.then_some(Self { sent: probes.sent, lost: probes.lost })
    }
}

/// One row a node.
pub fn status(nodes: &[MeshNode], rotations: &[KeyRotation]) -> Output {
    let running = rotations.iter().find(|rotation| is_running(rotation));
    let mut table =
        Table::new(COLUMNS, NARROW, "no nodes; create one: hawser nodes add NAME --out FILE");
    let mut items = Vec::new();
    for keys in nodes.iter().map(|node| of(node, running)) {
        table.push(row(&keys));
        items.push(Item::new(format!("meshnode/{}", keys.name), &keys));
    }
    Output::list("NodeKeys", table, items)
}

fn of(node: &MeshNode, running: Option<&KeyRotation>) -> NodeKeys {
    let empty = MeshNodeStatus::default();
    let published = keys_of(node.status.as_ref().unwrap_or(&empty));
    let epoch = node.spec.key_epoch;
    let told = node.status.as_ref().and_then(|status| status.probes.as_ref());
    let current = published.iter().find(|key| key.epoch == epoch);
    NodeKeys {
        name: name_of(node).to_owned(),
        epoch,
        fingerprint: current.map(|key| key.fingerprint.clone()),
        rotation: running.map(|rotation| step(rotation, node)),
        probes: told.zip(running).and_then(|(probes, running)| Lost::of(probes, running)),
        published,
    }
}

fn row(keys: &NodeKeys) -> Vec<String> {
    let others = keys.published.iter().filter(|key| key.epoch != keys.epoch).map(|key| key.epoch);
    let all = keys.published.iter().map(|key| format!("{}={}", key.epoch, key.fingerprint));
    vec![
        keys.name.clone(),
        keys.epoch.to_string(),
        keys.fingerprint.clone().unwrap_or_else(|| PENDING.to_owned()),
        text::list(others),
        keys.rotation.clone().unwrap_or_else(|| NONE.to_owned()),
        text::lost(keys.probes.as_ref().map(|p| p.lost), keys.probes.as_ref().map(|p| p.sent)),
        text::list(all),
    ]
}

fn is_running(rotation: &KeyRotation) -> bool {
    let phase = rotation.status.as_ref().and_then(|status| status.phase);
    phase.is_none_or(|phase| !phase.is_over())
}

/// `Accepting`, or `Accepting,waiting` for a node that the rotation waits for.
fn step(rotation: &KeyRotation, node: &MeshNode) -> String {
    let Some(status) = &rotation.status else {
        return PENDING.to_owned();
    };
    let phase = status.phase.map_or_else(|| PENDING.to_owned(), |phase| format!("{phase:?}"));
    if status.waiting_for.iter().any(|name| name == name_of(node)) {
        format!("{phase},waiting")
    } else {
        phase
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{args::Format, fixture};

    fn rotation(phase: &str) -> KeyRotation {
        serde_json::from_value(json!({
            "apiVersion": "hawser.dev/v1alpha1", "kind": "KeyRotation",
            "metadata": {"name": "manual-1", "uid": "u"}, "spec": {},
            "status": {"phase": phase, "epoch": 2, "waitingFor": ["node-2"]},
        }))
        .unwrap()
    }

    #[test]
    fn a_node_without_a_key_is_pending() {
        let text = status(&fixture::nodes(), &[]).render(Format::Table);

        insta::assert_snapshot!(text, @r"
        NAME    EPOCH  FINGERPRINT          OTHERS  ROTATION  LOST
        node-1  1      72cd:6e84:22c4:07fb  <none>  <none>    <none>
        node-2  1      7587:7bb4:1d39:3b5f  <none>  <none>    <none>
        node-3  1      <pending>            <none>  <none>    <none>
        ");
    }

    #[test]
    fn a_running_rotation_names_who_is_waited_for() {
        let text = status(&fixture::nodes(), &[rotation("Accepting")]).render(Format::Table);

        assert!(text.contains("Accepting,waiting"));
        assert_eq!(text.matches("Accepting").count(), 3);
    }

    #[test]
    fn a_running_rotation_says_what_each_node_lost_in_it() {
        let mut nodes = fixture::nodes();
        for (node, rotation) in nodes.iter_mut().zip(["u", "an older one"]) {
            let probes = Probes { rotation: rotation.into(), sent: 120, lost: 2 };
            node.status.get_or_insert_default().probes = Some(probes);
        }

        let output = status(&nodes, &[rotation("Accepting")]);

        assert_eq!(output.render(Format::Table).matches("2/120").count(), 1);
        assert!(output.render(Format::Jsonl).contains(r#""probes":{"lost":2,"sent":120}"#));
    }

    #[test]
    fn a_finished_rotation_is_history() {
        let text = status(&fixture::nodes(), &[rotation("Completed")]).render(Format::Table);

        assert!(!text.contains("Completed"));
    }

    #[test]
    fn no_format_prints_a_key() {
        let output = status(&fixture::nodes(), &[]);

        for format in [Format::Wide, Format::Json, Format::Yaml, Format::Jsonl] {
            assert!(!output.render(format).contains(&fixture::key(1)));
        }
    }
}
