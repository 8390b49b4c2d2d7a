//! The CNI plugin as a runtime calls it, on one machine whose agent is played by the test.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::process::Output;
use std::time::{Duration, Instant};

use ::cni::{NodeFile, Reservations};
use e2e::lab::{Cni, CniOutput, Lab, Namespace, Node, bin_dir};
use e2e::oracle::{Baseline, POOLS};
use serde_json::{Value, json};

#[path = "cni_storm.rs"]
mod storm;

const MARKER: &[u8] = b"hawser-cni-marker-0123456789";
const SUBNETS: [&str; 2] = ["10.42.1.0/24", "fd42:0:0:1::/64"];
const VERSIONS: [&str; 4] = ["0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// A machine that is ready for pods.
struct Stage {
    node: Node,
    lab: Lab,
}

impl Stage {
    fn new(prefix: &str) -> Self {
        let stage = Self::without_agent(prefix);
        stage.guard("add");
        stage.node_file(&SUBNETS);
        stage
    }

    /// Nothing of Hawser is there yet but the state directory.
    fn without_agent(prefix: &str) -> Self {
        let lab = Lab::new(prefix).unwrap();
        let node = lab.node("n").unwrap();
        std::fs::create_dir_all(node.state()).unwrap();
        for key in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
            node.namespace().sysctl(key, "1").unwrap();
        }
        Self { node, lab }
    }

    fn guard(&self, verb: &str) {
        for pool in POOLS {
            self.ip(&["route", verb, "unreachable", pool, "metric", "4294967295"]);
        }
        self.table(if verb == "del" { "delete" } else { verb });
    }

    fn table(&self, verb: &str) {
        let chains =
            if verb == "add" { &["ingress", "egress", cni::SOURCE_NAT_CHAIN][..] } else { &[] };
        let with = |chain| {
            let name = format!("inet hawser {chain}");
            format!("add chain {name}\nadd rule {name} counter\n")
        };
        let chains: String = chains.iter().map(with).collect();
        self.nft(&format!("{verb} table inet hawser\n{chains}"));
    }

    fn nft(&self, rules: &str) {
        self.node.command("nft").args(["-f", "-"]).input(rules).stdout().unwrap();
    }

    fn node_file(&self, subnets: &[&str]) {
        let nets = |list: &[&str]| list.iter().map(|net| net.parse().unwrap()).collect();
        let file = NodeFile {
            version: NodeFile::VERSION,
            node: "n".into(),
            subnets: nets(subnets),
            mtu: 1380,
            pools: nets(&POOLS),
            devices: BTreeSet::new(),
        };
        file.write(&self.node.state()).unwrap();
    }

    /// The node's own addresses in the mesh, which the agent would set.
    fn own_addresses(&self) {
        for address in ["10.42.1.1/32", "fd42:0:0:1::1/128"] {
            self.ip(&["address", "add", address, "dev", "lo"]);
        }
    }

    fn ip(&self, args: &[&str]) {
        self.node.command("ip").args(args).stdout().unwrap();
    }

    fn cni(&self) -> Cni<'_> {
        Cni::new(&self.node)
    }

    fn pod(&self, name: &str) -> Namespace {
        self.lab.pod(&self.node, name).unwrap()
    }

    fn added(&self, container: &str, pod: &Namespace) -> CniOutput {
        let added = self.cni().add(container, pod).unwrap();
        assert!(added.ok, "{}", added.json);
        added
    }

    fn collect(&self, valid: &[&str]) {
        let valid: Vec<Value> =
            valid.iter().map(|id| json!({"containerID": id, "ifname": "eth0"})).collect();
        let extra = json!({"cniVersion": "1.1.0", "cni.dev/valid-attachments": valid});
        let answer = self.cni().call("GC", "none", &self.pod("gc"), extra).unwrap();
        assert!(answer.ok, "{}", answer.json);
    }

    fn records(&self) -> Vec<String> {
        let records = Reservations::list(&self.node.state()).unwrap();
        let mut ids: Vec<String> = records.into_iter().map(|record| record.container_id).collect();
        ids.sort();
        ids
    }

    /// Names of reserved addresses, whole or half.
    fn reserved(&self) -> BTreeSet<IpAddr> {
        let entries = std::fs::read_dir(self.node.state().join("pods")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter_map(|name| name.parse().ok()).collect()
    }
}

#[test]
fn pods_of_a_node_reach_each_other_and_the_node_in_both_families() {
    let stage = Stage::new("cnireach");
    stage.own_addresses();
    let (a, b) = (stage.pod("a"), stage.pod("b"));
    let first = stage.added("a", &a).addresses();
    let second = stage.added("b", &b).addresses();

    let own: [IpAddr; 2] = ["10.42.1.1".parse().unwrap(), "fd42:0:0:1::1".parse().unwrap()];
    assert_eq!((first.len(), second.len()), (2, 2));
    for &address in second.iter().chain(&own) {
        a.ping(address, MARKER).unwrap();
    }
    for &address in first.iter().chain(&second) {
        stage.node.namespace().ping(address, MARKER).unwrap();
    }
    let mtu = stage.node.command("nsenter").arg(format!("--net={}", a.path().display()));
    let link = mtu.args(["ip", "-o", "link", "show", "eth0"]).stdout().unwrap();
    assert!(link.contains("mtu 1380"), "{link}");
}

#[test]
fn every_version_adds_checks_and_deletes_and_leaves_nothing() {
    let stage = Stage::new("cnivers");
    let pod = stage.pod("a");
    let before = Baseline::of(&stage.node).unwrap();

    for version in VERSIONS {
        let cni = stage.cni();
        let extra = json!({"cniVersion": version});
        let added = cni.call("ADD", "a", &pod, extra.clone()).unwrap();
        assert!(added.ok, "{}", added.json);
        assert_eq!(added.json["cniVersion"], version);
        let says_family = ["0.3.1", "0.4.0"].contains(&version);
        assert_eq!(added.json["ips"][0].get("version").is_some(), says_family, "{}", added.json);

        let extra = json!({"cniVersion": version, "prevResult": added.json});
        let checked = cni.call("CHECK", "a", &pod, extra.clone()).unwrap();
        assert_eq!(checked.ok, version != "0.3.1", "{version}: {}", checked.json);

        for _ in 0..2 {
            let deleted = cni.call("DEL", "a", &pod, extra.clone()).unwrap();
            assert!(deleted.ok && deleted.json.is_null(), "{}", deleted.json);
        }
        assert!(stage.reserved().is_empty());
    }
    let after = Baseline::of(&stage.node).unwrap();
    assert_eq!(before.difference(&after), Vec::<String>::new());
}

#[test]
fn no_pod_is_added_before_the_guard_stands() {
    let stage = Stage::without_agent("cniguard");
    let pod = stage.pod("a");
    let cni = stage.cni();
    let status = || cni.call("STATUS", "a", &pod, json!({"cniVersion": "1.1.0"})).unwrap().code();
    let add = || cni.add("a", &pod).unwrap().code();

    assert_eq!((add(), status()), (Some(11), Some(50)), "without node.json");
    stage.node_file(&SUBNETS);
    assert_eq!((add(), status()), (Some(11), Some(51)), "without any guard");
    stage.guard("add");
    stage.ip(&["route", "del", "unreachable", POOLS[1], "metric", "4294967295"]);
    assert_eq!((add(), status()), (Some(11), Some(51)), "without IPv6's guard");
    stage.ip(&["route", "add", "unreachable", POOLS[1], "metric", "4294967295"]);
    stage.nft("flush chain inet hawser egress\n");
    assert_eq!((add(), status()), (Some(11), Some(51)), "with an empty chain");
    stage.table("delete");
    assert_eq!((add(), status()), (Some(11), Some(51)), "without a table");
    stage.table("add");
    assert_eq!((add(), status()), (None, None), "ready");
    stage.guard("del");
    assert_eq!(status(), Some(51), "the guard was flushed");
}

#[test]
fn a_node_of_one_family_gives_its_pods_one_address() {
    for (subnet, gateway) in SUBNETS.iter().zip(["169.254.1.1", "fe80::1"]) {
        let stage = Stage::new("cnione");
        stage.node_file(&[subnet]);
        let (a, b) = (stage.pod("a"), stage.pod("b"));
        let added = stage.added("a", &a);
        let second = stage.added("b", &b).addresses();

        assert_eq!(added.addresses().len(), 1);
        assert_eq!(added.json["routes"][0]["gw"], gateway);
        a.ping(second[0], MARKER).unwrap();
    }
}

#[test]
fn a_second_add_is_refused_and_one_after_a_killed_add_is_not() {
    let stage = Stage::new("cnitwice");
    let pod = stage.pod("a");
    let first = stage.added("a", &pod);

    let again = stage.cni().add("a", &pod).unwrap();
    assert_eq!(again.code(), Some(100), "{}", again.json);
    let other = stage.cni().add("b", &pod).unwrap();
    assert_eq!(other.code(), Some(100), "eth0 exists in that namespace: {}", other.json);
    assert_eq!(stage.records(), ["a"], "the refused ones hold nothing");

    let device = first.json["interfaces"][0]["name"].as_str().unwrap();
    stage.ip(&["link", "del", device]);
    stage.added("a", &pod);
    assert_eq!(stage.records(), ["a"]);
    assert_eq!(stage.reserved().len(), 2);
}

#[test]
fn check_finds_what_has_gone() {
    let stage = Stage::new("cnicheck");
    let inside: &[&[&str]] = &[
        &["address", "flush", "dev", "eth0", "scope", "global"],
        &["route", "del", "default"],
        &["-6", "route", "del", "default"],
        &["link", "set", "eth0", "down"],
    ];
    for damage in inside {
        let (found, pod) = check_after(&stage, |pod, _| {
            let command = stage.node.command("nsenter");
            let command = command.arg(format!("--net={}", pod.path().display())).arg("ip");
            command.args(*damage).stdout().unwrap();
        });
        assert_eq!(found.code(), Some(104), "{damage:?}: {}", found.json);
        assert!(stage.cni().del("a", &pod).unwrap().ok);
    }
    for damage in [["route", "flush", "dev"], ["link", "del", "dev"]] {
        let (found, pod) = check_after(&stage, |_, device| {
            stage.ip(&[damage[0], damage[1], damage[2], device]);
        });
        assert_eq!(found.code(), Some(104), "{damage:?}: {}", found.json);
        assert!(stage.cni().del("a", &pod).unwrap().ok);
    }
    let (found, pod) = check_after(&stage, |_, _| ());
    assert!(found.ok, "untouched: {}", found.json);
    let unknown = stage.cni().call("CHECK", "b", &pod, json!({"prevResult": {}})).unwrap();
    assert_eq!(unknown.code(), Some(3), "{}", unknown.json);
}

fn check_after(stage: &Stage, damage: impl Fn(&Namespace, &str)) -> (CniOutput, Namespace) {
    let pod = stage.pod("a");
    let added = stage.added("a", &pod);
    damage(&pod, added.json["interfaces"][0]["name"].as_str().unwrap());
    let found = stage.cni().call("CHECK", "a", &pod, json!({"prevResult": added.json})).unwrap();
    (found, pod)
}

#[test]
fn garbage_collection_removes_what_is_not_named_and_nothing_else() {
    let stage = Stage::new("cnigc");
    let pods: Vec<Namespace> = ["a", "b", "c", "d"].map(|name| stage.pod(name)).into();
    let before = Baseline::of(&stage.node).unwrap();
    for (name, pod) in ["a", "b", "c"].into_iter().zip(&pods) {
        stage.added(name, pod);
    }
    let other = json!({"name": "another"});
    assert!(stage.cni().call("ADD", "d", &pods[3], other.clone()).unwrap().ok);
    // What a plugin killed between two links leaves behind.
    let half = stage.node.state().join("pods/10.42.1.77");
    std::fs::write(&half, "{}").unwrap();

    let unnamed = stage.cni().call("GC", "x", &pods[0], json!({"cniVersion": "1.1.0"})).unwrap();
    assert_eq!(unnamed.code(), Some(7), "without a list: {}", unnamed.json);
    stage.collect(&["b"]);

    assert_eq!(stage.records(), ["b", "d"], "the other network's stays");
    assert!(!half.exists());
    stage.collect(&[]);
    assert!(stage.cni().call("DEL", "d", &pods[3], other).unwrap().ok);
    assert!(stage.reserved().is_empty());
    let after = Baseline::of(&stage.node).unwrap();
    assert_eq!(before.difference(&after), Vec::<String>::new());
}

#[test]
fn a_full_subnet_is_told_and_heals_with_the_next_delete() {
    let stage = Stage::new("cnifull");
    stage.node_file(&["10.42.1.0/29", "fd42:0:0:1::/64"]);
    let pods: Vec<Namespace> = (0..6).map(|number| stage.pod(&format!("p{number}"))).collect();
    for (number, pod) in pods.iter().take(5).enumerate() {
        stage.added(&format!("p{number}"), pod);
    }
    let status = json!({"cniVersion": "1.1.0"});

    let refused = stage.cni().add("p5", &pods[5]).unwrap();
    assert_eq!(refused.code(), Some(101), "{}", refused.json);
    assert!(refused.json["details"].as_str().unwrap().contains("10.42.1.0/29"));
    assert_eq!(stage.reserved().len(), 10, "not half a reservation");
    assert_eq!(stage.cni().call("STATUS", "x", &pods[5], status).unwrap().code(), Some(50));

    assert!(stage.cni().del("p2", &pods[2]).unwrap().ok);
    stage.added("p5", &pods[5]);
}

#[test]
fn an_address_in_use_is_never_given_out_even_if_its_record_is_lost() {
    let stage = Stage::new("cnilost");
    let (a, b) = (stage.pod("a"), stage.pod("b"));
    let first = stage.added("a", &a).addresses();
    std::fs::remove_dir_all(stage.node.state().join("pods")).unwrap();

    let second = stage.added("b", &b).addresses();

    assert!(second.iter().all(|address| !first.contains(address)), "{first:?} {second:?}");
    for &address in &first {
        b.ping(address, MARKER).unwrap();
    }
    assert!(stage.cni().del("a", &a).unwrap().ok, "its device is found by name");
}

/// Calls the plugin in a bare environment with little memory.
fn bare(stage: &Stage, env: &[(&str, &str)], input: &[u8]) -> (Output, Duration) {
    let program = bin_dir().join("hawser-cni");
    let mut command = stage.node.command("prlimit").arg("--as=33554432").arg(program);
    for (key, value) in env {
        command = command.env(key, value);
    }
    let command = command.input(input);
    let start = Instant::now();
    let output = command.output().unwrap();
    (output, start.elapsed())
}

#[test]
fn bad_input_gets_the_specifications_code_at_once_and_in_little_memory() {
    let stage = Stage::new("cnibad");
    let pod = stage.pod("a");
    let netns = pod.path().display().to_string();
    let state = stage.node.state();
    let good = json!({"cniVersion": "1.1.0", "name": "hawser", "state": state}).to_string();
    let chained = json!({"cniVersion": "1.1.0", "name": "hawser", "state": state,
        "prevResult": {"ips": []}});
    let huge = "x".repeat(4 << 20);
    let deep = "[".repeat(900_000);
    let table: &[(&str, &str, &str, u64)] = &[
        ("CNI_COMMAND", "EAT", &good, 4),
        ("CNI_CONTAINERID", "../../x", &good, 4),
        ("CNI_CONTAINERID", "", &good, 4),
        ("CNI_NETNS", "/etc/shadow", &good, 4),
        ("CNI_NETNS", "/dev/zero", &good, 4),
        ("CNI_NETNS", "/proc/self/ns/net", &good, 4),
        ("CNI_NETNS", "/proc/self/ns/mnt", &good, 4),
        ("CNI_NETNS", "/nowhere", &good, 3),
        ("CNI_NETNS", "relative", &good, 4),
        ("CNI_IFNAME", "sixteen-letters.", &good, 4),
        ("CNI_IFNAME", "a/b", &good, 4),
        ("X", "", &huge, 7),
        ("X", "", &deep, 6),
        ("X", "", "{", 6),
        ("X", "", r#"{"cniVersion":"9.0.0","name":"n"}"#, 1),
        ("X", "", r#"{"name":"n"}"#, 1),
        ("X", "", r#"{"cniVersion":"1.0.0"}"#, 7),
        ("X", "", &chained.to_string(), 7),
    ];
    for (name, value, input, code) in table {
        let mut env = vec![
            ("CNI_COMMAND", "ADD"),
            ("CNI_CONTAINERID", "a"),
            ("CNI_IFNAME", "eth0"),
            ("CNI_NETNS", netns.as_str()),
        ];
        env.push((name, value));

        let calls: Vec<_> = (0..3).map(|_| bare(&stage, &env, input.as_bytes())).collect();

        let shown = &input[..input.len().min(40)];
        let answer: Value = serde_json::from_slice(&calls[0].0.stdout)
            .unwrap_or_else(|_| panic!("{name}={value} {shown}: {:?}", calls[0].0));
        assert_eq!(answer["code"], *code, "{name}={value} {shown}: {answer}");
        assert!(!calls[0].0.status.success());
        let fastest = calls.iter().map(|(_, took)| *took).min().unwrap();
        assert!(fastest < Duration::from_millis(100), "{name}={value} {shown}: {fastest:?}");
    }
    assert!(stage.records().is_empty());
    let (first, _) = bare(&stage, &[("CNI_COMMAND", "VERSION")], br#"{"cniVersion":"1.0.0"}"#);
    let answer: Value = serde_json::from_slice(&first.stdout).unwrap();
    assert_eq!(answer, json!({"cniVersion": "1.0.0", "supportedVersions": VERSIONS}));
}

#[test]
fn damaged_state_is_told_and_nothing_is_given_twice() {
    let stage = Stage::new("cnidmg");
    let (a, b) = (stage.pod("a"), stage.pod("b"));
    let first = stage.added("a", &a);
    let device = first.json["interfaces"][0]["name"].as_str().unwrap();
    let record = stage.node.state().join("pods").join(device);
    std::fs::write(&record, "{\"version\":1,\"netw").unwrap();

    let second = stage.added("b", &b).addresses();
    assert!(second.iter().all(|address| !first.addresses().contains(address)));
    assert!(stage.cni().del("a", &a).unwrap().ok);
    assert_eq!(stage.reserved(), second.into_iter().collect());

    for text in ["{\"version\":1", "{\"version\":99}"] {
        std::fs::write(stage.node.state().join("node.json"), text).unwrap();
        let refused = stage.cni().add("a", &a).unwrap();
        assert_eq!(refused.code(), Some(102), "{}", refused.json);
    }
}
