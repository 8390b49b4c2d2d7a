//! The life of a node: drained, deleted and made again, switched off and on at another address.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use e2e::cluster::kubelets::{Kubelets, NODES};
use e2e::lab::until;
use e2e::oracle::promised;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::figures;
use crate::life::{A_SECOND, Flow};
use crate::web::{From, Web};

const LIMIT: Duration = Duration::from_secs(90);
/// Of n3, from the day on that it was rebooted.
pub(crate) const ELSEWHERE: &str = "10.231.0.33";
/// Where the agents of this cluster keep their keys.
const STATE: &str = "/var/lib/cni/hawser";
pub(crate) fn all(web: &Web<'_>) {
    a_drained_node_gives_its_pods_away_and_nobody_elses_suffer(web);
    a_node_made_again_with_its_key_keeps_its_subnets_and_its_pods(web);
    let web = &a_node_rebooted_at_another_address_is_who_it_was(web);
    another_machine_under_the_name_of_a_node_gets_other_subnets(web);
}

/// Its kubelet starts another one.
fn stop_the_agent(node: &str) {
    for id in figures::agents(&format!("k8s-{node}")) {
        let process = Pid::from_raw(id.parse().unwrap()).unwrap();
        kill_process(process, Signal::KILL).unwrap();
    }
}

/// What the API says of a node of the mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Member {
    uid: String,
    subnets: Vec<String>,
    keys: Value,
    /// Of the claim of each subnet.
    generations: Vec<i64>,
}

impl Member {
    fn of(cluster: &Kubelets, name: &str) -> Option<Self> {
        let node = cluster.json(&format!("get meshnode {name}")).ok()?;
        let subnets = node["spec"]["subnets"].as_array()?.iter();
        let subnets: Vec<String> = subnets.filter_map(|s| Some(s.as_str()?.to_owned())).collect();
        let claims = cluster.json("get subnetclaims").ok()?;
        let claims = claims["items"].as_array()?.clone();
        let generation = |subnet: &String| {
            let claim = claims.iter().find(|claim| claim["spec"]["subnet"] == **subnet)?;
            claim["spec"]["generation"].as_i64().filter(|_| claim["spec"]["node"] == name)
        };
        let uid = node["metadata"]["uid"].as_str()?.to_owned();
        let generations = subnets.iter().filter_map(generation).collect();
        Some(Self { uid, subnets, keys: node["status"]["publicKeys"].clone(), generations })
    }

    /// With two subnets and a key.
    fn whole(cluster: &Kubelets, name: &str) -> Option<Self> {
        let whole = |member: &Self| member.generations.len() == 2 && !member.keys.is_null();
        Self::of(cluster, name).filter(whole)
    }
}

/// Fails if more than a second of a flow was lost.
fn at_most_a_second(what: &str, flows: impl IntoIterator<Item = Flow>) {
    for flow in flows {
        let (sent, lost) = flow.end();
        println!("{what}: {lost} of {sent} packets lost, 20 ms apart");
        promised(lost <= A_SECOND, || format!("{what}: {lost} of {sent} lost"));
    }
}

fn a_drained_node_gives_its_pods_away_and_nobody_elses_suffer(web: &Web<'_>) {
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "moved"},
        "spec": {
            "replicas": 6,
            "selector": {"matchLabels": {"app": "moved"}},
            "template": {
                "metadata": {"labels": {"app": "moved"}},
                "spec": {
                    "terminationGracePeriodSeconds": 0,
                    "containers": [{
                        "name": "c", "image": "localhost/busybox:1", "imagePullPolicy": "Never",
                        "command": ["/bin/sh", "-c", "exec httpd -f -p 8080"],
                    }],
                },
            },
        },
    });
    let cluster = web.cluster;
    cluster.apply(&deployment.to_string()).unwrap();
    let settled = "rollout status deployment moved --timeout=60s";
    cluster.kubectl(settled).unwrap();
    let flows = [Flow::start(web, "n1", 2), Flow::start(web, "n1", 1)];
    let began = Instant::now();

    cluster.kubectl("drain n2 --ignore-daemonsets --pod-selector=app=moved --timeout=60s").unwrap();
    cluster.kubectl(settled).unwrap();

    let pods = cluster.json("get pods -l app=moved").unwrap();
    let pods = pods["items"].as_array().unwrap();
    let lives = |pod: &&Value| pod["metadata"]["deletionTimestamp"].is_null();
    let homes = pods.iter().filter(lives).map(|pod| pod["spec"]["nodeName"].as_str().unwrap());
    assert_eq!(homes.collect::<BTreeSet<_>>(), BTreeSet::from(["n1", "n3"]));
    let took = began.elapsed().as_secs_f64();
    for (flow, what) in flows.into_iter().zip(["between others", "to a pod that stayed"]) {
        let (sent, lost) = flow.end();
        println!("n2 drained in {took:.1} s, {what}: {lost} of {sent} packets lost");
        promised(lost == 0, || format!("{lost} of {sent} lost {what}"));
    }
    cluster.kubectl("uncordon n2").unwrap();
    cluster.kubectl("delete deployment moved --wait=false").unwrap();
}

/// A Node's object without what the server adds.
fn manifest(cluster: &Kubelets, name: &str) -> Value {
    let mut node = cluster.json(&format!("get node {name}")).unwrap();
    let metadata = node["metadata"].as_object_mut().unwrap();
    for field in ["uid", "resourceVersion", "creationTimestamp", "managedFields", "selfLink"] {
        metadata.remove(field);
    }
    node
}

fn a_node_made_again_with_its_key_keeps_its_subnets_and_its_pods(web: &Web<'_>) {
    let cluster = web.cluster;
    let before = Member::whole(cluster, "n2").unwrap();
    let node = manifest(cluster, "n2");
    let flows = [Flow::start(web, "n1", 1), Flow::start(web, "n2", 2)];
    let began = Instant::now();

    cluster.kubectl("delete node n2").unwrap();
    cluster.apply(&node.to_string()).unwrap();
    let back =
        until(LIMIT, || Member::whole(cluster, "n2").filter(|member| member.uid != before.uid));
    let took = began.elapsed().as_secs_f64();
    std::thread::sleep(Duration::from_secs(3));

    at_most_a_second("n2 deleted and made again", flows);
    let (back, _) = back.expect("it has its subnets");
    println!("n2 made again has its subnets after {took:.1} s");
    let next: Vec<i64> = before.generations.iter().map(|generation| generation + 1).collect();
    assert_eq!(back, Member { uid: back.uid.clone(), generations: next, ..before });
    cluster.wait_ready("meshnodes", NODES.len()).unwrap();
    web.all_pods_reach_all();
}

/// Its pods are started anew, and are found anew by what this gives.
fn a_node_rebooted_at_another_address_is_who_it_was<'a>(web: &Web<'a>) -> Web<'a> {
    let cluster = web.cluster;
    let before = Member::whole(cluster, "n3").unwrap();
    let others = Flow::start(web, "n1", 1);
    let began = Instant::now();

    cluster.reboot("n3", ELSEWHERE).unwrap();
    let started = |name: &str| {
        let pod = cluster.json(&format!("get pod {name}")).ok()?;
        let status = &pod["status"]["containerStatuses"][0];
        (status["restartCount"].as_u64()? > 0 && status["ready"] == true).then_some(())
    };
    let back = until(LIMIT, || started("web-n3"));
    assert!(back.is_some(), "{}", cluster.kubectl("get pods -A -o wide").unwrap());
    println!("n3 rebooted, its pod serves after {:.1} s", began.elapsed().as_secs_f64());
    cluster.wait_ready("meshnodes", NODES.len()).unwrap();

    let (sent, lost) = others.end();
    promised(lost == 0, || format!("{lost} of {sent} lost between nodes that run"));
    assert_eq!(Member::whole(cluster, "n3"), Some(before), "identity and claims are kept");
    let told = cluster.json("get meshnode n3").unwrap()["status"]["endpoints"].to_string();
    assert!(told.contains(ELSEWHERE), "{told}");
    let web = Web::start(cluster);
    web.all_pods_reach_all();
    let kubelet = format!("https://{ELSEWHERE}:10250/healthz");
    let asked = until(LIMIT, || web.get(From::Pod("n1"), &kubelet, &["-k"]));
    assert!(asked.is_some(), "a pod does not reach n3's kubelet at its new address");
    web
}

/// A new disk in the place of the old one, and a Node made anew.
fn another_machine_under_the_name_of_a_node_gets_other_subnets(web: &Web<'_>) {
    let cluster = web.cluster;
    let before = Member::whole(cluster, "n3").unwrap();
    let mut node = manifest(cluster, "n3");
    for field in ["podCIDR", "podCIDRs"] {
        node["spec"].as_object_mut().unwrap().remove(field);
    }

    cluster.kubectl("delete pod web-n3 --force --grace-period=0").unwrap();
    cluster.kubectl("delete node n3").unwrap();
    for entry in std::fs::read_dir(cluster.path("n3", STATE)).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_string_lossy().starts_with("key-") {
            std::fs::remove_file(path).unwrap();
        }
    }
    stop_the_agent("n3");
    cluster.apply(&node.to_string()).unwrap();
    let (new, took) =
        until(LIMIT, || Member::whole(cluster, "n3").filter(|member| member.uid != before.uid))
            .expect("it gets subnets");

    println!("another machine called n3 has its subnets after {took:.1?}");
    assert_ne!(new.keys, before.keys);
    assert!(new.subnets.iter().all(|subnet| !before.subnets.contains(subnet)), "{new:?}");
    let claims = cluster.json("get subnetclaims").unwrap();
    let of_before = |claim: &&Value| before.subnets.iter().any(|s| claim["spec"]["subnet"] == **s);
    let old: Vec<_> = claims["items"].as_array().unwrap().iter().filter(of_before).collect();
    assert!(old.iter().all(|claim| claim["spec"]["node"].is_null()), "{old:#?}");
    cluster.wait_ready("meshnodes", NODES.len()).unwrap();
    Web::start(cluster).all_pods_reach_all();
}
