//! The leak matrix: every kind of packet × every fault × both families, and nothing in clear.
//!
//! ```text
//!   stranger ──┐ forged            one lab a fault; all streams at once, each with its marker
//!   node-1 ────┼──── switch        counted on the switch, which is both ends' underlay
//!   (fault)    └──── node-2        then without a guard: the same counts must be above zero
//! ```
//! `node-1` has the fault. What comes in forged is counted where it would arrive.

use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use ::cni::NodeFile;
use e2e::lab::{Capture, Cni, Node, eventually, until};
use e2e::mesh::{Mesh, Pod};
use e2e::oracle::{marker, promised};
use ipnet::IpNet;
use rustix::process::Signal;

use crate::backends::ask_for;

use self::traffic::{Row, Stream, Traffic, Way};

#[path = "leaks/traffic.rs"]
mod traffic;

const LIMIT: Duration = Duration::from_secs(20);
const TUNNEL: &str = "hawser0";
/// Long enough for a packet of every stream, many times over.
const A_WHILE: Duration = Duration::from_millis(500);
/// Addresses of a Service, and of a stranger who says he is of the mesh.
const SERVICE: [&str; 2] = ["10.96.0.10", "fd96::10"];
const FORGED: [&str; 2] = ["10.42.77.7", "fd42:0:0:77::7"];
const DISCARD: u16 = 9;
/// What needs a pod of node-1.
const OF_PODS: [Row; 6] =
    [Row::Pod, Row::Leaving, Row::Fragments, Row::Error, Row::Service, Row::ForgedToPod];

/// A mesh of two, a stranger, and the watch over what is between them.
struct Stage {
    underlay: Capture,
    pod: Capture,
    /// The node's own addresses in the mesh, and who waits there.
    own: [(IpAddr, UdpSocket); 2],
    streams: Vec<Stream>,
    stranger: Node,
    mesh: Mesh,
}

impl Stage {
    fn new(name: &str) -> Self {
        let mut mesh = Mesh::start(name, 2).unwrap();
        mesh.add_pods(2).unwrap();
        let reach = mesh.reach(&marker(), LIMIT);
        assert!(reach.failures().is_empty(), "{}", reach.failures().join("\n"));
        let both = |row| [true, false].map(|v4| Stream::new(row, v4));
        let streams: Vec<Stream> = Row::ALL.into_iter().flat_map(both).collect();
        let markers: Vec<&[u8]> = streams.iter().map(|stream| &stream.marker[..]).collect();
        let stranger = stranger(&mesh);
        let pod = Capture::device(&mesh.members[0].pods[0].namespace, "eth0", &markers).unwrap();
        Self {
            underlay: mesh.lab.switch().unwrap().capture(&markers).unwrap(),
            own: own_sockets(&mesh),
            pod,
            streams,
            stranger,
            mesh,
        }
    }

    fn node(&self) -> &Node {
        &self.mesh.members[0].node
    }

    fn run(&self, program: &str, args: &[&str]) {
        self.node().command(program).args(args).stdout().unwrap();
    }

    /// Starts all streams, and waits until each that may pass is seen in the tunnel.
    fn traffic(&self) -> Traffic {
        self.service();
        let ways = self.streams.iter().map(|stream| (stream.clone(), self.way(stream)));
        Traffic::start(&ways.collect::<Vec<_>>()).unwrap()
    }

    /// The same, and waits until each stream that may pass is in the tunnel.
    fn flowing(&self) -> Traffic {
        let markers: Vec<&[u8]> = self.streams.iter().map(|stream| &stream.marker[..]).collect();
        let tunnel = self.node().capture(TUNNEL, &markers).unwrap();
        let traffic = self.traffic();
        let passes = |(stream, hits): (&Stream, &u64)| stream.row.comes_in() || *hits > 0;
        let all = || self.streams.iter().zip(&tunnel.seen().hits).all(passes);
        eventually("every stream in the tunnel", LIMIT, all).unwrap();
        traffic
    }

    fn way(&self, stream: &Stream) -> Way<'_> {
        let (near, far) = (&self.mesh.members[0], &self.mesh.members[1]);
        let at = usize::from(!stream.v4);
        let of = |pod: &Pod| pod.address(stream.v4).unwrap();
        let (from, source, to) = match stream.row {
            Row::Pod | Row::Fragments | Row::Error => {
                (&near.pods[0].namespace, None, of(&far.pods[0]))
            }
            Row::Leaving => (&near.pods[1].namespace, None, of(&far.pods[0])),
            Row::Service => (&near.pods[0].namespace, None, SERVICE[at].parse().unwrap()),
            Row::Host => (near.node.namespace(), None, of(&far.pods[0])),
            Row::HostNetwork => {
                let own = near.node.address().both()[at];
                (near.node.namespace(), Some(own), of(&far.pods[0]))
            }
            Row::Return => (&far.pods[0].namespace, None, of(&near.pods[0])),
            Row::ForgedToPod => (self.stranger.namespace(), Some(forged(at)), of(&near.pods[0])),
            Row::ForgedToHost => (self.stranger.namespace(), Some(forged(at)), self.own[at].0),
        };
        Way { from, source, to }
    }

    /// What kube-proxy would do.
    fn service(&self) {
        let of_family = |(at, family): (usize, &&str)| {
            let to = self.mesh.members[1].pods[0].address(at == 0).unwrap();
            let chain = "type nat hook prerouting priority -100";
            format!(
                "add table {family} service\nadd chain {family} service pre {{ {chain}; }}\n\
                 add rule {family} service pre {family} daddr {} dnat to {to}\n",
                SERVICE[at]
            )
        };
        let rules: String = ["ip", "ip6"].iter().enumerate().map(of_family).collect();
        self.node().command("nft").args(["-f", "-"]).input(rules).stdout().unwrap();
    }

    /// Packets in clear, for each stream.
    fn clear(&self) -> Vec<u64> {
        let (underlay, pod) = (self.underlay.seen().hits, self.pod.seen().hits);
        let cell = |(at, stream): (usize, &Stream)| match stream.row {
            Row::ForgedToPod => pod[at],
            Row::ForgedToHost => self.own_received(stream),
            _ => underlay[at],
        };
        self.streams.iter().enumerate().map(cell).collect()
    }

    fn own_received(&self, stream: &Stream) -> u64 {
        let socket = &self.own[usize::from(!stream.v4)].1;
        let mut buffer = [0; 2048];
        let mut count = 0;
        while let Ok(length) = socket.recv(&mut buffer) {
            count += u64::from(buffer[..length] == stream.marker);
        }
        count
    }

    /// Fails with every cell that isn't zero.
    fn nothing_in_clear(&self, fault: &str) {
        self.nothing_in_clear_but(fault, &[]);
    }

    fn nothing_in_clear_but(&self, fault: &str, open: &[Row]) {
        let cells = self.streams.iter().zip(self.clear());
        let cells = cells.filter(|(stream, _)| !open.contains(&stream.row));
        let (all, bad): (Vec<_>, Vec<_>) = cells.partition(|(_, clear)| *clear == 0);
        let bad: Vec<_> =
            bad.iter().map(|(s, n)| format!("{:?} v4={}: {n}", s.row, s.v4)).collect();
        promised(bad.is_empty(), || format!("{fault}, packets in clear: {bad:?}"));
        println!("{fault}: {} cells, 0 packets in clear", all.len());
    }

    fn all_reach(&self) {
        let reach = self.mesh.reach(&marker(), LIMIT);
        assert!(reach.failures().is_empty(), "{}", reach.failures().join("\n"));
    }

    /// As a reboot leaves it: no agent, no tunnel, no route, no table.
    fn wipe(&mut self) {
        self.mesh.members[0].kill_agent();
        let _ = self.node().command("ip").args(["link", "del", TUNNEL]).output();
        let _ = self.node().command("nft").args(["delete", "table", "inet", "hawser"]).output();
        self.flush_routes();
    }

    /// With the guard's rules; local addresses are looked for first again.
    fn flush_routes(&self) {
        for family in ["-4", "-6"] {
            self.run("ip", &[family, "route", "flush", "proto", "72"]);
            self.run("ip", &[family, "rule", "flush", "proto", "72"]);
            let ip = |args: &[&str]| self.node().command("ip").arg(family).args(args).output();
            let _ = ip(&["rule", "add", "pref", "0", "lookup", "local", "proto", "kernel"]);
            let _ = ip(&["rule", "del", "pref", "2"]);
        }
    }

    /// Without a guard every stream must be seen, or its zero proved nothing.
    fn control(&mut self, gone: &[Row]) {
        self.wipe();
        self.all_leak(gone);
    }

    fn all_leak(&self, gone: &[Row]) {
        // The node's own addresses went with the tunnel, and a forger needs somebody to reach.
        for (own, _) in &self.own {
            self.run("ip", &["address", "replace", &IpNet::from(*own).to_string(), "dev", "lo"]);
        }
        let mut seen = vec![0; self.streams.len()];
        let expected = |stream: &Stream| stream.row != Row::Return && !gone.contains(&stream.row);
        let found = until(LIMIT, || {
            for (total, now) in seen.iter_mut().zip(self.clear()) {
                *total += now;
            }
            let mut cells = self.streams.iter().zip(&seen);
            cells.all(|(stream, clear)| !expected(stream) || *clear > 0).then_some(())
        });
        let hidden = self.streams.iter().zip(&seen).filter(|(s, n)| expected(s) && **n == 0);
        let hidden: Vec<_> = hidden.map(|(stream, _)| (stream.row, stream.v4)).collect();
        assert!(found.is_some(), "without a guard these were not seen: {hidden:?}");
    }
}

/// A machine that routes the mesh to node-1 and has an address of it.
fn stranger(mesh: &Mesh) -> Node {
    let stranger = mesh.lab.node("stranger").unwrap();
    let via = mesh.members[0].node.address();
    for (at, (pool, length)) in [("10.42.0.0/16", 32), ("fd42::/48", 128)].into_iter().enumerate() {
        let (via, forged) = (via.both()[at], format!("{}/{length}", FORGED[at]));
        let ip = |args: &[&str]| stranger.command("ip").args(args).stdout().unwrap();
        ip(&["address", "add", &forged, "dev", "lo", "nodad"][..if at == 0 { 5 } else { 6 }]);
        ip(&["route", "add", pool, "via", &via.to_string()]);
    }
    stranger
}

fn forged(at: usize) -> IpAddr {
    FORGED[at].parse().unwrap()
}

/// Where forged datagrams to the node itself would arrive.
fn own_sockets(mesh: &Mesh) -> [(IpAddr, UdpSocket); 2] {
    let node = &mesh.members[0].node;
    let subnets = NodeFile::read(&node.state()).unwrap().subnets;
    [true, false].map(|v4| {
        let subnet = subnets.iter().find(|subnet| subnet.addr().is_ipv4() == v4).unwrap();
        let own = api::first_host(*subnet);
        let socket = node.namespace().run(move || UdpSocket::bind((own, DISCARD)).unwrap());
        socket.set_nonblocking(true).unwrap();
        (own, socket)
    })
}

/// One fault under all streams: nothing in clear, all is well again, and the control.
fn holds(name: &str, fault: impl FnOnce(&mut Stage)) {
    let mut stage = Stage::new(name);
    let _traffic = stage.flowing();

    fault(&mut stage);
    std::thread::sleep(A_WHILE);
    stage.nothing_in_clear(name);
    stage.all_reach();

    stage.nothing_in_clear(name);
    stage.control(&[]);
}

fn restart(stage: &mut Stage, flags: &[&str]) {
    std::thread::sleep(A_WHILE);
    let member = &mut stage.mesh.members[0];
    member.start_agent_with(flags).unwrap();
    member.wait_until_ready(LIMIT).unwrap();
}

#[test]
fn nothing_in_clear_while_the_agent_is_killed() {
    holds("leakkill", |stage| {
        stage.mesh.members[0].kill_agent();
        restart(stage, &[]);
    });
}

#[test]
fn nothing_in_clear_while_the_agent_crashes() {
    holds("leakcrash", |stage| {
        stage.mesh.members[0].agent().unwrap().signal(Signal::SEGV).unwrap();
        restart(stage, &[]);
    });
}

#[test]
fn nothing_in_clear_while_the_agent_is_restarted_and_upgraded() {
    holds("leakupgrade", |stage| {
        for flags in [&[][..], &["--engine", "boringtun"]] {
            stage.mesh.members[0].agent().unwrap().signal(Signal::TERM).unwrap();
            restart(stage, flags);
            stage.all_reach();
        }
    });
}

#[test]
fn nothing_in_clear_while_keys_rotate() {
    holds("leakrotate", |stage| {
        let rotate = stage.mesh.controller.hawser().args(["keys", "rotate", "--yes"]);
        assert!(rotate.stdout().unwrap().contains("completed"));
    });
}

/// Preferred opens a device for what others send in clear, and sends nothing so itself.
#[test]
fn nothing_in_clear_while_the_backend_changes() {
    holds("leakbackend", |stage| {
        for (encryption, backend) in
            [("Preferred", "vxlan"), ("Preferred", "direct"), ("Required", "wireguard")]
        {
            ask_for(&stage.mesh, encryption, backend).unwrap();
            std::thread::sleep(Duration::from_secs(1));
            stage.nothing_in_clear(backend);
        }
    });
}

#[test]
fn nothing_in_clear_while_the_api_is_away_and_the_agent_restarts() {
    holds("leakaway", |stage| {
        stage.mesh.controller.kill();
        stage.mesh.members[0].kill_agent();
        restart(stage, &[]);
    });
}

#[test]
fn nothing_in_clear_while_the_tunnel_is_deleted_or_set_down() {
    holds("leaktun", |stage| {
        for args in [&["link", "del", TUNNEL][..], &["link", "set", TUNNEL, "down"]] {
            stage.run("ip", args);
            std::thread::sleep(A_WHILE);
        }
    });
}

#[test]
fn nothing_in_clear_from_a_pod_that_is_being_deleted() {
    let mut stage = Stage::new("leakdel");
    let _traffic = stage.flowing();

    let pod = stage.mesh.members[0].pods.remove(1);
    let deleted = Cni::new(stage.node()).del(&pod.container, &pod.namespace).unwrap();
    std::thread::sleep(A_WHILE);

    assert!(deleted.ok, "{}", deleted.json);
    stage.nothing_in_clear("a pod is deleted");
    stage.control(&[Row::Leaving]);
}

/// Both layers go in turn, while no agent can repair them.
#[test]
fn nothing_in_clear_while_either_layer_of_the_guard_is_gone_and_no_agent_runs() {
    let mut stage = Stage::new("leaklayer");
    let _traffic = stage.flowing();

    stage.mesh.members[0].kill_agent();
    stage.flush_routes();
    std::thread::sleep(A_WHILE);
    stage.nothing_in_clear("the table alone");
    restart(&mut stage, &[]);
    stage.all_reach();
    stage.mesh.members[0].kill_agent();
    stage.run("nft", &["delete", "table", "inet", "hawser"]);
    std::thread::sleep(A_WHILE);
    stage.nothing_in_clear("the routes alone");

    stage.control(&[]);
}

#[test]
fn nothing_in_clear_while_an_agent_repairs_either_layer() {
    let mut stage = Stage::new("leakrepair");
    let _traffic = stage.flowing();

    stage.flush_routes();
    std::thread::sleep(A_WHILE);
    stage.nothing_in_clear("the routes are flushed");
    stage.run("nft", &["delete", "table", "inet", "hawser"]);
    std::thread::sleep(A_WHILE);
    stage.nothing_in_clear("the table is deleted");
    stage.all_reach();

    stage.control(&[]);
}

/// The machine has lost everything but its disk, and programs of the node run before the agent.
#[test]
fn nothing_in_clear_after_a_reboot_once_the_guard_is_put_back() {
    let mut stage = Stage::new("leakboot");
    stage.wipe();
    let state = stage.node().state().display().to_string();
    stage.run("hawser-agent", &["guard", "--state", &state]);
    let _traffic = stage.traffic();
    std::thread::sleep(A_WHILE);
    stage.nothing_in_clear("before the agent");
    restart(&mut stage, &[]);
    stage.all_reach();

    stage.nothing_in_clear("from the boot on");
    stage.control(&[]);
}

#[test]
fn only_an_uninstall_takes_the_guard_away() {
    let mut stage = Stage::new("leakuninst");
    let _traffic = stage.flowing();

    stage.mesh.members[0].agent().unwrap().signal(Signal::TERM).unwrap();
    std::thread::sleep(A_WHILE);
    stage.nothing_in_clear("an agent that was stopped");
    stage.mesh.members[0].kill_agent();
    let state = stage.node().state().display().to_string();
    stage.run("hawser-agent", &["uninstall", "--state", &state]);

    // The pods lose their devices first, so that nothing of theirs is left to leak.
    let others: Vec<_> = Row::ALL.into_iter().filter(|row| !OF_PODS.contains(row)).collect();
    stage.nothing_in_clear_but("the guard going away", &others);
    stage.all_leak(&OF_PODS);
}
