//! A machine outside of the cluster announces the network behind it: pods and its hosts speak with
//! each other in their own names, sealed up to the machine, and nothing is in clear before it.
//!
//! ```text
//!   pod ── node-1 ══ tunnel ══ edge-1 ── lan0 ── host 10.88.0.7, fd88::7
//!                    switch (its default route leads here too)
//! ```

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use e2e::lab::{Namespace, Node, Process, eventually};
use e2e::mesh::{Member, Mesh};
use e2e::oracle::{Oracles, marker, promised};
use ipnet::IpNet;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

use crate::join::{join, token};

const LIMIT: Duration = Duration::from_secs(20);
/// Long enough for many packets, had they a way.
const TRIES: usize = 20;
const LAN: [&str; 2] = ["10.88.0.0/24", "fd88::/64"];
const HOST: [&str; 2] = ["10.88.0.7", "fd88::7"];

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A machine with a host behind it, whose gateway it is.
fn machine_with_a_lan(mesh: &Mesh, name: &str) -> (Node, Namespace) {
    let node = mesh.lab.node(name).unwrap();
    let host = mesh.lab.namespace(&format!("{name}-host")).unwrap();
    let far = host.clone();
    let cable = node.namespace().netlink(async move |net| {
        net.add_cable("lan0", "eth0", &far).await?;
        net.add_address("lan0", address("10.88.0.1"), 24).await?;
        net.add_address("lan0", address("fd88::1"), 64).await
    });
    cable.unwrap();
    let host_up = host.netlink(async |net| {
        net.add_address("eth0", address(HOST[0]), 24).await?;
        net.add_address("eth0", address(HOST[1]), 64).await?;
        net.up("eth0").await?;
        net.add_route("0.0.0.0/0".parse()?, address("10.88.0.1")).await?;
        net.add_route("::/0".parse()?, address("fd88::1")).await
    });
    host_up.unwrap();
    (node, host)
}

fn announcing(mesh: &Mesh, node: &Node, flags: &[&str]) -> Process {
    let token = token(&mesh.controller, &["--announce", "10.88.0.0/16,fd88::/48"]);
    let announce = LAN.join(",");
    let flags = [&["--announce", &announce], flags].concat();
    let mut joining = join(&mesh.controller, node, &token, &flags);
    joining.wait_for_log("joined in", LIMIT).unwrap();
    joining
}

/// Both ways, in each family.
fn speak(mesh: &Mesh, host: &Namespace, marker: &[u8]) {
    for pod in mesh.pods() {
        for (at, v4) in [true, false].into_iter().enumerate() {
            pod.namespace.ping_until(address(HOST[at]), marker, LIMIT).unwrap();
            host.ping_until(pod.address(v4).unwrap(), marker, LIMIT).unwrap();
        }
    }
}

/// Packets with the marker from `from` to the host, answered or not.
fn knock(from: &Namespace, marker: &[u8]) {
    for host in HOST {
        for _ in 0..TRIES {
            from.ping_within(address(host), marker, Duration::from_millis(20)).ok();
        }
    }
}

/// Who the host sees when `from` writes to it.
fn seen_as(host: &Namespace, from: &Namespace, at: usize) -> IpAddr {
    let to = SocketAddr::new(address(HOST[at]), 7100);
    let inbox = host.run(move || UdpSocket::bind(to).unwrap());
    inbox.set_read_timeout(Some(LIMIT)).unwrap();
    let any: IpAddr = address(["0.0.0.0", "::"][at]);
    from.run(move || UdpSocket::bind((any, 0))?.send_to(b"who am I", to)).unwrap();
    inbox.recv_from(&mut [0; 16]).unwrap().1.ip()
}

fn routed(mesh: &Mesh, name: &str) -> Vec<String> {
    let nodes = mesh.controller.nodes().unwrap_or_default();
    let node = nodes.into_iter().find(|node| node.metadata.name.as_deref() == Some(name));
    node.map(|node| node.spec.routed).unwrap_or_default()
}

fn ask_for(mesh: &Mesh, name: &'static str, prefixes: &[&str]) {
    let spec = json!({"spec": {"prefixes": prefixes}});
    let asked = mesh.controller.api(async move |client| {
        let nodes = Api::<api::MeshNode>::all(client);
        nodes.patch(name, &PatchParams::default(), &Patch::Merge(spec)).await?;
        Ok(())
    });
    asked.unwrap();
}

/// What the controller says of a node's prefixes.
fn said(mesh: &Mesh, name: &str) -> Option<(String, String)> {
    let nodes = mesh.controller.nodes().ok()?;
    let node = nodes.into_iter().find(|node| node.metadata.name.as_deref() == Some(name))?;
    let conditions = node.status?.conditions;
    let condition = api::conditions::get(&conditions, "PrefixesRouted")?;
    Some((condition.reason.clone(), condition.message.clone()))
}

/// Takes the guard away, which a live agent would put back.
fn unguard(node: &Node) {
    node.command("nft").args(["delete", "table", "inet", "hawser"]).stdout().unwrap();
    for family in ["-4", "-6"] {
        node.command("ip").args([family, "route", "flush", "proto", "72"]).stdout().unwrap();
    }
}

#[test]
fn pods_and_a_network_behind_a_machine_reach_each_other_and_nothing_is_in_clear() {
    let marker = marker();
    let mut mesh = Mesh::start("sitegw", 2).unwrap();
    let oracles = Oracles::watch(&mesh.lab, &marker).unwrap();
    mesh.add_pods(1).unwrap();
    let tunnel = mesh.members[0].node.capture("hawser0", &[&marker]).unwrap();
    let (node, host) = machine_with_a_lan(&mesh, "edge-1");
    let _joining = announcing(&mesh, &node, &[]);

    speak(&mesh, &host, &marker);

    assert_eq!(routed(&mesh, "edge-1"), LAN);
    let mut machine = Member::new(node, String::new());
    machine.wait_for_node_file(LIMIT).unwrap();
    machine.add_pod(&mesh.lab, "a").unwrap();
    for (at, v4) in [true, false].into_iter().enumerate() {
        for pod in mesh.pods().into_iter().chain(&machine.pods) {
            let own = pod.address(v4).unwrap();
            assert_eq!(seen_as(&host, &pod.namespace, at), own, "{}", pod.name);
        }
    }
    let hawser = |words: &[&str]| mesh.controller.hawser().args(words).stdout().unwrap();
    assert!(hawser(&["nodes", "-o", "wide"]).contains("10.88.0.0/24,fd88::/64"));
    assert!(hawser(&["graph"]).contains("before 10.88.0.0/24,fd88::/64"));
    assert!(said(&mesh, "edge-1").unwrap().0 == "PrefixesRouted");

    // Its agent dies where the pod is: the pod gets an error, and the wire nothing.
    mesh.members[0].kill_agent();
    knock(&mesh.members[0].pods[0].namespace, &marker);
    // Without its LAN, the machine's only way there is the default route: by the switch.
    machine.node.namespace().netlink(async |net| net.down("lan0").await).unwrap();
    knock(&mesh.members[1].pods[0].namespace, &marker);
    knock(&machine.pods[0].namespace, &marker);
    let lan: Vec<IpNet> = LAN.iter().map(|net| net.parse().unwrap()).collect();
    let inner = oracles.underlay().inside(&lan);
    promised(inner.is_empty(), || format!("addresses of the LAN on the underlay: {inner:?}"));
    let allowed = oracles.allow_error("not as planned");
    allowed.judge(&tunnel.seen()).unwrap();

    // The control: the same packets without the guard.
    let wire = mesh.lab.switch().unwrap().capture(&[&marker]).unwrap();
    unguard(&mesh.members[0].node);
    knock(&mesh.members[0].pods[0].namespace, &marker);
    assert!(wire.seen().marked() > 0, "the control saw nothing");
}

#[test]
fn a_prefix_that_overlaps_is_refused_at_the_door_and_by_the_controller() {
    let marker = marker();
    let mut mesh = Mesh::start("overlap", 2).unwrap();
    mesh.add_pods(1).unwrap();
    let (node, host) = machine_with_a_lan(&mesh, "edge-1");
    let _joining = announcing(&mesh, &node, &[]);
    speak(&mesh, &host, &marker);

    // By kubectl: who was first keeps it.
    ask_for(&mesh, "node-2", &["10.88.0.128/25", "10.42.7.0/24", "172.30.0.0/16"]);
    eventually("the controller says why", LIMIT, || {
        said(&mesh, "node-2").is_some_and(|(reason, message)| {
            reason == "PrefixOverlap"
                && message.contains("10.88.0.0/24, which is announced by node edge-1")
                && message.contains("10.42.0.0/16, which is a pool of Mesh default")
                && message.contains("kubectl edit meshnode node-2")
        })
    })
    .unwrap();
    assert_eq!(routed(&mesh, "node-2"), ["172.30.0.0/16"]);
    speak(&mesh, &host, &marker);

    // At the door: one answer, and the reason on the token.
    for (name, prefix, reason) in [
        ("edge-2", "10.88.0.0/25", "PrefixOverlap"),
        ("edge-3", "10.99.0.0/24", "PrefixNotGranted"),
    ] {
        let node = mesh.lab.node(name).unwrap();
        let token = token(&mesh.controller, &["--announce", "10.88.0.0/16", "--name", name]);
        let mut refused = join(&mesh.controller, &node, &token, &["--announce", prefix]);
        refused.wait_for_log("does not let this machine in", LIMIT).unwrap();
        let list = mesh.controller.hawser().args(["token", "list", "-o", "wide"]).stdout().unwrap();
        assert!(list.contains(&format!("{reason}@")), "{list}");
    }

    // Taken from the first, it is the second's.
    ask_for(&mesh, "edge-1", &[]);
    eventually("the second has it", LIMIT, || {
        routed(&mesh, "node-2") == ["10.88.0.128/25", "172.30.0.0/16"]
            && said(&mesh, "edge-1").is_some_and(|(reason, _)| reason == "NothingAnnounced")
    })
    .unwrap();
}

#[test]
fn the_other_engine_carries_a_network_behind_a_machine_too() {
    let marker = marker();
    let mut mesh = Mesh::prepare("sitegwbt", 1, &mut |_| {}).unwrap();
    mesh.members[0].start_agent_with(["--engine", "boringtun"]).unwrap();
    mesh.wait_until_ready().unwrap();
    mesh.add_pods(1).unwrap();
    let wire = mesh.lab.switch().unwrap().capture(&[&marker]).unwrap();
    let (node, host) = machine_with_a_lan(&mesh, "edge-1");

    let _joining = announcing(&mesh, &node, &["--", "--engine", "boringtun"]);

    speak(&mesh, &host, &marker);
    promised(wire.seen().marked() == 0, || "in clear on the way".into());
}
