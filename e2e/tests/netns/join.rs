//! A bare machine outside of the mesh joins with one command, reaches and is reached, and is
//! thrown out again.

use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use e2e::lab::{Cni, Node, Process};
use e2e::mesh::{Controller, Member, Mesh, every_pair};
use e2e::oracle::{Oracles, marker, promised};
use serde_json::{Value, json};

use crate::laptop::secret;

const LIMIT: Duration = Duration::from_secs(20);
/// From the command to the last packet of a machine that is thrown out.
const BOUND: Duration = Duration::from_secs(2);

/// The text of a new token.
pub(crate) fn token(controller: &Controller, flags: &[&str]) -> String {
    let create = ["token", "create"];
    let made = e2e::lab::eventually("the gateway is announced", LIMIT, || {
        controller.hawser().args(create).args(["--dry-run=server"]).stdout().is_ok()
    });
    made.unwrap();
    controller.hawser().args(create).args(flags).stdout().unwrap()
}

/// `hawser join` in the foreground.
pub(crate) fn join(controller: &Controller, node: &Node, token: &str, flags: &[&str]) -> Process {
    let file = secret(node, "token", token);
    let command = node.command("hawser").args(["join", &controller.gateway_url(), "--token-file"]);
    let command = command.arg(file).arg("--state").arg(node.state());
    command.args(["--name", node.name()]).args(flags).spawn().unwrap()
}

fn access(node: &Node) -> std::path::PathBuf {
    node.state().join("gateway.kubeconfig")
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// What the CLI says through the gateway: its exit code and everything printed.
fn ask(node: &Node, args: &[&str]) -> (Option<i32>, String) {
    let asked = node.command("hawser").arg("--kubeconfig").arg(access(node)).args(args);
    let output = asked.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn a_bare_machine_joins_with_one_command_reaches_every_pod_and_is_thrown_out() {
    let marker = marker();
    let mut mesh = Mesh::start("join", 2).unwrap();
    let oracles = Oracles::watch(&mesh.lab, &marker).unwrap();
    mesh.add_pods(1).unwrap();
    let tunnel = mesh.members[0].node.capture("hawser0", &[&marker]).unwrap();
    let node = mesh.lab.node("edge-1").unwrap();
    let token = token(&mesh.controller, &["--site", "edge"]);

    let begun = Instant::now();
    let mut joining = join(&mesh.controller, &node, &token, &[]);
    joining.wait_for_log("meshnode/edge-1 joined in", LIMIT).unwrap();
    let joined = begun.elapsed();
    let log = joining.log();
    assert!(log.contains("answers at"), "no first ping: {log}");
    assert!(!log.contains(token.trim()), "the token is in the log");
    assert_eq!((mode(&node.state()), mode(&access(&node))), (0o700, 0o600));

    // It has a subnet like any node: a pod on it, and everybody reaches everybody.
    let mut machine = Member::new(node, String::new());
    machine.wait_for_node_file(LIMIT).unwrap();
    machine.add_pod(&mesh.lab, "a").unwrap();
    let everybody: Vec<_> = mesh.pods().into_iter().chain(&machine.pods).collect();
    let reach = every_pair(&everybody, &marker, LIMIT);
    assert_eq!((reach.failures(), reach.total()), (Vec::new(), 12));
    let own: Vec<IpAddr> = ["10.42.", "fd42:"]
        .iter()
        .filter_map(|start| {
            let nodes = mesh.controller.nodes().unwrap();
            let of = nodes.into_iter().find(|n| n.metadata.name.as_deref() == Some("edge-1"))?;
            let subnet = of.spec.subnets.into_iter().find(|subnet| subnet.starts_with(start))?;
            Some(api::first_host(subnet.parse().unwrap()))
        })
        .collect();
    for pod in mesh.pods() {
        for (address, v4) in own.iter().zip([true, false]) {
            pod.namespace.ping_until(*address, &marker, LIMIT).unwrap();
            let pod = pod.address(v4).unwrap();
            machine.node.namespace().ping_until(pod, &marker, LIMIT).unwrap();
        }
    }
    let (code, nodes) = ask(&machine.node, &["nodes", "-o", "name"]);
    assert_eq!((code, nodes.lines().count()), (Some(0), 3), "{nodes}");

    let begun = Instant::now();
    mesh.controller.hawser().args(["revoke", "edge-1", "--yes"]).stdout().unwrap();
    let pod = &mesh.members[0].pods[0];
    let last = machine.pods[0].address(true).unwrap();
    let mut out = Duration::ZERO;
    while pod.namespace.ping_within(last, &marker, Duration::from_millis(100)).is_ok() {
        out = begun.elapsed();
        assert!(out < BOUND, "still in after {out:?}");
    }
    let (code, said) = ask(&machine.node, &["nodes"]);
    assert_eq!(code, Some(6), "{said}");
    println!("joined and pinged after {joined:?}, out after {out:?}");
    assert!(joined < Duration::from_secs(5), "{joined:?}\n{log}");
    assert!(joining.is_running());
    oracles.judge(&tunnel.seen()).unwrap();
}

#[test]
fn a_machine_that_needs_an_approval_waits_with_nothing_and_goes_on_when_it_is_approved() {
    let mesh = Mesh::start("approve", 1).unwrap();
    let hawser = |words: &[&str]| mesh.controller.hawser().args(words).stdout().unwrap();
    let token = token(&mesh.controller, &["--approve", "--uses", "2"]);
    let machines = ["edge-1", "edge-2"].map(|name| mesh.lab.node(name).unwrap());
    let [mut joining, mut unwanted] =
        machines.each_ref().map(|node| join(&mesh.controller, node, &token, &[]));
    for waiting in [&mut joining, &mut unwanted] {
        waiting.wait_for_log("hawser token approve edge-", LIMIT).unwrap();
    }
    let listed = hawser(&["token", "list"]);
    assert!(listed.contains("edge-1") && listed.contains("edge-2"), "{listed}");
    assert_eq!(mesh.controller.nodes().unwrap().len(), 1);
    assert!(machines.iter().all(|node| !access(node).exists()));

    hawser(&["token", "deny", "edge-2"]);
    let approved = hawser(&["token", "approve", "edge-1"]);
    let begun = Instant::now();
    joining.wait_for_log("meshnode/edge-1 joined in", LIMIT).unwrap();
    println!("in {:?} after the approval", begun.elapsed());
    unwanted.wait_for_log("does not let this machine in", LIMIT).unwrap();

    assert!(approved.contains(" edge-1 approved"), "{approved}");
    let listed: Value = serde_json::from_str(&hawser(&["token", "list", "-o", "json"])).unwrap();
    let token = &listed["items"][0];
    let waiting = token["waiting"].as_array().unwrap().iter().map(|one| one["node"].as_str());
    assert_eq!(waiting.collect::<Vec<_>>(), [Some("edge-2")], "{token}");
    assert_eq!(token["used"], 1, "{token}");
    assert!(!access(&machines[1]).exists());
}

#[test]
fn a_machine_leaves_and_nothing_of_the_mesh_stays_on_it() {
    let mesh = Mesh::start("leave", 1).unwrap();
    let node = mesh.lab.node("edge-1").unwrap();
    let token = token(&mesh.controller, &[]);
    let mut joining = join(&mesh.controller, &node, &token, &[]);
    joining.wait_for_log("joined in", LIMIT).unwrap();
    let again = secret(&node, "again", &token);
    let twice = node.command("hawser").args(["join", &mesh.controller.gateway_url()]);
    let twice = twice.arg("--token-file").arg(&again).arg("--state").arg(node.state());
    assert_eq!(twice.output().unwrap().status.code(), Some(5), "it is in already");
    let leave = |flags: &[&str]| {
        let leave = node.command("hawser").args(["leave", "--yes", "--state"]).arg(node.state());
        leave.args(flags).env("SSH_CONNECTION", "10.42.0.1 5000 192.0.2.1 22").output().unwrap()
    };

    assert!(joining.terminate().unwrap().success());
    let refused = leave(&[]);
    let left = leave(&["--accept-risk=lose-ssh"]);

    assert_eq!(refused.status.code(), Some(5), "{}", String::from_utf8_lossy(&refused.stderr));
    assert!(left.status.success(), "{}", String::from_utf8_lossy(&left.stderr));
    assert!(!node.state().exists());
    let names: Vec<_> = mesh.controller.nodes().unwrap();
    let names: Vec<_> = names.into_iter().filter_map(|node| node.metadata.name).collect();
    assert_eq!(names, ["node-1"]);
    let devices = node.namespace().netlink(async |net| net.devices().await).unwrap();
    assert!(!devices.contains(&"hawser0".to_owned()), "{devices:?}");
    let tables = node.command("nft").args(["list", "tables"]).stdout().unwrap();
    assert_eq!(tables, "");
}

#[test]
fn containers_on_a_machine_that_joins_are_put_on_the_mesh_and_taken_off_with_it() {
    let marker = marker();
    let mut mesh = Mesh::start("joincni", 1).unwrap();
    mesh.add_pods(1).unwrap();
    let node = mesh.lab.node("edge-1").unwrap();
    let token = token(&mesh.controller, &[]);
    let [bin, conf] = ["cni-bin", "cni-conf"].map(|name| node.dir().join(name));
    std::fs::create_dir_all(&conf).unwrap();
    std::fs::write(conf.join("87-other.conflist"), "{}").unwrap();
    let dirs =
        [format!("--cni-bin-dir={}", bin.display()), format!("--cni-conf-dir={}", conf.display())];

    let flags = ["--cni", &dirs[0], &dirs[1]];
    let mut joining = join(&mesh.controller, &node, &token, &flags);
    joining.wait_for_log("joined in", LIMIT).unwrap();
    assert!(joining.log().contains("containers get addresses"), "{}", joining.log());
    let cni = Cni::installed(&node, &bin, &conf).unwrap();
    let container = mesh.lab.pod(&node, "c").unwrap();
    let added = cni.add("c", &container).unwrap();
    assert!(added.ok, "{}", added.json);
    let pod = &mesh.members[0].pods[0];
    for (address, own) in added.addresses().iter().zip(&pod.addresses) {
        pod.namespace.ping_until(*address, &marker, LIMIT).unwrap();
        container.ping_until(*own, &marker, LIMIT).unwrap();
    }
    assert!(cni.del("c", &container).unwrap().ok);
    assert!(joining.terminate().unwrap().success());
    let leave = node.command("hawser").args(["leave", "--yes", "--state"]).arg(node.state());
    leave.stdout().unwrap();

    let left = |dir: &Path| {
        let entries = std::fs::read_dir(dir).unwrap().flatten();
        entries.map(|entry| entry.file_name().into_string().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!((left(&bin), left(&conf)), (Vec::new(), vec!["87-other.conflist".to_owned()]));
}

#[test]
fn a_machine_behind_a_nat_joins_over_one_outbound_port_and_is_reached() {
    let marker = marker();
    let mut mesh = Mesh::start("joinnat", 2).unwrap();
    let oracles = Oracles::watch(&mesh.lab, &marker).unwrap();
    mesh.add_pods(1).unwrap();
    let tunnel = mesh.members[0].node.capture("hawser0", &[&marker]).unwrap();
    let router = mesh.lab.nat_router("home", &mesh.lab.switch().unwrap()).unwrap();
    let node = mesh.lab.node_on("edge-1", router.inside()).unwrap();
    let token = token(&mesh.controller, &[]);

    let mut joining = join(&mesh.controller, &node, &token, &[]);
    joining.wait_for_log("joined in", LIMIT).unwrap();
    let mut machine = Member::new(node, String::new());
    machine.wait_for_node_file(LIMIT).unwrap();
    machine.add_pod(&mesh.lab, "a").unwrap();

    // Both ways: the mesh answers where the machine's packets come from, not where it says it is.
    let everybody: Vec<_> = mesh.pods().into_iter().chain(&machine.pods).collect();
    let reach = every_pair(&everybody, &marker, LIMIT);
    assert_eq!((reach.failures(), reach.total()), (Vec::new(), 12));
    let outside = router.node().address().v4.to_string();
    for member in &mesh.members {
        let state = member.state().unwrap();
        let peers = state["peers"].as_array().unwrap();
        let peer = peers.iter().find(|peer| peer["name"] == "edge-1").unwrap();
        let endpoint = peer["endpoint"].as_str().unwrap();
        assert!(endpoint.starts_with(&outside), "{endpoint} is not the router's {outside}");
    }
    oracles.judge(&tunnel.seen()).unwrap();
}

#[test]
fn a_certificate_is_renewed_under_traffic_and_nothing_is_lost() {
    let marker = marker();
    let mut mesh = Mesh::prepare("renew", 1, &mut |_| {}).unwrap();
    mesh.controller.kill();
    mesh.controller.start_with(&["--certificate-life", "10s"]).unwrap();
    mesh.members[0].start_agent().unwrap();
    mesh.wait_until_ready().unwrap();
    mesh.add_pods(1).unwrap();
    let node = mesh.lab.node("edge-1").unwrap();
    let token = token(&mesh.controller, &[]);
    let mut joining = join(&mesh.controller, &node, &token, &[]);
    joining.wait_for_log("joined in", LIMIT).unwrap();
    let before = std::fs::read_to_string(access(&node)).unwrap();
    let mut machine = Member::new(node, String::new());
    machine.wait_for_node_file(LIMIT).unwrap();
    machine.add_pod(&mesh.lab, "a").unwrap();
    let (from, to) = (&machine.pods[0], &mesh.members[0].pods[0]);
    let address = to.address(true).unwrap();
    from.namespace.ping_until(address, &marker, LIMIT).unwrap();
    let flow = e2e::lab::Flow::start(&from.namespace, (&to.namespace, address), 500, &marker);
    let flow = flow.unwrap();

    joining.wait_for_log("certificate renewed", LIMIT).unwrap();
    std::thread::sleep(Duration::from_secs(2));

    let report = flow.finish();
    promised(report.lost == 0, || format!("{report:?}"));
    assert_ne!(std::fs::read_to_string(access(&machine.node)).unwrap(), before);
    assert_eq!(mode(&access(&machine.node)), 0o600);
    // A change made now still reaches it.
    mesh.controller.add_node("late").unwrap();
    let (code, nodes) = ask(&machine.node, &["nodes", "-o", "name"]);
    assert_eq!((code, nodes.contains("meshnode/late")), (Some(0), true), "{nodes}");
}

#[test]
fn a_token_that_does_not_fit_is_refused_with_what_to_check() {
    let mesh = Mesh::prepare("badtoken", 0, &mut |_| {}).unwrap();
    let node = mesh.lab.node("edge-1").unwrap();
    let good = token(&mesh.controller, &["--ttl", "1h"]);
    let parsed = api::join::Token::parse(&good).unwrap();
    let other = api::join::Token { authority: [7; 32], ..parsed.clone() }.to_text();
    let wrong = api::join::Token { secret: [7; 32], ..parsed.clone() }.to_text();
    let cut = good.trim()[..good.len() - 5].to_owned();
    let huge = "x".repeat(1 << 20);
    let url = mesh.controller.gateway_url();
    let nowhere = url.replace("8444", "1");

    for (number, (token, url, code, words)) in [
        (&cut, &url, 2, "was it copied whole"),
        (&huge, &url, 2, "longer than any token"),
        (&other, &url, 6, "not the gateway that this token was made for"),
        (&wrong, &url, 6, "does not let this machine in"),
        (&good, &nowhere, 3, "cannot reach the gateway"),
    ]
    .into_iter()
    .enumerate()
    {
        let file = secret(&node, &format!("token-{number}"), token);
        let join = node.command("hawser").args(["join", url, "--timeout", "1s", "--token-file"]);
        let join = join.arg(file);
        let ended = join.arg("--state").arg(node.state()).output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(code), "{said}");
        assert!(said.contains(words) && said.contains("check: "), "{said}");
        assert!(!said.contains(&token[..20]), "{said}");
    }
    // Nothing was consumed.
    let tokens = mesh.controller.hawser().args(["token", "list"]).stdout().unwrap();
    assert!(tokens.contains("True   0/1"), "{tokens}");
}

#[test]
fn machines_get_single_addresses_of_the_pool_that_their_token_names_until_it_is_used_up() {
    let marker = marker();
    let mut mesh = Mesh::start("joinpool", 1).unwrap();
    mesh.add_pods(1).unwrap();
    let tunnel = mesh.members[0].node.capture("hawser0", &[&marker]).unwrap();
    let oracles = Oracles::watch(&mesh.lab, &marker).unwrap();
    let pool = |cidr: &str, length: u8| json!({"cidr": cidr, "nodePrefixLength": length});
    let named =
        |cidr: &str, length: u8| json!({"cidr": cidr, "nodePrefixLength": length, "name": "edge"});
    let pools = json!([
        pool("10.42.0.0/16", 24),
        pool("fd42::/48", 64),
        named("10.43.0.0/32", 32),
        named("fd43::/128", 128)
    ]);
    mesh.ask_for(json!({"pools": pools})).unwrap();
    let token = token(&mesh.controller, &["--pool", "edge", "--uses", "2"]);
    let create = ["token", "create", "--pool", "nowhere"];
    let unknown = mesh.controller.hawser().args(create).output().unwrap();
    let said = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(!unknown.status.success() && said.contains("a name are edge"), "{said}");
    let nodes = ["edge-1", "edge-2"].map(|name| mesh.lab.node(name).unwrap());

    let mut joining = join(&mesh.controller, &nodes[0], &token, &[]);
    joining.wait_for_log("joined in", LIMIT).unwrap();
    let _second = join(&mesh.controller, &nodes[1], &token, &[]);

    let pod = &mesh.members[0].pods[0];
    for (address, v4) in ["10.43.0.0", "fd43::"].into_iter().zip([true, false]) {
        pod.namespace.ping_until(address.parse().unwrap(), &marker, LIMIT).unwrap();
        nodes[0].namespace().ping_until(pod.address(v4).unwrap(), &marker, LIMIT).unwrap();
    }
    let of = |name: &str| {
        let all = mesh.controller.nodes().unwrap();
        all.into_iter().find(|node| node.metadata.name.as_deref() == Some(name))
    };
    assert_eq!(of("edge-1").unwrap().spec.subnets, ["10.43.0.0/32", "fd43::/128"]);
    e2e::lab::eventually("the second is told why it gets nothing", LIMIT, || {
        let conditions = of("edge-2").and_then(|node| node.status).unwrap_or_default().conditions;
        let allocated = api::conditions::get(&conditions, "SubnetAllocated");
        allocated.is_some_and(|told| {
            told.reason == "PoolExhausted" && told.message.contains("add a pool named edge")
        })
    })
    .unwrap();
    assert_eq!(of("edge-2").unwrap().spec.subnets, [""; 0]);
    oracles.judge(&tunnel.seen()).unwrap();
}
