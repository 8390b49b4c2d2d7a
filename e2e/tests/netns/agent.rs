//! Agents in file mode, without a controller: what one machine does for itself, under faults.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use e2e::lab::{Lab, Node, Process, eventually};
use e2e::mesh::local_api;
use e2e::oracle::{Baseline, Oracles, marker};

const LIMIT: Duration = Duration::from_secs(20);
const TUNNEL: &str = "hawser0";
const POOLS: &str = "kind: Mesh\nspec:\n  pools: [{cidr: 10.42.0.0/16, nodePrefixLength: 24}, \
    {cidr: \"fd42::/48\", nodePrefixLength: 64}]\n";

/// Two machines that know each other from one file.
struct Two {
    agents: Vec<Option<Process>>,
    nodes: Vec<Node>,
    view: PathBuf,
    lab: Lab,
}

impl Two {
    fn prepare(name: &str, mesh: &str) -> Self {
        let lab = Lab::new(name).unwrap();
        let view = lab.dir().join("view.yaml");
        let nodes: Vec<_> = ["n1", "n2"].map(|name| lab.node(name).unwrap()).into();
        let documents = nodes.iter().zip(1..).map(|(node, number)| document(node, number));
        let text = format!("{POOLS}{mesh}{}", documents.collect::<String>());
        std::fs::write(&view, text).unwrap();
        Self { agents: vec![None, None], nodes, view, lab }
    }

    fn start(name: &str) -> Self {
        let mut two = Self::prepare(name, "");
        for at in [0, 1] {
            two.start_agent(at);
        }
        for at in [0, 1] {
            eventually("a ready agent", LIMIT, || two.is_ready(at)).unwrap();
        }
        two
    }

    fn start_agent(&mut self, at: usize) {
        let node = &self.nodes[at];
        let source = format!("file:{}", self.view.display());
        let command = node.command("hawser-agent").args(["run", "--node", node.name()]);
        let command = command.arg("--state").arg(node.state()).args(["--source", &source]);
        self.agents[at] = Some(command.spawn().unwrap());
    }

    /// SIGKILL.
    fn kill_agent(&mut self, at: usize) {
        self.agents[at] = None;
    }

    fn ask(&self, at: usize, path: &str) -> Option<(u16, String)> {
        local_api::get(&self.nodes[at].state().join("agent.sock"), path).ok()
    }

    fn is_ready(&self, at: usize) -> bool {
        self.ask(at, "/readyz").is_some_and(|(code, _)| code == 200)
    }

    /// The first machine reaches the second's mesh addresses, both families.
    fn reaches(&self, marker: &[u8]) -> bool {
        self.reaches_within(marker, Duration::from_secs(1))
    }

    fn reaches_within(&self, marker: &[u8], once: Duration) -> bool {
        let namespace = self.nodes[0].namespace();
        others().iter().all(|to| namespace.ping_within(*to, marker, once).is_ok())
    }

    fn run(&self, program: &str, args: &[&str]) -> String {
        self.nodes[0].command(program).args(args).stdout().unwrap()
    }

    /// Whichever of their two names its sets have.
    fn table(&self) -> Option<String> {
        let command = self.nodes[0].command("nft");
        let rules = command.args(["-s", "list", "table", "inet", "hawser"]).stdout().ok()?;
        Some(rules.replace("4_b", "4_a").replace("6_b", "6_a"))
    }
}

fn document(node: &Node, number: usize) -> String {
    let key = node.command("hawser-agent").arg("keygen").arg("--state").arg(node.state());
    let key = key.stdout().unwrap();
    let name = node.name();
    let [v4, v6] = node.address().sockets(51820);
    format!(
        "---\nkind: MeshNode\nmetadata: {{name: {name}}}\n\
         spec: {{subnets: [10.42.{number}.0/24, \"fd42:0:0:{number}::/64\"], keyEpoch: 1}}\n\
         status:\n  publicKeys: [{{epoch: 1, publicKey: \"{}\"}}]\n  endpoints: [\"{v4}\", \"{v6}\"]\n",
        key.trim()
    )
}

fn others() -> [IpAddr; 2] {
    ["10.42.2.1", "fd42:0:0:2::1"].map(|address| address.parse().unwrap())
}

#[test]
fn two_agents_in_file_mode_reach_each_other_and_nothing_is_readable() {
    let marker = marker();
    let two = Two::start("file");
    let oracles = Oracles::watch(&two.lab, &marker).unwrap();
    let tunnel = two.nodes[0].capture(TUNNEL, &[&marker]).unwrap();

    eventually("both families", LIMIT, || two.reaches(&marker)).unwrap();

    let verdict = oracles.judge(&tunnel.seen()).unwrap();
    assert!(verdict.underlay.udp_ports.contains(&51820));
}

/// A fault is repaired within a second; the fastest of three counts, for the machine may be busy.
/// An echo lost to the fault is given up early, or waiting for it would be counted as repair.
fn repaired(two: &Two, marker: &[u8], program: &str, args: &[&str]) {
    let table = two.table().unwrap();
    let mut fastest = LIMIT;
    for _ in 0..3 {
        two.run(program, args);
        let harmed = Instant::now();
        eventually(&format!("repair after {program} {args:?}"), LIMIT, || {
            two.reaches_within(marker, Duration::from_millis(100))
                && two.table().as_ref() == Some(&table)
                && two.is_ready(0)
        })
        .unwrap();
        fastest = fastest.min(harmed.elapsed());
        if fastest <= Duration::from_secs(1) {
            break;
        }
    }
    println!("{program} {args:?}: repaired after {fastest:?}");
    assert!(fastest <= Duration::from_secs(1), "{program} {args:?}: {fastest:?}");
}

#[test]
fn whatever_is_tampered_with_is_repaired_and_nothing_leaks_meanwhile() {
    let marker = marker();
    let two = Two::start("repair");
    eventually("both families", LIMIT, || two.reaches(&marker)).unwrap();
    let oracles = Oracles::watch(&two.lab, &marker).unwrap();
    let tunnel = two.nodes[0].capture("lo", &[&marker]).unwrap();
    let own = "10.42.1.1".parse().unwrap();
    two.nodes[0].namespace().ping(own, &marker).unwrap();

    for args in [
        &["link", "del", TUNNEL][..],
        &["link", "set", TUNNEL, "down"],
        &["link", "set", TUNNEL, "mtu", "1300"],
        &["addr", "flush", "dev", TUNNEL],
        &["route", "del", "10.42.2.0/24"],
        &["route", "flush", "proto", "72"],
        &["-6", "route", "flush", "proto", "72"],
    ] {
        repaired(&two, &marker, "ip", args);
    }
    for args in [
        &["flush", "ruleset"][..],
        &["delete", "table", "inet", "hawser"],
        &["flush", "chain", "inet", "hawser", "egress"],
        &["insert", "rule", "inet", "hawser", "egress", "accept"],
    ] {
        repaired(&two, &marker, "nft", args);
    }
    let rules = two.run("nft", &["list", "table", "inet", "hawser"]);
    // Its sets have two names each, by turns.
    let set = ["mesh4_a", "mesh4_b"].into_iter().find(|set| rules.contains(set)).unwrap();
    repaired(
        &two,
        &marker,
        "nft",
        &["delete", "element", "inet", "hawser", set, "{ 10.42.0.0/16 }"],
    );

    oracles.judge(&tunnel.seen()).unwrap();
}

#[test]
fn what_others_own_is_left_alone() {
    let two = Two::start("foreign");
    let foreign = ["10.43.7.0/24", "dev", "eth0", "metric", "77"];
    two.run("ip", &[&["route", "add"][..], &foreign].concat());
    two.run("nft", &["add", "table", "inet", "theirs"]);

    two.run("ip", &["link", "del", TUNNEL]);
    eventually("repair", LIMIT, || two.reaches(b"foreign")).unwrap();

    assert!(two.run("ip", &["route", "show", "10.43.7.0/24"]).contains("metric 77"));
    assert!(two.run("nft", &["list", "tables"]).contains("theirs"));
}

/// Operators save what `nft list ruleset` prints, and load it at the next boot.
#[test]
fn a_saved_ruleset_with_our_table_can_be_loaded() {
    let two = Two::start("saved");
    eventually("the table", LIMIT, || two.table().is_some()).unwrap();

    let saved = two.run("nft", &["list", "ruleset"]);
    let check = two.nodes[0].command("nft").args(["--check", "--file", "-"]).input(saved);

    check.stdout().unwrap();
}

/// What the first machine sends to the mesh appears on the underlay?
fn leaks(two: &Two, marker: &[u8]) -> bool {
    let capture = two.lab.switch().unwrap().capture(&[marker]).unwrap();
    let namespace = two.nodes[0].namespace();
    for to in others() {
        assert!(namespace.ping_within(to, marker, Duration::from_millis(200)).is_err());
    }
    capture.seen().marked() > 0
}

/// The second machine's key goes from the file while the first one's agent is away.
#[test]
fn who_was_once_sealed_to_is_in_clear_after_a_restart_only_where_a_downgrade_is_allowed() {
    let marker = marker();
    let mut two = Two::prepare("downgrade", "  encryption: Preferred\n  backend: vxlan\n");
    for at in [0, 1] {
        two.start_agent(at);
    }
    eventually("sealed", LIMIT, || two.reaches(&marker)).unwrap();
    eventually("a view on disk", LIMIT, || two.is_ready(0)).unwrap();
    let way = |two: &Two| two.run("ip", &["route", "show", "10.42.2.0/24"]);
    assert!(way(&two).contains(TUNNEL), "{}", way(&two));

    two.kill_agent(0);
    let text = std::fs::read_to_string(&two.view).unwrap();
    let (before, after) = text.rsplit_once("  publicKeys:").unwrap();
    let keyless = format!("{before}{}", after.split_once('\n').unwrap().1);
    std::fs::write(&two.view, &keyless).unwrap();
    two.start_agent(0);
    eventually("a ready agent", LIMIT, || two.is_ready(0)).unwrap();
    eventually("no way", LIMIT, || way(&two).is_empty()).unwrap();
    assert!(!leaks(&two, &marker), "it was sealed to once");

    let allowed = keyless.replacen("spec:\n", "spec:\n  allowDowngrade: true\n", 1);
    std::fs::write(&two.view, allowed).unwrap();
    eventually("a way in clear", LIMIT, || way(&two).contains("hawser-vx")).unwrap();
    assert!(leaks(&two, &marker), "the same capture sees what is in clear");
}

#[test]
fn each_layer_of_the_guard_holds_alone_after_the_agent_was_killed() {
    let marker = marker();
    let mut two = Two::start("killed");
    eventually("both families", LIMIT, || two.reaches(&marker)).unwrap();
    let flush = |two: &Two, layer: &str| match layer {
        "nft" => drop(two.run("nft", &["flush", "ruleset"])),
        _ => {
            two.run("ip", &["route", "flush", "proto", "72"]);
            two.run("ip", &["-6", "route", "flush", "proto", "72"]);
        }
    };

    two.kill_agent(0);
    assert!(!leaks(&two, &marker), "both layers");
    flush(&two, "nft");
    assert!(!leaks(&two, &marker), "the routes alone");
    two.start_agent(0);
    eventually("the tunnel", LIMIT, || two.reaches(&marker)).unwrap();
    eventually("a ready agent", LIMIT, || two.is_ready(0)).unwrap();
    two.kill_agent(0);
    flush(&two, "routes");
    assert!(!leaks(&two, &marker), "the table alone");

    flush(&two, "nft");
    assert!(leaks(&two, &marker), "without a guard this test must see a leak");
}

#[test]
fn an_agent_without_its_source_has_its_tunnels_back_from_the_last_view() {
    let marker = marker();
    let mut two = Two::start("last");
    eventually("both families", LIMIT, || two.reaches(&marker)).unwrap();
    std::fs::remove_file(&two.view).unwrap();
    let mut fastest = LIMIT;

    for _ in 0..3 {
        two.kill_agent(0);
        two.start_agent(0);
        let started = Instant::now();
        eventually("the tunnel", LIMIT, || two.reaches(&marker)).unwrap();
        fastest = fastest.min(started.elapsed());
    }

    println!("tunnels back after {fastest:?}");
    assert!(fastest <= Duration::from_millis(1500), "{fastest:?}");
}

#[test]
fn a_backend_in_clear_is_refused_where_encryption_is_required_and_the_guard_stands() {
    let mut two = Two::prepare("plain", "  backend: vxlan\n");
    two.start_agent(0);

    eventually("a guard", LIMIT, || two.table().is_some()).unwrap();
    eventually("the reason", LIMIT, || {
        two.ask(0, "/readyz").is_some_and(|(code, why)| code == 503 && why.contains("encryption"))
    })
    .unwrap();

    assert!(two.run("ip", &["route"]).contains("unreachable 10.42.0.0/16"));
    assert!(!two.nodes[0].state().join("node.json").exists(), "no pod without a mesh");
    let flag = two.nodes[1].command("hawser-agent").args(["run", "--node", "n2", "--backend"]);
    let flag = flag.args(["esp", "--source", "file:none", "--state"]).arg(two.nodes[1].state());
    let refused = flag.output().unwrap();
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("not available"));
}

#[test]
fn uninstall_takes_everything_away_but_the_key_and_refuses_while_an_agent_runs() {
    let mut two = Two::prepare("remove", "");
    let before = Baseline::of(&two.nodes[0]).unwrap();
    two.start_agent(0);
    eventually("a ready agent", LIMIT, || two.is_ready(0)).unwrap();
    let uninstall = |two: &Two| {
        let command = two.nodes[0].command("hawser-agent");
        command.arg("uninstall").arg("--state").arg(two.nodes[0].state()).output().unwrap()
    };

    let refused = uninstall(&two);
    assert!(!refused.status.success());
    assert!(two.table().is_some());
    two.kill_agent(0);
    let done = uninstall(&two);

    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(before.difference(&Baseline::of(&two.nodes[0]).unwrap()), [""; 0]);
    assert!(two.nodes[0].state().join("key-1").exists());
    assert!(!two.nodes[0].state().join("node.json").exists());
}

#[test]
fn a_mesh_that_is_removed_leaves_nothing_on_a_node_whose_agent_runs_on() {
    let mut two = Two::prepare("leave", "");
    let before = Baseline::of(&two.nodes[0]).unwrap();
    let view = std::fs::read_to_string(&two.view).unwrap();
    let removing = view.replacen("spec:\n", "spec:\n  removing: true\n", 1);
    two.start_agent(0);
    let node = &two.nodes[0];
    eventually("a ready agent", LIMIT, || two.is_ready(0)).unwrap();

    std::fs::write(&two.view, removing).unwrap();
    eventually("that it is out", LIMIT, || {
        two.ask(0, "/readyz").is_some_and(|(code, why)| code == 503 && why.contains("out of it"))
    })
    .unwrap();
    assert_eq!(before.difference(&Baseline::of(node).unwrap()), [""; 0]);
    let left = |name: &str| node.state().join(name).exists();
    assert!(left("key-1") && !left("node.json") && !left("view.json") && !left("pods"));

    std::fs::write(&two.view, view).unwrap();
    eventually("a node that is in again", LIMIT, || two.is_ready(0)).unwrap();
}

#[test]
fn pods_packets_to_another_machine_take_the_tunnel_or_none() {
    let mut two = Two::prepare("machine", "");
    let theirs = two.nodes[1].address().v4;
    let view = std::fs::read_to_string(&two.view).unwrap();
    let second = "spec: {subnets: [10.42.2.0/24";
    let view =
        view.replacen(second, &format!("spec: {{addresses: [{theirs}], {}", &second[7..]), 1);
    std::fs::write(&two.view, view).unwrap();
    two.start_agent(0);
    eventually("a ready agent", LIMIT, || two.is_ready(0)).unwrap();
    let route = |mark: &[&str]| {
        let theirs = theirs.to_string();
        two.run("ip", &[&["route", "get", theirs.as_str()], mark].concat())
    };

    assert!(route(&["mark", "0x40"]).contains(TUNNEL), "{}", route(&["mark", "0x40"]));
    assert!(!route(&[]).contains(TUNNEL), "the tunnel's own datagrams keep their way");
    let table = two.table().unwrap();
    assert!(table.contains(&theirs.to_string()), "{table}");

    let rules = || two.run("ip", &["rule"]);
    let ours = |text: &String| text.contains("fwmark 0x40/0x40 lookup 72");
    assert!(ours(&rules()), "{}", rules());
    two.run("ip", &["rule", "del", "fwmark", "0x40/0x40"]);
    eventually("the rule back", LIMIT, || ours(&rules())).unwrap();
}
