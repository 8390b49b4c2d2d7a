//! A rotation says how many probes between live nodes it lost.

use std::time::{Duration, Instant};

use e2e::lab::{Node, eventually};
use e2e::mesh::Mesh;
use serde_json::Value;

use super::LIMIT;

/// Everything from one machine to another is lost on its way in, until told otherwise.
fn cut(node: &Node, from: &Node, is_cut: bool) {
    let mut rules = "table inet lab-cut\ndelete table inet lab-cut\n".to_owned();
    if is_cut {
        let (v4, v6) = (from.address().v4, from.address().v6);
        let chain = "type filter hook input priority 0";
        let drop = format!("ip saddr {v4} drop\nip6 saddr {v6} drop");
        rules.extend(["table inet lab-cut {\nchain in {\n", chain, "\n", &drop, "\n}\n}\n"]);
    }
    node.command("nft").args(["-f", "-"]).input(rules).stdout().unwrap();
}

/// The rotation of that name as `hawser keys history -o json` tells it.
fn told(mesh: &Mesh, name: &str) -> Value {
    let history = mesh.controller.hawser().args(["keys", "history", "-o", "json"]).stdout();
    let history: Value = serde_json::from_str(&history.unwrap()).unwrap();
    let items = history["items"].as_array().unwrap();
    items.iter().find(|item| item["name"] == name).cloned().unwrap_or_default()
}

/// Sent and lost by each node in its last rotation.
pub(super) fn of_nodes(mesh: &Mesh) -> Vec<(u64, u64)> {
    let nodes = mesh.controller.nodes().unwrap();
    let probes = nodes.iter().map(|node| node.status.clone().unwrap_or_default().probes);
    probes.map(|probes| probes.map_or((0, 0), |probes| (probes.sent, probes.lost))).collect()
}

/// What a rotation without a fault says is in `zero_loss.rs`; here the figure must be another.
#[test]
fn a_rotation_counts_the_probes_that_two_nodes_lose_on_the_way_to_each_other() {
    let mesh = Mesh::start("probes", 3).unwrap();
    let keys = |words: &[&str]| {
        mesh.controller.hawser().arg("keys").args(words).stdout().unwrap();
    };
    let it = || told(&mesh, "cut");

    keys(&["rotate", "--yes", "--no-wait", "--name=cut"]);
    let has_begun = || !matches!(it()["phase"].as_str(), None | Some("Pending"));
    eventually("it begins", LIMIT, has_begun).unwrap();
    keys(&["pause"]);
    // Each has answered each: only then is what is lost counted.
    std::thread::sleep(Duration::from_millis(3500));
    let (first, second) = (&mesh.members[0].node, &mesh.members[1].node);
    let began = Instant::now();
    cut(first, second, true);
    std::thread::sleep(Duration::from_millis(3700));
    cut(first, second, false);
    let took = began.elapsed();
    keys(&["resume"]);
    eventually("it ends", LIMIT, || it()["phase"] == "Completed").unwrap();

    // The last ones are added once their fate is known.
    let sum = || {
        let all = of_nodes(&mesh);
        (all.iter().map(|node| node.0).sum::<u64>(), all.iter().map(|node| node.1).sum::<u64>())
    };
    let told = || (it()["probes"].as_u64().unwrap_or(0), it()["lost"].as_u64().unwrap_or(0));
    eventually("the sum", LIMIT, || told().1 >= 4 && told() == sum()).unwrap();
    let nodes = of_nodes(&mesh);
    println!("cut for {took:?}; (sent, lost) in all {:?}, by node {nodes:?}", told());
    assert!(nodes[0].1 >= 2 && nodes[1].1 >= 2 && nodes[2].1 == 0, "{nodes:?}");
    assert!(told().1 <= 10, "{nodes:?}");
}
