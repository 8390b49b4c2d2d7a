//! Machines that nothing but TCP 443 gets out of: they reach all others, each other too, in TLS to a
//! node that listens; another takes its place when it dies, and they go by UDP again when they can.

use std::time::{Duration, Instant};

use e2e::{
    lab::{Nat, NatRouter, Outbound, eventually},
    mesh::{Member, Mesh, Pod},
    oracle::{marker, promised},
};
use serde_json::json;

use crate::relay::{flow, path};

const LIMIT: Duration = Duration::from_secs(20);
/// From a listener's death until another one carries.
const REPLACED: Duration = Duration::from_secs(2);
/// A stream that is not needed any more ends half a minute after.
const UNNEEDED: Duration = Duration::from_secs(60);
const LISTENS: [&str; 2] = ["--tls-listen", "[::]:443"];

/// Three machines that everybody reaches, of which the first two listen, and others behind routers.
struct Shut {
    routers: Vec<NatRouter>,
    mesh: Mesh,
}

impl Shut {
    /// Each of these behind a router of its own, shut from the beginning or not.
    fn start(prefix: &str, machines: &[(&str, Nat, Outbound)]) -> Self {
        let mut mesh = Mesh::prepare(prefix, 3, &mut |_| {}).unwrap();
        mesh.ask_for(json!({"relay": "Auto", "returnAfter": "2s"})).unwrap();
        serve_the_api_on_443(&mesh);
        for (number, member) in mesh.members.iter_mut().enumerate() {
            let flags = if number < 2 { LISTENS.as_slice() } else { &[] };
            member.start_agent_with(flags).unwrap();
        }
        let mut shut = Self { routers: Vec::new(), mesh };
        for (name, nat, outbound) in machines {
            shut.add(name, *nat, *outbound);
        }
        shut.mesh.wait_until_ready().unwrap();
        shut.mesh.add_pods(1).unwrap();
        shut
    }

    fn add(&mut self, name: &str, nat: Nat, outbound: Outbound) {
        let lab = &self.mesh.lab;
        let switch = lab.switch().unwrap();
        let mut router = lab.router(&format!("{name}-nat"), &switch, nat).unwrap();
        router.let_out(outbound).unwrap();
        let node = lab.node_on(name, router.inside()).unwrap();
        let source = self.mesh.controller.add_node(name).unwrap();
        let file = source.strip_prefix("kube:").unwrap();
        let kubeconfig = std::fs::read_to_string(file).unwrap().replace(":6443", ":443");
        std::fs::write(file, kubeconfig).unwrap();
        let mut member = Member::new(node, source);
        member.start_agent().unwrap();
        self.mesh.members.push(member);
        self.routers.push(router);
    }

    fn member(&self, name: &str) -> &Member {
        self.mesh.members.iter().find(|member| member.node.name() == name).unwrap()
    }

    fn pod(&self, name: &str) -> &Pod {
        &self.member(name).pods[0]
    }

    fn path(&self, from: &str, to: &str) -> String {
        path(self.member(from), to).unwrap_or_default()
    }

    /// How many streams a machine has begun.
    fn streams(&self, name: &str) -> u64 {
        self.member(name).state().unwrap()["tls"]["called"].as_u64().unwrap()
    }
}

/// Where nothing but 443 gets out, the API is there as well.
fn serve_the_api_on_443(mesh: &Mesh) {
    let rules = "table inet lab-api {
chain in {
type nat hook prerouting priority dstnat;
tcp dport 443 redirect to :6443
}
}";
    let load = mesh.controller.node().command("nft").args(["-f", "-"]).input(rules.to_owned());
    load.stdout().unwrap();
}

#[test]
fn what_only_tcp_443_gets_out_of_reaches_everybody_and_shows_nothing() {
    let marker = marker();
    let only = Outbound::OnlyTcp(443);
    let begun = Instant::now();
    let shut = Shut::start(
        "tls443",
        &[
            ("one", Nat::EndpointIndependent, only),
            ("two", Nat::Symmetric, only),
            ("cone", Nat::FullCone, Outbound::Everything),
            ("each", Nat::Symmetric, Outbound::Everything),
        ],
    );
    println!("ready after {:?}", begun.elapsed());
    let router = shut.routers[0].node();
    let wires = [router.capture("eth0", &[&marker]).unwrap(), loopback(&shut, &marker)];
    let inside = shut.member("one").node.capture("hawser0", &[&marker]).unwrap();

    let mut failed = Vec::new();
    for (a, b) in [
        ("one", "node-1"),
        ("one", "node-2"),
        ("one", "node-3"),
        ("one", "cone"),
        ("one", "each"),
        ("one", "two"),
        ("two", "node-1"),
        ("two", "node-3"),
        ("two", "cone"),
        ("two", "each"),
    ] {
        for (from, to, v4) in [(a, b, true), (b, a, true), (a, b, false), (b, a, false)] {
            let at = shut.pod(to).address(v4).unwrap();
            let asked = Instant::now();
            let reached = shut.pod(from).namespace.ping_until(at, &marker, LIMIT);
            println!("{from} to {at} of {to}: {:?}, {:?}", shut.path(from, to), asked.elapsed());
            failed.extend(reached.is_err().then(|| format!("{from} to {at} of {to}")));
        }
    }

    assert!(failed.is_empty(), "{failed:?}");
    for one in ["one", "two"] {
        for listener in ["node-1", "node-2"] {
            assert_eq!(shut.path(one, listener), "tcp");
            assert_eq!(shut.path(listener, one), "tcp");
        }
        for other in ["node-3", "cone", "each"] {
            assert!(shut.path(one, other).starts_with("relay node-"), "{one} to {other}");
        }
        assert_eq!(shut.streams(one), 2);
    }
    assert_eq!(shut.streams("node-3"), 0, "whom datagrams reach calls nobody");
    for seen in wires.map(|wire| wire.seen()) {
        assert!(seen.frames > 100, "{seen:?}");
        promised(seen.marked() == 0, || format!("readable on its way: {seen:?}"));
    }
    assert!(inside.seen().marked() > 0, "the control: it is readable in the tunnel");
}

/// Between the bridges and the tunnel's port of a listener.
fn loopback(shut: &Shut, marker: &[u8]) -> e2e::lab::Capture {
    shut.member("node-1").node.capture("lo", &[marker]).unwrap()
}

#[test]
fn a_listener_that_dies_is_replaced_and_the_way_back_to_udp_loses_nothing() {
    let marker = marker();
    let only = Outbound::OnlyTcp(443);
    let mut shut = Shut::start("tlsdeath", &[("one", Nat::EndpointIndependent, only)]);
    for to in ["node-1", "node-2", "node-3"] {
        let at = shut.pod(to).address(true).unwrap();
        shut.pod("one").namespace.ping_until(at, &marker, LIMIT).unwrap();
    }
    let relayed = |shut: &Shut| {
        let paths = [shut.path("one", "node-3"), shut.path("node-3", "one")];
        (paths[0] == paths[1] && paths[0].starts_with("relay ")).then(|| paths[0].clone())
    };
    eventually("relayed", LIMIT, || relayed(&shut).is_some()).unwrap();
    let first = relayed(&shut).unwrap();
    let all = flows(&shut, &["node-3"], &marker);
    std::thread::sleep(Duration::from_secs(4));

    let killed = Instant::now();
    let dies = |member: &&mut Member| first == format!("relay {}", member.node.name());
    shut.mesh.members.iter_mut().find(dies).unwrap().kill_agent();
    eventually("another listener", LIMIT, || relayed(&shut).is_some_and(|now| now != first))
        .unwrap();
    println!("{first} replaced after {:?}", killed.elapsed());
    std::thread::sleep(Duration::from_millis(500));
    for flow in all {
        let report = flow.finish();
        println!("{first} died: {report:?}");
        promised(report.gap <= REPLACED, || format!("more than two seconds: {report:?}"));
    }

    let second = relayed(&shut).unwrap();
    let listener = second.trim_start_matches("relay ").to_owned();
    let all = flows(&shut, &["node-3", &listener], &marker);
    std::thread::sleep(Duration::from_millis(500));
    let mended = Instant::now();
    shut.routers[0].let_out(Outbound::Everything).unwrap();
    eventually("direct", LIMIT, || {
        ["node-3", &listener]
            .iter()
            .all(|to| shut.path("one", to) == "direct" && shut.path(to, "one") == "direct")
    })
    .unwrap();
    println!("direct {:?} after it could be", mended.elapsed());
    std::thread::sleep(Duration::from_millis(500));
    for flow in all {
        let report = flow.finish();
        println!("back: {report:?}");
        promised(report.lost == 0, || format!("the way back lost packets: {report:?}"));
    }
    eventually("no stream is left", UNNEEDED, || shut.streams("one") == 0).unwrap();
}

/// Between the pod behind the router and these, both ways and families.
fn flows(shut: &Shut, with: &[&str], marker: &[u8]) -> Vec<e2e::lab::Flow> {
    let pairs = with.iter().map(|name| (shut.pod("one"), shut.pod(name)));
    let ways = pairs.flat_map(|(one, other)| [(one, other), (other, one)]);
    ways.flat_map(|(from, to)| [true, false].map(|v4| flow(from, to, marker, v4))).collect()
}
