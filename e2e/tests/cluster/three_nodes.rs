//! A whole cluster of three nodes, kubelets and containerd and all: the chart's objects are applied,
//! pods reach pods and machines, Services work, and the hook leaves nothing behind; then once more beside
//! another network.
//!
//! One cluster for all of it, because starting one takes longer than all the checks.

use std::time::Instant;

use e2e::cluster::kubelets::{Kubelets, NODES};
use e2e::cluster::{NAMESPACE, scripts};

use crate::chained;
use crate::figures;
use crate::keys;
use crate::life;
use crate::nodes;
use crate::release;
use crate::removal::{self, By, Traces};
use crate::services;
use crate::web::Web;

fn events_are_written(cluster: &Kubelets) {
    let ours = |part| {
        let logs = format!("logs -n {NAMESPACE} -l app.kubernetes.io/component={part} --tail=-1");
        cluster.kubectl(&logs).unwrap()
    };
    let logs = [ours("controller"), ours("agent")].concat();
    // 1.20 takes events about what has no namespace in kube-system alone; since 1.22 in default too.
    let old = |line: &&str| !line.contains("does not match event.namespace");
    let bad = logs.lines().filter(|line| line.contains("event not written"));
    let bad: Vec<&str> = bad.filter(old).collect();
    assert!(bad.is_empty(), "{bad:#?}");
    for line in logs.lines().filter(|line| line.contains("ERROR")) {
        println!("{line}");
    }
}

/// The lab's values say `ipam: Kubernetes`.
fn nodes_have_the_podcidrs_of_their_cluster(cluster: &Kubelets) {
    for name in NODES {
        let node = cluster.json(&format!("get node {name}")).unwrap();
        let ours = cluster.json(&format!("get meshnode {name}")).unwrap();
        let podcidr = node["spec"]["podCIDR"].as_str().unwrap();
        let subnets = ours["spec"]["subnets"].as_array().unwrap();
        assert!(subnets.iter().any(|subnet| subnet == podcidr), "{name}: {podcidr}, {subnets:?}");
        assert_eq!(subnets.len(), 2, "its cluster assigns IPv4 alone, we the other: {subnets:?}");
    }
}

#[test]
fn three_nodes_get_their_network_from_the_chart() {
    let Some(scripts) = scripts().unwrap() else { return };
    let cluster = Kubelets::start(scripts).unwrap();
    assert_eq!(cluster.ready("nodes").unwrap(), 0, "without a network plugin no node is ready");
    let before = NODES.map(|node| Traces::of(&cluster, node));

    release::may_be_looked_at_before_it_is_made(&cluster);
    let began = Instant::now();
    cluster.install().unwrap();
    cluster.wait_ready("nodes", NODES.len()).unwrap();
    println!("three nodes Ready {:.1} s after the chart", began.elapsed().as_secs_f64());
    cluster.wait_ready("meshnodes", NODES.len()).unwrap();
    println!("all tunnels up after {:.1} s", began.elapsed().as_secs_f64());
    nodes_have_the_podcidrs_of_their_cluster(&cluster);
    let web = Web::start(&cluster);
    web.all_pods_reach_all();
    println!("every pod reached every pod {:.1} s after", began.elapsed().as_secs_f64());

    services::all(&web);
    release::is_upgraded_and_keeps_its_values(&cluster);
    keys::all(&web);
    life::all(&web);
    nodes::all(&web);
    figures::idle(&cluster);
    events_are_written(&cluster);
    removal::all(&cluster, &By::Helm, &before);
    chained::all(&cluster);
}

/// Figures for people; what must hold of them is that all pods start, on either network.
#[test]
#[ignore = "long: HAWSER_LONG=1 ./e2e/test runs it"]
fn sixty_pods_start_at_once_on_our_network_and_on_the_one_that_follows() {
    let Some(scripts) = scripts().unwrap() else { return };
    let cluster = Kubelets::start(scripts).unwrap();
    let before = NODES.map(|node| Traces::of(&cluster, node));
    cluster.install().unwrap();
    cluster.wait_ready("meshnodes", NODES.len()).unwrap();
    figures::pod_starts(&cluster, "Hawser");

    removal::all(&cluster, &By::Hawser, &before);
    cluster.use_the_bridge().unwrap();
    figures::pod_starts(&cluster, "the bridge plugin");
}
