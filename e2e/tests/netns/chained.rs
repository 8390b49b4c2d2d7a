//! Pods of another plugin behind ours: a bridge made by hand stands for that plugin, so that these
//! tests need none. The reference plugins themselves are called in the cluster tests.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use e2e::lab::{Cni, CniOutput, Namespace, Node, eventually};
use e2e::mesh::Alone;
use e2e::oracle::{Baseline, Oracles, marker, promised};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(20);
const TUNNEL: &str = "hawser0";
const OURS: &str = "00-hawser.conflist";
const THEIRS: &str = "10-bridge.conflist";
const BRIDGE: &str = "cni0";

/// Two nodes with agents in chained mode, and a bridge on each.
struct Stage {
    alone: Alone,
}

/// A pod as the other plugin leaves it.
struct Pod {
    namespace: Namespace,
    addresses: [IpAddr; 2],
    result: Value,
}

fn theirs(bridge: &str) -> String {
    let bridge = json!({"type": "bridge", "bridge": bridge, "isGateway": true, "ipMasq": true});
    format!("{:#}\n", json!({"cniVersion": "1.0.0", "name": "theirs", "plugins": [bridge]}))
}

impl Stage {
    fn prepare(name: &str) -> Self {
        let alone = Alone::prepare(name, 2).unwrap();
        let stage = Self { alone };
        for at in [0, 1] {
            std::fs::create_dir_all(stage.configurations(at)).unwrap();
            std::fs::write(stage.configurations(at).join(THEIRS), theirs(BRIDGE)).unwrap();
            stage.bridge(at, BRIDGE);
        }
        stage
    }

    fn start(name: &str) -> Self {
        let mut stage = Self::prepare(name);
        for at in [0, 1] {
            stage.start_agent(at);
        }
        stage
    }

    fn start_agent(&mut self, at: usize) {
        let directory = self.configurations(at).display().to_string();
        let member = &mut self.alone.members[at];
        let flags = ["--cni-mode=chained", "--conf-dir", &directory];
        member.start_agent_with(flags).unwrap();
        member.wait_until_ready(LIMIT).unwrap();
    }

    fn node(&self, at: usize) -> &Node {
        &self.alone.members[at].node
    }

    fn configurations(&self, at: usize) -> PathBuf {
        self.node(at).dir().join("net.d")
    }

    fn ours(&self, at: usize) -> Option<Value> {
        let text = std::fs::read_to_string(self.configurations(at).join(OURS)).ok()?;
        serde_json::from_str(&text).ok()
    }

    fn run(&self, at: usize, program: &str, args: &[&str]) -> String {
        self.node(at).command(program).args(args).stdout().unwrap()
    }

    /// The gateway of its pods has the node's own address in the mesh.
    fn bridge(&self, at: usize, name: &str) {
        let [v4, v6] = addresses(at, 1);
        self.run(at, "ip", &["link", "add", name, "type", "bridge"]);
        self.run(at, "ip", &["address", "add", &format!("{v4}/24"), "dev", name]);
        self.run(at, "ip", &["address", "add", &format!("{v6}/64"), "dev", name, "nodad"]);
        self.run(at, "ip", &["link", "set", name, "up"]);
    }

    /// A pod on the bridge, which our plugin hasn't seen yet.
    fn pod(&self, at: usize, number: u8) -> Pod {
        let namespace = self.alone.lab.pod(self.node(at), &format!("p{number}")).unwrap();
        let veth = self.veth(at, number, &namespace);
        let [v4, v6] = addresses(at, number);
        self.run(at, "ip", &["link", "set", &veth, "master", BRIDGE, "up"]);
        let [gateway, gateway6] = addresses(at, 1).map(|address| address.to_string());
        for words in [
            &["address", "add", &format!("{v4}/24"), "dev", "eth0"][..],
            &["address", "add", &format!("{v6}/64"), "dev", "eth0", "nodad"],
            &["link", "set", "eth0", "up"],
            &["route", "add", "default", "via", &gateway],
            &["route", "add", "default", "via", &gateway6],
        ] {
            let inside = format!("--net={}", namespace.path().display());
            self.run(at, "nsenter", &[&[inside.as_str(), "ip"], words].concat());
        }
        let result = json!({
            "cniVersion": "1.0.0",
            "interfaces": [{"name": BRIDGE}, {"name": veth}, {"name": "eth0", "sandbox": "/x"}],
            "ips": [{"address": format!("{v4}/24"), "gateway": gateway, "interface": 2},
                {"address": format!("{v6}/64"), "gateway": gateway6, "interface": 2}],
            "routes": [{"dst": "0.0.0.0/0"}], "dns": {}, "theirs": "kept",
        });
        Pod { namespace, addresses: [v4, v6], result }
    }

    fn veth(&self, at: usize, number: u8, pod: &Namespace) -> String {
        let veth = format!("veth{number}");
        let peer = ["peer", "name", "eth0", "netns", pod.name()];
        self.run(at, "ip", &[&["link", "add", &veth, "type", "veth"][..], &peer].concat());
        veth
    }

    /// A pod with a device of its own, as `ptp` makes it: of IPv4 alone.
    fn routed_pod(&self, at: usize, number: u8) -> (Pod, String) {
        let namespace = self.alone.lab.pod(self.node(at), &format!("p{number}")).unwrap();
        let veth = self.veth(at, number, &namespace);
        let [v4, v6] = addresses(at, number);
        let [gateway, _] = addresses(at, 1).map(|address| address.to_string());
        self.run(at, "ip", &["address", "add", &format!("{gateway}/32"), "dev", &veth]);
        self.run(at, "ip", &["link", "set", &veth, "up"]);
        self.run(at, "ip", &["route", "add", &format!("{v4}/32"), "dev", &veth]);
        for words in [
            &["address", "add", &format!("{v4}/32"), "dev", "eth0"][..],
            &["link", "set", "eth0", "up"],
            &["route", "add", &gateway, "dev", "eth0"],
            &["route", "add", "default", "via", &gateway],
        ] {
            let inside = format!("--net={}", namespace.path().display());
            self.run(at, "nsenter", &[&[inside.as_str(), "ip"], words].concat());
        }
        let result = json!({
            "cniVersion": "1.0.0",
            "interfaces": [{"name": veth}, {"name": "eth0", "sandbox": "/x"}],
            "ips": [{"address": format!("{v4}/32"), "gateway": gateway, "interface": 1}],
        });
        (Pod { namespace, addresses: [v4, v6], result }, veth)
    }

    fn call(&self, verb: &str, at: usize, pod: &Pod, result: &Value) -> CniOutput {
        let extra =
            json!({"cniVersion": "1.0.0", "name": "theirs", "chained": true, "prevResult": result});
        Cni::new(self.node(at)).call(verb, pod.namespace.name(), &pod.namespace, extra).unwrap()
    }

    /// Through our plugin; how long that took.
    fn add(&self, at: usize, pod: &Pod) -> Duration {
        let began = Instant::now();
        let added = self.call("ADD", at, pod, &pod.result);
        assert!(added.ok, "{}", added.json);
        assert_eq!(added.json, pod.result, "what came before is the answer");
        began.elapsed()
    }

    fn table(&self, at: usize) -> String {
        self.run(at, "nft", &["list", "table", "inet", "hawser"])
    }
}

fn addresses(at: usize, number: u8) -> [IpAddr; 2] {
    let node = at + 1;
    [format!("10.42.{node}.{number}"), format!("fd42:0:0:{node}::{number}")]
        .map(|address| address.parse().unwrap())
}

fn reaches(from: &Namespace, to: &[IpAddr], marker: &[u8]) -> bool {
    let once = Duration::from_millis(300);
    to.iter().all(|to| from.ping_within(*to, marker, once).is_ok())
}

#[test]
fn pods_of_another_plugin_reach_pods_and_nodes_through_the_tunnel() {
    let marker = marker();
    let stage = Stage::start("chained");
    eventually("our configuration", LIMIT, || stage.ours(0).is_some()).unwrap();
    let list = stage.ours(0).unwrap();
    assert_eq!(list["plugins"][0]["ipMasq"], false);
    assert_eq!(list["plugins"][1]["type"], "hawser-cni");
    let (a, b) = (stage.pod(0, 5), stage.pod(1, 6));
    let far = addresses(1, 1);
    assert!(!reaches(&a.namespace, &far, &marker), "a bridge that nobody knows is no pods'");

    let (first, other) = (stage.add(0, &a), stage.add(1, &b));
    let oracles = Oracles::watch(&stage.alone.lab, &marker).unwrap();
    let tunnel = stage.node(0).capture(TUNNEL, &[&marker]).unwrap();
    let second = stage.pod(0, 7);
    let again = stage.add(0, &second);
    println!("ADD: the bridge's first pod {first:.1?} and {other:.1?}, its second {again:.1?}");

    for (from, to) in [(&a, &b), (&b, &a), (&second, &b)] {
        eventually("a pod", LIMIT, || reaches(&from.namespace, &to.addresses, &marker)).unwrap();
    }
    assert!(reaches(&a.namespace, &far, &marker), "another node");
    assert!(reaches(&a.namespace, &addresses(0, 1), &marker), "its own node");
    assert!(reaches(stage.node(1).namespace(), &a.addresses, &marker), "from another node");
    oracles.judge(&tunnel.seen()).unwrap();
    assert!(again < first.min(other), "a device that is known is not waited for");

    let check = |result: &Value| stage.call("CHECK", 0, &a, result);
    assert!(check(&a.result).ok, "{}", check(&a.result).json);
    assert!(stage.call("DEL", 0, &a, &a.result).ok);
    stage.run(0, "ip", &["link", "del", BRIDGE]);
    let gone = || !stage.table(0).contains(BRIDGE);
    eventually("a guard without the bridge", LIMIT, gone).unwrap();
    assert_eq!(check(&a.result).code(), Some(104), "its way is gone");
}

#[test]
fn a_device_of_a_single_pod_is_the_guards_for_as_long_as_it_is_there() {
    let marker = marker();
    let mut stage = Stage::start("chptp");
    let (a, b) = (stage.pod(0, 5), stage.pod(1, 6));
    stage.add(0, &a);
    stage.add(1, &b);
    let (single, veth) = stage.routed_pod(0, 9);
    assert!(!stage.table(0).contains(&veth));

    stage.add(0, &single);

    assert!(stage.table(0).contains(&veth), "before ADD returns");
    let to = [b.addresses[0]];
    eventually("a pod", LIMIT, || reaches(&single.namespace, &to, &marker)).unwrap();
    assert!(reaches(&single.namespace, &addresses(1, 1)[..1], &marker), "another node");
    stage.run(0, "ip", &["link", "del", &veth]);
    let gone = || !stage.table(0).contains(&veth);
    eventually("a guard without it", LIMIT, gone).unwrap();
    assert!(stage.table(0).contains(BRIDGE));

    for (verb, version) in [("STATUS", "1.1.0"), ("GC", "1.1.0")] {
        let extra = json!({"cniVersion": version, "name": "theirs", "chained": true});
        let said = Cni::new(stage.node(0)).call(verb, "x", &a.namespace, extra).unwrap();
        assert!(said.ok, "{verb}: {}", said.json);
    }
    stage.alone.members[0].kill_agent();
    let next = stage.pod(0, 7);
    stage.add(0, &next);
    assert!(reaches(&next.namespace, &a.addresses, &marker), "a known bridge needs no agent");
}

#[test]
fn what_the_mesh_cannot_carry_is_refused_and_says_why() {
    let stage = Stage::start("chbad");
    let pod = stage.pod(0, 5);
    let with = |change: &dyn Fn(&mut Value)| {
        let mut result = pod.result.clone();
        change(&mut result);
        stage.call("ADD", 0, &pod, &result)
    };
    let refused = |said: &CniOutput, code: u64, why: &str| {
        let text = said.json["msg"].as_str().unwrap_or_default().to_owned();
        assert_eq!((said.ok, said.code()), (false, Some(code)), "{}", said.json);
        assert!(text.contains(why), "{text}");
    };

    let foreign = with(&|result| result["ips"][0]["address"] = "10.9.9.9/24".into());
    refused(&foreign, 7, "ipam: Kubernetes");
    let own = with(&|result| result["ips"][0]["address"] = "10.42.1.1/24".into());
    refused(&own, 7, "the node's own");
    let elsewhere = with(&|result| result["interfaces"][0]["name"] = "veth5".into());
    refused(&elsewhere, 7, "isGateway");
    let alone = Cni::new(stage.node(0)).call("ADD", "x", &pod.namespace, json!({"chained": true}));
    refused(&alone.unwrap(), 7, "prevResult is missing");
    // The pod's bridge is the machine's way out as well.
    stage.run(0, "ip", &["route", "add", "default", "dev", BRIDGE, "metric", "9999"]);
    refused(&with(&|_| ()), 7, "way out");
    stage.run(0, "ip", &["route", "del", "default", "dev", BRIDGE, "metric", "9999"]);
    stage.run(0, "ip", &["route", "del", "unreachable", "10.42.0.0/16"]);
    eventually("repair", LIMIT, || stage.call("ADD", 0, &pod, &pod.result).ok).unwrap();

    // The same later, which the agent sees at its next look.
    assert!(stage.table(0).contains(BRIDGE));
    stage.run(0, "ip", &["route", "add", "default", "dev", BRIDGE, "metric", "9999"]);
    std::fs::write(stage.configurations(0).join("wake"), "").unwrap();
    eventually("a guard without it", LIMIT, || !stage.table(0).contains(BRIDGE)).unwrap();
}

#[test]
fn a_configuration_of_another_plugin_is_followed_at_once_and_never_written() {
    let stage = Stage::start("chconf");
    let directory = stage.configurations(0);
    let plugins = || {
        let list = stage.ours(0)?;
        let kinds = list["plugins"].as_array()?.iter();
        Some(kinds.map(|one| one["type"].as_str().unwrap().to_owned()).collect::<Vec<_>>())
    };
    let follows = |what: &str, kinds: Option<&[&str]>| {
        let wanted = kinds.map(|kinds| kinds.iter().map(ToString::to_string).collect::<Vec<_>>());
        let took = eventually(what, LIMIT, || plugins() == wanted).unwrap();
        println!("{what}: followed after {took:?}");
        assert!(took < Duration::from_secs(2), "{what}: {took:?}");
    };
    follows("the first", Some(&["bridge", "hawser-cni"]));

    let more = theirs(BRIDGE).replace("\"plugins\": [", "\"plugins\": [{\"type\": \"tuning\"},");
    std::fs::write(directory.join(THEIRS), &more).unwrap();
    follows("one more plugin", Some(&["tuning", "bridge", "hawser-cni"]));
    std::fs::write(directory.join("09-first.conflist"), theirs("br9")).unwrap();
    follows("a file before it", Some(&["bridge", "hawser-cni"]));
    std::fs::rename(directory.join("09-first.conflist"), directory.join("11-later.conflist"))
        .unwrap();
    follows("that file renamed", Some(&["tuning", "bridge", "hawser-cni"]));
    assert_eq!(std::fs::read_to_string(directory.join(THEIRS)).unwrap(), more);
    for name in [THEIRS, "11-later.conflist"] {
        std::fs::remove_file(directory.join(name)).unwrap();
    }
    follows("all of them gone", None);
    let log = || stage.alone.members[0].agent().unwrap().log();
    eventually("the reason", LIMIT, || log().contains("cni.mode: Main")).unwrap();
    std::fs::write(directory.join(THEIRS), &more).unwrap();
    follows("back again", Some(&["tuning", "bridge", "hawser-cni"]));
}

/// What pods send to the mesh on the underlay.
fn leaks(stage: &Stage, pods: &[&Pod; 2], marker: &[u8]) -> u64 {
    let capture = stage.alone.lab.switch().unwrap().capture(&[marker]).unwrap();
    let once = Duration::from_millis(200);
    for to in pods[1].addresses {
        assert!(pods[0].namespace.ping_within(to, marker, once).is_err(), "there is no tunnel");
    }
    capture.seen().marked()
}

#[test]
fn nothing_of_another_plugins_pods_leaves_in_clear_whatever_is_flushed() {
    let marker = marker();
    let mut stage = Stage::start("chleak");
    let (a, b) = (stage.pod(0, 5), stage.pod(1, 5));
    let pods = [&a, &b];
    stage.add(0, &a);
    stage.add(1, &b);
    eventually("pods", LIMIT, || reaches(&a.namespace, &b.addresses, &marker)).unwrap();
    let clear = |stage: &Stage, what: &str| {
        let seen = leaks(stage, &pods, &marker);
        promised(seen == 0, || format!("{what}: {seen} packets of a pod in clear"));
    };
    let flush_routes = |stage: &Stage| {
        stage.run(0, "ip", &["route", "flush", "proto", "72"]);
        stage.run(0, "ip", &["-6", "route", "flush", "proto", "72"]);
    };

    stage.alone.members[0].kill_agent();
    clear(&stage, "both layers, no agent");
    flush_routes(&stage);
    clear(&stage, "the table alone");
    stage.run(0, "nft", &["flush", "ruleset"]);
    let state = stage.node(0).state().display().to_string();
    stage.run(0, "hawser-agent", &["guard", "--state", &state]);
    clear(&stage, "as after a reboot");
    assert!(stage.table(0).contains(BRIDGE), "the guard at boot knows the bridge");
    stage.run(0, "nft", &["flush", "ruleset"]);
    clear(&stage, "the routes alone");

    flush_routes(&stage);
    assert!(leaks(&stage, &pods, &marker) > 0, "without a guard this test must see a leak");
    stage.start_agent(0);
    eventually("pods again", LIMIT, || reaches(&a.namespace, &b.addresses, &marker)).unwrap();
}

#[test]
fn an_uninstall_leaves_the_other_plugin_as_it_was() {
    let mut stage = Stage::prepare("chuninst");
    // Linux makes these by and by.
    let local = || stage.run(0, "ip", &["-6", "route", "show", "table", "local", "dev", BRIDGE]);
    let settled = || ["local fe80:", "local fd42:"].iter().all(|route| local().contains(route));
    eventually("the bridge's own routes", LIMIT, settled).unwrap();
    let before = Baseline::of(stage.node(0)).unwrap();
    let files = |stage: &Stage| {
        let entries = std::fs::read_dir(stage.configurations(0)).unwrap();
        let texts = entries.map(|entry| {
            let path = entry.unwrap().path();
            (path.clone(), std::fs::read(path).unwrap())
        });
        texts.collect::<std::collections::BTreeMap<_, _>>()
    };
    let theirs = files(&stage);
    stage.start_agent(0);
    eventually("our configuration", LIMIT, || stage.ours(0).is_some()).unwrap();
    assert_eq!(files(&stage).len(), 2);

    stage.alone.members[0].kill_agent();
    let directory = stage.configurations(0).display().to_string();
    let state = stage.node(0).state().display().to_string();
    stage.run(0, "hawser-agent", &["uninstall", "--state", &state, "--conf-dir", &directory]);

    assert_eq!(files(&stage), theirs);
    assert_eq!(before.difference(&Baseline::of(stage.node(0)).unwrap()), [""; 0]);
    assert!(!stage.node(0).state().join("devices").exists());
}
