//! Machines join a real cluster through the gateway, and never see its API server.

use std::os::unix::fs::OpenOptionsExt as _;
use std::time::Duration;

use e2e::cluster::{ApiServer, scripts};
use e2e::lab::{Command, Lab, Node, Process, eventually};
use e2e::mesh::create_mesh;
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(30);

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
