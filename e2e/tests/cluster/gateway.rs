//! Machines join a real cluster through the gateway, and never see its API server.

use std::os::unix::fs::OpenOptionsExt as _;
use std::time::{Duration, Instant};

use e2e::cluster::{ApiServer, scripts};
use e2e::lab::{Command, Lab, Node, Process, eventually, until};
use e2e::mesh::{Member, create_mesh};
use e2e::oracle::promised;
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(30);
/// From the end of a replica until machines that were with it hear of a change from the other.
const BOUND: Duration = Duration::from_secs(2);

fn join(node: &Node, gateway: &str, token: &str) -> Process {
    use std::io::Write as _;
    let file = node.dir().join("token");
    let mut options = std::fs::OpenOptions::new();
    let mut written = options.write(true).create_new(true).mode(0o600).open(&file).unwrap();
    written.write_all(token.as_bytes()).unwrap();
    let command = node.command("hawser").args(["join", gateway, "--token-file"]).arg(file);
    let command = command.args(["--name", node.name(), "--state"]).arg(node.state());
    let mut joining = command.spawn().unwrap();
    joining.wait_for_log("joined in", LIMIT).unwrap();
    joining
}

/// This server's Services begin with 10.96.0.1; the ConfigMap is as kubeadm writes it.
fn check_tells_where_the_cluster_disagrees(server: &ApiServer, hawser: &dyn Fn() -> Command) {
    let check = |range: &str| {
        let config = format!("mode: iptables\nclusterCIDR: {range}\n");
        let map = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "data": {"config.conf": config},
            "metadata": {"name": "kube-proxy", "namespace": "kube-system"},
        });
        let kubectl = server.kubectl(&server.kubeconfig());
        let apply = kubectl.args(["apply", "--validate=false", "-f", "-"]);
        apply.input(map.to_string()).stdout().unwrap();
        String::from_utf8(hawser().arg("check").output().unwrap().stdout).unwrap()
    };

    let (apart, same) = (check("10.244.0.0/16"), check("10.42.0.0/16"));

    println!("{apart}");
    assert!(apart.contains("warn  HW3009  pool 10.42.0.0/16 lies outside"), "{apart}");
    assert!(same.contains("ok    HW3009  pool 10.42.0.0/16 lies in"), "{same}");
    assert!(same.contains("warn  HW3010  the Services' 10.96.0.1/32 is not among"), "{same}");
    assert!(same.contains("ok    HW3011"), "{same}");
}

#[test]
fn two_machines_join_a_real_cluster_through_the_gateway_and_reach_each_other() {
    let Some(scripts) = scripts().unwrap() else { return };
    let lab = Lab::new("cgw").unwrap();
    let server = ApiServer::start(&lab, scripts).unwrap();
    server.api(create_mesh).unwrap();
    let control = server.node();
    let address = format!("{}:8444", control.address().v4);
    let gateway = format!("https://{address}");
    let controller = control.command("hawser-controller").arg("--kubeconfig");
    // With the rights of the chart's controllers, no more.
    server.install_gateway().unwrap();
    let rights = server.kubeconfig_of("hawser-controller").unwrap();
    let controller = controller.arg(rights).args(["--identity", "c"]);
    let _controller = controller.args(["--gateway", &address]).spawn().unwrap();
    let hawser = || control.command("hawser").env("KUBECONFIG", server.kubeconfig());
    let create = ["token", "create", "--uses", "2"];
    check_tells_where_the_cluster_disagrees(&server, &hawser);
    let announced = || hawser().args(create).args(["--dry-run=server"]).stdout().is_ok();
    eventually("the gateway is announced", LIMIT, announced).unwrap();
    let token = hawser().args(create).stdout().unwrap();
    let machines = ["edge-1", "edge-2"].map(|name| lab.node(name).unwrap());

    let joining = machines.each_ref().map(|machine| join(machine, &gateway, &token));

    let log = joining[1].log();
    assert!(log.contains("edge-1 answers at"), "{log}");
    let tokens = hawser().args(["token", "list"]).stdout().unwrap();
    assert!(tokens.contains("False  2/2"), "{tokens}");
    let access = machines[0].state().join("gateway.kubeconfig");
    let access = std::fs::read_to_string(access).unwrap();
    assert!(access.contains(&gateway) && !access.contains(":6443"), "{access}");

    hawser().args(["revoke", "edge-1", "--yes"]).stdout().unwrap();
    let asks = machines[0].command("hawser").arg("--kubeconfig");
    let asks = asks.arg(machines[0].state().join("gateway.kubeconfig")).arg("nodes");
    assert_eq!(asks.output().unwrap().status.code(), Some(6));
}

/// A controller with a gateway on a machine of its own, with the rights of the chart's.
fn replica(server: &ApiServer, node: &Node) -> Process {
    let rights = server.kubeconfig_of("hawser-controller").unwrap();
    let controller = node.command("hawser-controller").arg("--kubeconfig").arg(rights);
    let controller = controller.args(["--identity", node.name()]);
    let listen = format!("{}:8444", node.address().v4);
    controller.args(["--gateway", &listen]).spawn().unwrap()
}

/// What a Service or a balancer does: one address, and new connections to these in turn.
fn balance(balancer: &Node, replicas: &[&Node]) {
    let all: Vec<String> = replicas
        .iter()
        .zip(0..)
        .map(|(node, at)| format!("{at} : {}", node.address().v4))
        .collect();
    let rules = format!(
        "table ip balance\ndelete table ip balance\ntable ip balance {{\n\
         chain pre {{ type nat hook prerouting priority -100\n\
         tcp dport 8444 dnat to numgen inc mod {} map {{ {} }}\n}}\n\
         chain post {{ type nat hook postrouting priority 100\nmasquerade\n}}\n}}\n",
        all.len(),
        all.join(", ")
    );
    balancer.command("nft").args(["--file", "-"]).input(rules).stdout().unwrap();
}

/// A change that only the API knows of, and how long the machine took to hear of it since `begun`.
fn hears(server: &ApiServer, machine: &Member, (name, begun): (&str, Instant)) -> Duration {
    let number = u8::try_from(name.len()).unwrap();
    let key = keys::PrivateKey::from_bytes([number; 32]).public().to_string();
    let peer = json!({
        "apiVersion": "hawser.dev/v1alpha1", "kind": "MeshPeer", "metadata": {"name": name},
        "spec": {"publicKey": key, "addresses": [format!("10.42.200.{number}/32")]},
    });
    let apply = server.kubectl(&server.kubeconfig()).args(["create", "-f", "-"]);
    apply.input(peer.to_string()).stdout().unwrap();
    let heard = until(LIMIT, || {
        let state = machine.state().ok()?;
        state["peers"].as_array()?.iter().find(|peer| peer["name"] == name).map(drop)
    });
    heard.expect("the machine hears of it");
    begun.elapsed()
}

#[test]
fn a_replica_that_ends_is_replaced_by_the_other_within_two_seconds() {
    let Some(scripts) = scripts().unwrap() else { return };
    let lab = Lab::new("cgw2").unwrap();
    let server = ApiServer::start(&lab, scripts).unwrap();
    server.api(create_mesh).unwrap();
    server.install_gateway().unwrap();
    let [one, two, balancer] = ["one", "two", "balancer"].map(|name| lab.node(name).unwrap());
    balancer.namespace().sysctl("net/ipv4/ip_forward", "1").unwrap();
    balance(&balancer, &[&one, &two]);
    let mut replicas = [&one, &two].map(|node| replica(&server, node));
    for replica in &mut replicas {
        replica.wait_for_log("gateway open", LIMIT).unwrap();
    }
    let gateway = format!("https://{}:8444", balancer.address().v4);
    let create = ["token", "create"];
    let hawser = || server.node().command("hawser").env("KUBECONFIG", server.kubeconfig());
    let announced = || hawser().args(create).args(["--dry-run=server"]).stdout().is_ok();
    eventually("the gateway is announced", LIMIT, announced).unwrap();
    let token = hawser().args(create).stdout().unwrap();
    let edge = lab.node("edge-1").unwrap();
    let _joining = join(&edge, &gateway, &token);
    let machine = Member::new(edge, String::new());
    let quiet = hears(&server, &machine, ("p", Instant::now()));

    let mut all = Vec::new();
    for (at, left, name) in [(0, &two, "pp"), (1, &one, "ppp")] {
        let begun = Instant::now();
        replicas[at].kill();
        balance(&balancer, &[left]);
        all.push(hears(&server, &machine, (name, begun)));
        replicas[at] = replica(&server, [&one, &two][at]);
        replicas[at].wait_for_log("gateway open", LIMIT).unwrap();
        balance(&balancer, &[&one, &two]);
        std::thread::sleep(BOUND);
    }

    println!("a change is heard of after {quiet:?}, with a replica's end before it {all:?}");
    promised(all.iter().all(|took| *took < BOUND), || format!("{all:?}"));
}
