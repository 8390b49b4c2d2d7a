//! The chart's hook: nothing of the mesh stays on a node, and nobody else's things go.

use std::collections::BTreeSet;
use std::time::Instant;

use e2e::cluster::NAMESPACE;
use e2e::cluster::kubelets::{Kubelets, NODES, internal_ip, run};
use e2e::lab::until;

use crate::nodes::ELSEWHERE;
use crate::web::LIMIT;

const THEIRS: &str = "99-theirs.conf";

/// What a network plugin may leave on a node.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Traces {
    links: BTreeSet<String>,
    routes: BTreeSet<String>,
    rules: BTreeSet<String>,
    tables: BTreeSet<String>,
    configurations: BTreeSet<String>,
    plugins: BTreeSet<String>,
}

impl Traces {
    pub(crate) fn of(cluster: &Kubelets, node: &str) -> Self {
        let theirs = cluster.path(node, "/etc/cni/net.d").join(THEIRS);
        std::fs::write(theirs, "not ours, and not valid either").unwrap();
        let lines = |words: &[&str]| -> BTreeSet<String> {
            let text = run(&mut cluster.on_node(node, words)).unwrap();
            let as_before = |line: &str| line.trim().replace(ELSEWHERE, &internal_ip(node));
            text.lines().map(as_before).collect()
        };
        let names = |path: &str| -> BTreeSet<String> {
            let entries = std::fs::read_dir(cluster.path(node, path)).unwrap();
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
        };
        let links = lines(&["ip", "-o", "link"]);
        // Without its far end, whose number is another one after a reboot.
        let name = |line: &String| {
            let name = line.split(": ").nth(1).unwrap_or_default();
            name.split('@').next().unwrap_or_default().to_owned()
        };
        // The kernel makes an anycast route where IPv6 is forwarded. That stays on: others may have
        // come to need it. Link-local addresses are of a cable, and that is another after a reboot.
        let lasting = |route: &String| {
            !["anycast", "local fe80::"].iter().any(|kind| route.starts_with(kind))
        };
        let mut routes = lines(&["ip", "route", "show", "table", "all"]);
        routes.extend(lines(&["ip", "-6", "route", "show", "table", "all"]));
        let mut rules = lines(&["ip", "rule"]);
        rules.extend(lines(&["ip", "-6", "rule"]));
        Self {
            links: links.iter().map(name).collect(),
            routes: routes.into_iter().filter(lasting).collect(),
            rules,
            tables: lines(&["nft", "list", "tables"])
                .into_iter()
                .filter(|table| table.contains("hawser"))
                .collect(),
            configurations: names("/etc/cni/net.d"),
            plugins: names("/opt/cni/bin"),
        }
    }
}

/// Processes of ours in any pod of this machine.
fn programs(cluster: &Kubelets) -> usize {
    let pods = cluster.json(&format!("get pods -n {NAMESPACE}")).unwrap();
    pods["items"].as_array().unwrap().len()
}

/// Who deletes the release.
pub(crate) enum By {
    /// `helm uninstall`, whose hook takes the nodes out of the mesh first.
    Helm,
    /// `hawser uninstall`, which does so itself.
    Hawser,
}

pub(crate) fn all(cluster: &Kubelets, by: &By, before: &[Traces; 3]) {
    for (node, before) in NODES.iter().zip(before) {
        let now = Traces::of(cluster, node);
        assert!(now.links.contains("hawser0"), "{now:?}");
        assert_ne!(now.tables, before.tables);
        assert_ne!(now.rules, before.rules);
    }
    let began = Instant::now();
    let said = match by {
        By::Helm => run(cluster.helm().args(["uninstall", "hawser", "--timeout", "90s"])),
        By::Hawser => run(cluster.hawser().args(["uninstall", "--yes", "--wait", "90s"])),
    };
    println!("removed after {:.1} s\n{}", began.elapsed().as_secs_f64(), said.unwrap());

    let gone = until(3 * LIMIT, || (programs(cluster) == 0).then_some(()));
    let left = || cluster.kubectl("get pods -A -o wide").unwrap();
    assert!(gone.is_some(), "our pods are still there\n{}", left());
    for (node, before) in NODES.iter().zip(before) {
        assert_eq!(Traces::of(cluster, node), *before, "{node}");
    }
}
