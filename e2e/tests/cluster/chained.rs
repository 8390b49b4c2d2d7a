//! Beside another network: the reference bridge plugin gives pods their addresses from the Nodes'
//! podCIDRs, and Hawser carries what crosses nodes.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use e2e::cluster::kubelets::{Kubelets, NODES, internal_ip, run};
use e2e::lab::until;
use e2e::oracle::promised;
use serde_json::{Value, json};

use crate::web::{From, LIMIT, Spy, Web, pod};

const OURS: &str = "00-hawser.conflist";
const THEIRS: &str = "10-bridge.conflist";
const SERVICE: &str = "10.96.0.111";
const HOST_NETWORK: u16 = 8083;
/// In which a change of theirs is followed.
const SOON: Duration = Duration::from_secs(2);

fn directory(cluster: &Kubelets, node: &str) -> PathBuf {
    cluster.path(node, "/etc/cni/net.d")
}

/// As that plugin's own installer would write it, with addresses of these ranges.
fn theirs(ranges: &[String], more: &[&str]) -> String {
    let ranges: Vec<Value> = ranges.iter().map(|range| json!([{"subnet": range}])).collect();
    let bridge = json!({
        "type": "bridge", "bridge": "cni0", "isGateway": true, "isDefaultGateway": true,
        "hairpinMode": true, "ipMasq": true, "ipam": {"type": "host-local", "ranges": ranges},
    });
    let mut plugins = vec![bridge];
    plugins.extend(more.iter().map(|kind| json!({"type": kind})));
    format!("{:#}\n", json!({"cniVersion": "0.4.0", "name": "podnet", "plugins": plugins}))
}

fn ours(cluster: &Kubelets, node: &str) -> Option<Value> {
    let text = std::fs::read_to_string(directory(cluster, node).join(OURS)).ok()?;
    serde_json::from_str(&text).ok()
}

fn pod_cidr(cluster: &Kubelets, node: &str) -> String {
    let cidr = || {
        let node = cluster.json(&format!("get node {node}")).ok()?;
        Some(node["spec"]["podCIDR"].as_str()?.to_owned())
    };
    until(LIMIT, cidr).expect("the cluster assigns podCIDRs").0
}

/// On a cluster without any network, and left as one.
pub(crate) fn all(cluster: &Kubelets) {
    cluster.kubectl("delete pods,services --all --force --grace-period=0").unwrap();
    for node in NODES {
        let text = theirs(&[pod_cidr(cluster, node)], &[]);
        std::fs::write(directory(cluster, node).join(THEIRS), text).unwrap();
    }
    let began = Instant::now();
    cluster.install_with(&["--set", "cni.mode=Chained"]).unwrap();
    cluster.wait_ready("meshnodes", NODES.len()).unwrap();
    let chained = || NODES.iter().all(|node| ours(cluster, node).is_some()).then_some(());
    until(LIMIT, chained).expect("ours on every node");
    println!("chained to the bridge plugin {:.1} s after", began.elapsed().as_secs_f64());

    let spy = Spy::on_the_mesh();
    let web = Web::start(cluster);
    pods_have_their_addresses_and_reach_all_with_them(&web);
    println!("every pod reached every pod {:.1} s after", began.elapsed().as_secs_f64());
    services_and_machines_are_reached(&web);
    a_guard_that_is_taken_away_lets_nothing_out(&web);
    a_change_of_theirs_is_followed(&web);
    let seen = spy.packets();
    promised(seen == 0, || format!("{seen} packets of pods crossed the underlay in clear"));

    an_uninstall_puts_theirs_back_in_force(&web);
    let other = &web.addresses[1];
    let ping = ["ping", "-c", "2", "-W", "1", other.as_str()];
    let _ = web.command(From::Pod("n1")).args(ping).output().unwrap();
    assert!(spy.packets() > 0, "without a mesh the same count sees what a pod sends");
    println!("chained, and away again, in {:.1} s", began.elapsed().as_secs_f64());
}

fn pods_have_their_addresses_and_reach_all_with_them(web: &Web<'_>) {
    for (node, address) in NODES.iter().zip(&web.addresses) {
        let cidr = pod_cidr(web.cluster, node);
        let prefix = cidr.split_once("0/").unwrap().0;
        assert!(address.starts_with(prefix), "{node}: {address} of {cidr}");
        let route = run(&mut web.cluster.on_node(node, &["ip", "route", "get", address])).unwrap();
        assert!(route.contains("dev cni0"), "{route}");
    }
    web.all_pods_reach_all();
}

/// A Service over all nodes, and a pod in a machine's own network.
fn services_and_machines_are_reached(web: &Web<'_>) {
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "beside"},
        "spec": {"clusterIP": SERVICE, "selector": {"app": "web"},
            "ports": [{"port": 80, "targetPort": 8080}]},
    });
    let host = json!({
        "metadata": {"labels": {"app": "host"}},
        "spec": {"hostNetwork": true,
            "containers": [{"env": [{"value": HOST_NETWORK.to_string()}]}]},
    });
    let objects = [service.to_string(), pod("machine", "n2", &host)].join("\n");
    web.cluster.apply(&objects).unwrap();
    let all = || {
        let ask = |_| web.answer(From::Pod("n1"), &format!("{SERVICE}:80")).name;
        let names: std::collections::BTreeSet<String> = (0..12).map(ask).collect();
        (names.len() == NODES.len()).then_some(())
    };
    until(LIMIT, all).expect("the Service leads to all three");
    let machine = format!("{}:{HOST_NETWORK}", internal_ip("n2"));
    for (at, node) in NODES.iter().enumerate() {
        let answer = web.answer(From::Pod(node), &machine);
        assert_eq!((answer.name.as_str(), &answer.client), ("n2", &web.addresses[at]), "{node}");
    }
}

fn a_guard_that_is_taken_away_lets_nothing_out(web: &Web<'_>) {
    for words in [
        &["nft", "delete", "table", "inet", "hawser"][..],
        &["ip", "route", "flush", "proto", "72"],
        &["ip", "link", "del", "hawser0"],
    ] {
        run(&mut web.cluster.on_node("n1", words)).unwrap();
        let ping = ["ping", "-c", "10", "-i", "0.02", "-W", "1", web.addresses[1].as_str()];
        let _ = web.command(From::Pod("n1")).args(ping).output().unwrap();
    }
    web.answer(From::Pod("n1"), &web.addresses[1]);
}

/// One more plugin, another name, and addresses of the other family.
fn a_change_of_theirs_is_followed(web: &Web<'_>) {
    let cluster = web.cluster;
    let mut addresses = Vec::new();
    for node in &NODES[..2] {
        let mesh = cluster.json(&format!("get meshnode {node}")).unwrap();
        let subnets = mesh["spec"]["subnets"].as_array().unwrap().iter();
        let v6 = subnets.filter_map(Value::as_str).find(|subnet| subnet.contains(':')).unwrap();
        let ranges = [pod_cidr(cluster, node), v6.to_owned()];
        let directory = directory(cluster, node);
        std::fs::write(directory.join("theirs.new"), theirs(&ranges, &["tuning"])).unwrap();
        std::fs::rename(directory.join("theirs.new"), directory.join("20-bridge.conflist"))
            .unwrap();
        std::fs::remove_file(directory.join(THEIRS)).unwrap();
        let followed = || (ours(cluster, node)?["plugins"][1]["type"] == "tuning").then_some(());
        let ((), took) = until(LIMIT, followed).expect("ours follows");
        println!("{node}: a change of theirs is followed after {took:?}");
        assert!(took < SOON, "{took:?}");
    }
    // The runtime reads its directory when that changes, and says nothing.
    std::thread::sleep(Duration::from_secs(1));
    for node in &NODES[..2] {
        let name = format!("both-{node}");
        let spec = json!({"metadata": {"labels": {"app": "both"}}});
        cluster.apply(&pod(&name, node, &spec)).unwrap();
        let process = until(LIMIT, || cluster.process_of(node, &name).ok()).expect("it starts").0;
        let inside = format!("--net=/proc/{process}/ns/net");
        let words = ["nsenter", &inside, "ip", "-6", "-o", "address", "show", "scope", "global"];
        let text = run(&mut cluster.on_node(node, &words)).unwrap();
        let mut words = text.split_whitespace();
        let address = words.find(|word| word.starts_with("fd42:")).expect(&text);
        addresses.push((inside, address.split('/').next().unwrap().to_owned()));
    }
    let [(inside, _), (_, far)] = &addresses[..] else { panic!("{addresses:?}") };
    let ping = ["nsenter", inside, "ping", "-c", "1", "-W", "1", far];
    until(LIMIT, || run(&mut cluster.on_node("n1", &ping)).ok()).expect("IPv6, across nodes");
}

fn an_uninstall_puts_theirs_back_in_force(web: &Web<'_>) {
    let cluster = web.cluster;
    let files = |node: &str| {
        let names = std::fs::read_dir(directory(cluster, node)).unwrap();
        let paths = names.map(|entry| entry.unwrap().path());
        let texts = paths.map(|path| (path.clone(), std::fs::read(path).unwrap()));
        texts.collect::<std::collections::BTreeMap<_, _>>()
    };
    let mut before = NODES.map(files);
    for (node, files) in NODES.iter().zip(&mut before) {
        assert!(files.remove(&directory(cluster, node).join(OURS)).is_some(), "{node}");
    }

    run(cluster.helm().args(["uninstall", "hawser", "--timeout", "90s"])).unwrap();

    for (node, before) in NODES.iter().zip(before) {
        assert_eq!(files(node), before, "{node}");
        for words in [
            &["ip", "link"][..],
            &["ip", "rule"],
            &["ip", "route"],
            &["ip", "-6", "route"],
            &["nft", "list", "tables"],
        ] {
            let text = run(&mut cluster.on_node(node, words)).unwrap();
            let traces = ["hawser", "fwmark 0x40/", "proto 72", "unreachable 10.244"];
            assert!(!traces.iter().any(|trace| text.contains(trace)), "{node}: {text}");
        }
        assert!(!cluster.path(node, "/opt/cni/bin/hawser-cni").exists());
    }
    cluster.apply(&pod("after", "n3", &json!({"metadata": {"labels": {"app": "after"}}}))).unwrap();
    let address = || {
        let pod = cluster.json("get pod after").ok()?;
        Some(pod["status"]["podIP"].as_str()?.to_owned())
    };
    let (address, _) = until(LIMIT, address).expect("a pod starts with theirs alone");
    assert_eq!(web.answer(From::Node("n3"), &address).name, "after");
}
