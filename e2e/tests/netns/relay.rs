//! Two nodes that don't reach each other: a third passes on what they seal and reads none of it,
//! another takes its place when it dies, and they go directly again when they can.

use std::time::{Duration, Instant};

use api::Relay;
use e2e::{
    lab::{Flow, eventually},
    mesh::{Alone, Member, Mesh, Pod, add_pods, every_pair, pods, wait_until_ready},
    oracle::{marker, promised},
};
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(20);
/// From a path's death until another one carries.
const REPLACED: Duration = Duration::from_secs(2);

/// How datagrams to a peer travel, by the agent's own word.
pub(crate) fn path(member: &Member, peer: &str) -> Option<String> {
    let state = member.state().unwrap_or_default();
    let peers = state["peers"].as_array().cloned().unwrap_or_default();
    let peer = peers.into_iter().find(|one| one["name"] == peer);
    Some(peer?["path"].as_str().unwrap_or("direct").to_owned())
}

fn both_travel(mesh: &Mesh, how: impl Fn(&str) -> bool) -> bool {
    let [a, b, ..] = mesh.members.as_slice() else { return false };
    [path(a, "node-2"), path(b, "node-1")].iter().all(|path| path.as_deref().is_some_and(&how))
}

/// The tunnel's port, from the one to the other.
fn cut(at: &Member, from: &Member) {
    let [v4, v6] = from.node.address().both();
    let blocked =
        [format!("ip saddr {v4} udp dport 51820"), format!("ip6 saddr {v6} udp dport 51820")];
    at.node.block(&blocked.each_ref().map(String::as_str)).unwrap();
}

fn mend(mesh: &Mesh) {
    for member in &mesh.members[..2] {
        member.node.block(&[]).unwrap();
    }
}

pub(crate) fn flow(from: &Pod, to: &Pod, marker: &[u8], v4: bool) -> Flow {
    Flow::start(&from.namespace, (&to.namespace, to.address(v4).unwrap()), 500, marker).unwrap()
}

/// Between the pods of the first two nodes, both ways and families.
fn flows(mesh: &Mesh, marker: &[u8]) -> Vec<Flow> {
    let (a, b) = (&mesh.members[0].pods[0], &mesh.members[1].pods[0]);
    let ways = [(a, b), (b, a)].into_iter();
    ways.flat_map(|(from, to)| [true, false].map(|v4| flow(from, to, marker, v4))).collect()
}

/// Node-1 and node-2, who don't reach each other, and two that reach both.
fn apart(name: &str) -> Mesh {
    let mut mesh = Mesh::prepare(name, 4, &mut |_| {}).unwrap();
    mesh.ask_for(json!({"relay": "Auto", "returnAfter": "2s"})).unwrap();
    cut(&mesh.members[0], &mesh.members[1]);
    cut(&mesh.members[1], &mesh.members[0]);
    for member in &mut mesh.members {
        member.start_agent().unwrap();
    }
    mesh.wait_until_ready().unwrap();
    mesh.add_pods(1).unwrap();
    mesh
}

#[test]
fn a_node_passes_on_what_it_cannot_read_and_dies_and_the_way_back_loses_nothing() {
    let marker = marker();
    let mut mesh = apart("relay");
    let began = Instant::now();
    let reach = mesh.reach(&marker, LIMIT);
    assert!(reach.failures().is_empty(), "{}", reach.failures().join("\n"));
    println!("all reach all {:?} after the pods were there", began.elapsed());
    eventually("relayed", LIMIT, || both_travel(&mesh, |path| path.starts_with("relay "))).unwrap();
    let first = path(&mesh.members[0], "node-2").unwrap();
    assert!(both_travel(&mesh, |path| path == first), "both ends come to the same relay");
    let relay = mesh.members.iter().position(|one| first == format!("relay {}", one.node.name()));
    let relay = relay.unwrap();

    let (node, at) = (&mesh.members[relay].node, ["eth0", "hawser0"]);
    let links = at.map(|device| node.capture(device, &[&marker]).unwrap());
    let all = flows(&mesh, &marker);
    std::thread::sleep(Duration::from_secs(1));
    let seen = links.each_ref().map(|link| link.seen());
    println!("{first}: {} frames on its link", seen[0].frames);
    assert!(seen[0].frames > 1500, "what is sent goes through the relay: {:?}", seen[0].frames);
    promised(seen.iter().all(|seen| seen.marked() == 0), || format!("{first} reads it: {seen:?}"));

    let killed = Instant::now();
    mesh.members[relay].kill_agent();
    eventually("another relay", LIMIT, || {
        both_travel(&mesh, |path| path.starts_with("relay ") && path != first)
    })
    .unwrap();
    println!("replaced after {:?}", killed.elapsed());
    std::thread::sleep(Duration::from_millis(500));
    for flow in all {
        let report = flow.finish();
        println!("{first} died: {report:?}");
        promised(report.gap <= REPLACED, || format!("more than two seconds: {report:?}"));
    }

    let all = flows(&mesh, &marker);
    std::thread::sleep(Duration::from_millis(500));
    let mended = Instant::now();
    mend(&mesh);
    eventually("direct", LIMIT, || both_travel(&mesh, |path| path == "direct")).unwrap();
    println!("direct {:?} after it could be", mended.elapsed());
    std::thread::sleep(Duration::from_millis(500));
    for flow in all {
        let report = flow.finish();
        println!("back: {report:?}");
        promised(report.lost == 0, || format!("the way back lost packets: {report:?}"));
    }
    mesh.ask_for(json!({"backend": "direct", "encryption": "None"})).unwrap();
    let control = mesh.lab.switch().unwrap().capture(&[&marker]).unwrap();
    eventually("the control: in clear", LIMIT, || {
        mesh.reach(&marker, Duration::from_secs(2));
        control.seen().marked() > 0
    })
    .unwrap();
}

#[test]
fn two_that_lose_each_other_are_relayed_within_two_seconds() {
    let marker = marker();
    let mut mesh = Mesh::start("relaycut", 3).unwrap();
    mesh.ask_for(json!({"relay": "Auto", "returnAfter": "2s"})).unwrap();
    eventually("room for the header", LIMIT, || {
        mesh.members.iter().all(|member| member.state().unwrap_or_default()["mtu"] == 1402)
    })
    .unwrap();
    mesh.add_pods(1).unwrap();
    let reach = mesh.reach(&marker, LIMIT);
    assert!(reach.failures().is_empty(), "{}", reach.failures().join("\n"));
    assert!(both_travel(&mesh, |path| path == "direct"));
    let all = flows(&mesh, &marker);
    std::thread::sleep(Duration::from_secs(4));

    let harmed = Instant::now();
    cut(&mesh.members[0], &mesh.members[1]);
    eventually("relayed", LIMIT, || both_travel(&mesh, |path| path == "relay node-3")).unwrap();
    println!("relayed after {:?}", harmed.elapsed());
    std::thread::sleep(Duration::from_millis(500));

    for flow in all {
        let report = flow.finish();
        println!("{report:?}");
        promised(report.gap <= REPLACED, || format!("more than two seconds: {report:?}"));
    }
}

#[test]
fn a_mesh_that_asks_for_no_relays_has_none() {
    let marker = marker();
    let mut mesh = apart("relaynever");
    mesh.ask_for(json!({"relay": "Never"})).unwrap();
    eventually("no room for the header", LIMIT, || {
        mesh.members.iter().all(|member| member.state().unwrap_or_default()["mtu"] == 1420)
    })
    .unwrap();
    let marked = marker.as_slice();
    mesh.members.drain(2..);

    let reach = mesh.reach(marked, Duration::from_secs(2));

    assert_eq!(reach.ok(), 0, "nobody passes anything on");
}

#[test]
fn one_that_has_ipv4_alone_and_one_that_has_ipv6_alone_meet_at_a_relay_that_has_both() {
    let mut mesh = Alone::prepare("relayfamily", 3).unwrap();
    for (place, family) in [(0, "-6"), (1, "-4")] {
        let node = &mesh.members[place].node;
        node.command("ip").args([family, "address", "flush", "dev", "eth0"]).stdout().unwrap();
    }
    mesh.arrange(
        |spec| spec.relay = Relay::Auto,
        |member| {
            let both = member.node.address().sockets(51820);
            match member.node.name() {
                "node-1" => vec![both[0]],
                "node-2" => vec![both[1]],
                _ => both.to_vec(),
            }
        },
    )
    .unwrap();
    let begun = Instant::now();
    for member in &mut mesh.members {
        member.start_agent().unwrap();
    }
    wait_until_ready(&mut mesh.members).unwrap();
    add_pods(&mesh.lab, &mut mesh.members, 1).unwrap();

    let reach = every_pair(&pods(&mesh.members), &marker(), LIMIT);

    assert!(reach.failures().is_empty(), "{}", reach.failures().join("\n"));
    println!("all reach all {:?} after the start", begun.elapsed());
    for (place, peer) in [(0, "node-2"), (1, "node-1")] {
        let path = path(&mesh.members[place], peer);
        assert!(path.as_deref().is_some_and(|path| path.starts_with("relay")), "{path:?}");
    }
}
