//! The engine of our own against the others' WireGuard: what a session must carry and survive.
//!
//! ```text
//!   laptop: wireguard-go, boringtun-cli or gotatun
//!      └── underlay ── node-1 (pod), node-2 (pod): hawser-agent --engine native
//! ```

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use e2e::lab::{Flow, Namespace, Node, Process, eventually, transfer};
use e2e::mesh::{Alone, Pod, add_pods, pods, wait_until_ready};
use e2e::oracle::{Oracles, marker, promised};
use jiff::Timestamp;
use rustix::process::Signal;
use serde_json::Value;

use crate::laptop::{
    BORINGTUN, GOTATUN, LIMIT, Laptop, PORT, Program, WIREGUARD_GO, preshared, public_key, reaches,
};

const MIB: usize = 1 << 20;

/// Nodes with a pod each, on the engine of our own.
pub(crate) fn native(name: &str, nodes: usize) -> Alone {
    let mut mesh = Alone::prepare(name, nodes).unwrap();
    for member in &mut mesh.members {
        member.start_agent_with(["--engine", "native"]).unwrap();
    }
    wait_until_ready(&mut mesh.members).unwrap();
    add_pods(&mesh.lab, &mut mesh.members, 1).unwrap();
    mesh
}

/// One node, its pod and a laptop that have spoken.
fn pair(name: &str, program: Program) -> (Alone, Laptop) {
    let mesh = native(name, 1);
    let laptop = Laptop::start(&mesh.lab, program, 7);
    laptop.connect(&mesh.members, None);
    mesh.write(&[laptop.as_peer(true, None)]).unwrap();
    reaches(laptop.node.namespace(), &pods(&mesh.members)[0].addresses, b"first");
    (mesh, laptop)
}

/// Streams, numbered datagrams and echoes, both ways, over both families.
fn traffic(program: Program, with_preshared: bool, laptop_begins: bool) {
    let marker = marker();
    let mesh = native("native", 1);
    let oracles = Oracles::watch(&mesh.lab, &marker).unwrap();
    let laptop = Laptop::start(&mesh.lab, program, 7);
    let key = with_preshared.then(|| preshared(&laptop.node, "preshared"));
    laptop.connect(&mesh.members, key.as_ref());
    let tunnel = laptop.node.capture(&laptop.device, &[&marker]).unwrap();
    mesh.write(&[laptop.as_peer(!laptop_begins, key.as_ref())]).unwrap();
    let pod = pods(&mesh.members)[0];
    let far = laptop.node.namespace();

    if laptop_begins {
        reaches(far, &pod.addresses, &marker);
    }
    reaches(&pod.namespace, &laptop.addresses, &marker);
    for (to_laptop, to_pod) in laptop.addresses.iter().zip(in_order(pod)) {
        transfer(&pod.namespace, (far, *to_laptop), 16 * MIB, LIMIT).unwrap();
        transfer(far, (&pod.namespace, to_pod), 16 * MIB, LIMIT).unwrap();
        let outwards = Flow::start(&pod.namespace, (far, *to_laptop), 500, &marker).unwrap();
        let inwards = Flow::start(far, (&pod.namespace, to_pod), 500, &marker).unwrap();
        std::thread::sleep(Duration::from_secs(1));
        for report in [outwards.finish(), inwards.finish()] {
            assert!(report.received > 0, "{report:?}");
            assert_eq!((report.lost, report.duplicated, report.reordered), (0, 0, 0), "{report:?}");
        }
    }

    oracles.judge(&tunnel.seen()).unwrap();
}

/// IPv4 first.
fn in_order(pod: &Pod) -> [IpAddr; 2] {
    [true, false].map(|v4| pod.address(v4).unwrap())
}

#[test]
fn wireguard_go_carries_streams_and_datagrams() {
    traffic(WIREGUARD_GO, false, true);
}

#[test]
fn wireguard_go_carries_them_with_a_preshared_key_when_called() {
    traffic(WIREGUARD_GO, true, false);
}

#[test]
fn boringtun_carries_streams_and_datagrams_when_called() {
    traffic(BORINGTUN, false, false);
}

#[test]
fn boringtun_carries_them_with_a_preshared_key() {
    traffic(BORINGTUN, true, true);
}

#[test]
fn gotatun_carries_streams_and_datagrams() {
    traffic(GOTATUN, false, true);
}

#[test]
fn gotatun_carries_them_with_a_preshared_key_when_called() {
    traffic(GOTATUN, true, false);
}

/// Three of ten frames are lost, both ways, from before the handshake to the end.
fn lossy(program: Program) {
    const SILENCE: Duration = Duration::from_secs(10);
    let limit = Duration::from_secs(90);
    let mesh = native("lossy", 1);
    let laptop = Laptop::start(&mesh.lab, program, 7);
    mesh.members[0].node.lose(30).unwrap();
    laptop.node.lose(30).unwrap();
    laptop.connect(&mesh.members, None);
    mesh.write(&[laptop.as_peer(true, None)]).unwrap();
    let pod = pods(&mesh.members)[0];
    let far = laptop.node.namespace();
    for end in [far, &pod.namespace] {
        // Since Linux 6.15; where it is missing, the test only takes longer.
        let _ = end.sysctl("net/ipv4/tcp_rto_max_ms", "1000");
    }

    for (to_laptop, to_pod) in laptop.addresses.iter().zip(in_order(pod)) {
        pod.namespace.ping_until(*to_laptop, b"lossy", limit).unwrap();
        // Another connection, another chance: TCP's pauses double on such a path.
        eventually("a stream gets through", limit, || {
            transfer(far, (&pod.namespace, to_pod), 8 << 10, SILENCE).is_ok()
        })
        .unwrap();
    }
}

#[test]
fn wireguard_go_is_understood_through_30_percent_of_loss() {
    lossy(WIREGUARD_GO);
}

#[test]
fn boringtun_is_understood_through_30_percent_of_loss() {
    lossy(BORINGTUN);
}

#[test]
fn gotatun_is_understood_through_30_percent_of_loss() {
    lossy(GOTATUN);
}

/// Where the node believes the laptop to be.
fn endpoint(mesh: &Alone) -> Option<SocketAddr> {
    let state = mesh.members[0].state().ok()?;
    let peers = state["peers"].as_array()?.clone();
    let laptop = peers.into_iter().find(|peer| peer["name"] == "laptop7")?;
    laptop["endpoint"].as_str()?.parse().ok()
}

/// Gives WireGuard's datagrams another source port, as a NAT does that forgot its mapping.
fn behind_nat(node: &Node, port: u16) {
    let chain = "type nat hook postrouting priority 100";
    let rules = format!(
        "add table inet roams\nadd chain inet roams post {{ {chain}; }}\n\
         add rule inet roams post udp sport {PORT} masquerade to :{port}\n"
    );
    node.command("nft").args(["-f", "-"]).input(rules).stdout().unwrap();
}

/// Another port, another address, the other family: the node follows what is authentic.
fn roams(program: Program) {
    let (mesh, laptop) = pair("roams", program);
    let pod = pods(&mesh.members)[0];
    let far = laptop.node.namespace();
    let old = laptop.node.address();
    let follows = |to: SocketAddr| {
        // Only who has moved knows of it.
        reaches(far, &pod.addresses, b"moved");
        reaches(&pod.namespace, &laptop.addresses, b"found");
        eventually(&format!("the node sends to {to}"), LIMIT, || endpoint(&mesh) == Some(to))
            .unwrap();
    };
    follows(SocketAddr::new(old.v4.into(), PORT));

    behind_nat(&laptop.node, 40404);
    follows(SocketAddr::new(old.v4.into(), 40404));

    let moved = "10.99.1.77".parse().unwrap();
    far.sysctl("net/ipv4/conf/all/promote_secondaries", "1").unwrap();
    far.netlink(async move |net| net.add_address("eth0", moved, 24).await).unwrap();
    let gone = format!("{}/24", old.v4);
    laptop.node.command("ip").args(["address", "del", &gone, "dev", "eth0"]).stdout().unwrap();
    follows(SocketAddr::new(moved, 40404));

    // Peers that are there cannot be changed in boringtun.
    let key = public_key(&mesh.members[0].node);
    laptop.wg(&["peer", &key, "remove"]).stdout().unwrap();
    laptop.connect_over(&mesh.members, None, |at| at.v6.into());
    follows(SocketAddr::new(old.v6.into(), 40404));
}

#[test]
fn wireguard_go_roams() {
    roams(WIREGUARD_GO);
}

#[test]
fn boringtun_roams() {
    roams(BORINGTUN);
}

#[test]
fn gotatun_roams() {
    roams(GOTATUN);
}

/// A session's key is replaced after 120 seconds: all of them wait for that at once.
#[test]
fn a_real_rekey_with_each_of_the_others_loses_no_packet() {
    const REKEY_AFTER: Duration = Duration::from_secs(120);
    const SETTLED: Duration = Duration::from_secs(5);
    let mesh = native("rekey", 2);
    let programs =
        [(WIREGUARD_GO, true), (BORINGTUN, true), (GOTATUN, true), (WIREGUARD_GO, false)];
    let numbered = (7..).zip(programs);
    let laptops: Vec<_> = numbered
        .map(|(number, (program, begins))| (Laptop::start(&mesh.lab, program, number), begins))
        .collect();
    let peers: Vec<_> =
        laptops.iter().map(|(laptop, begins)| laptop.as_peer(!begins, None)).collect();
    mesh.write(&peers).unwrap();
    let pods = pods(&mesh.members);
    for (laptop, begins) in &laptops {
        laptop.connect(&mesh.members, None);
        if *begins {
            reaches(laptop.node.namespace(), &pods[0].addresses[..1], b"begin");
        }
        reaches(&pods[0].namespace, &laptop.addresses[..1], b"begin");
    }
    reaches(&pods[0].namespace, &pods[1].addresses[..1], b"begin");
    let ends: Vec<(&Namespace, IpAddr)> = laptops
        .iter()
        .map(|(laptop, _)| (laptop.node.namespace(), laptop.addresses[0]))
        .chain([(&pods[1].namespace, pods[1].addresses[0])])
        .collect();
    let near = (&pods[0].namespace, pods[0].addresses[0]);
    let flow = |(namespace, address): (&Namespace, IpAddr)| {
        Flow::start(near.0, (namespace, address), 50, b"rekey").unwrap()
    };
    let flows: Vec<_> = ends.into_iter().map(flow).collect();
    // All of them send back as well: without that the far end would never begin a handshake.
    let answer_for = |time: Duration| {
        let until = Instant::now() + time;
        while Instant::now() < until {
            for (laptop, _) in &laptops {
                let _ = laptop.node.namespace().ping(near.1, b"answer");
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    };
    answer_for(SETTLED);
    let first = handshakes(&mesh);
    answer_for(REKEY_AFTER.saturating_sub(3 * SETTLED));
    let still = handshakes(&mesh);
    answer_for(4 * SETTLED);
    let second = handshakes(&mesh);

    for flow in flows {
        let report = flow.finish();
        promised((report.lost, report.duplicated) == (0, 0), || format!("{report:?}"));
    }
    assert_eq!(first.len(), laptops.len() + 1);
    for (peer, at) in first {
        assert!(still[&peer] - at <= 1, "{peer}: a handshake before its time");
        assert!(second[&peer] - at >= 100, "{peer}: no handshake when it was time");
    }
}

/// The second in which the first node last agreed on keys with each of its peers, as it says itself
/// (boringtun tells `wg` how long ago that was and not when).
fn handshakes(mesh: &Alone) -> BTreeMap<String, i64> {
    let state = mesh.members[0].state().unwrap();
    let peers = state["peers"].as_array().unwrap().iter();
    let second =
        |peer: &Value| -> Timestamp { peer["lastHandshake"].as_str().unwrap().parse().unwrap() };
    let name = |peer: &Value| peer["name"].as_str().unwrap().to_owned();
    peers.map(|peer| (name(peer), second(peer).as_second())).collect()
}

/// `tcpdump -vv` of what arrives at a device, read when it ends.
struct Dump(Process);

impl Dump {
    fn start(namespace: &Namespace, device: &str, dir: &Path) -> Self {
        let tcpdump = namespace.command("tcpdump", dir);
        let tcpdump = tcpdump.args(["-i", device, "-Q", "in", "-n", "-vv", "-l", "-B", "65536"]);
        let mut process = tcpdump.spawn().unwrap();
        process.wait_for_log("listening on", LIMIT).unwrap();
        Self(process)
    }

    /// Nothing that arrived was wrong, and checksums were among it.
    fn judge(mut self) {
        std::thread::sleep(Duration::from_millis(300));
        self.0.signal(Signal::INT).unwrap();
        self.0.wait(LIMIT).unwrap();
        let text = self.0.log();
        let bad = ["incorrect", " bad ", "[bad", "(bad", "truncated", "[|", "wrong"];
        let lines: Vec<_> =
            text.lines().filter(|line| bad.iter().any(|word| line.contains(word))).collect();
        assert!(lines.is_empty(), "{} lines such as {:?}", lines.len(), lines[0]);
        for right in ["(correct)", "[udp sum ok]", "proto TCP", "next-header TCP"] {
            assert!(text.contains(right), "nothing with {right:?} arrived");
        }
    }
}

/// What the kernel would leave to the hardware is done here: a capture sees finished packets.
fn without_offload(mesh: &Alone) {
    for member in &mesh.members {
        let devices = member.node.namespace().netlink(async |net| net.devices().await).unwrap();
        let own = ["lo", "eth0", "hawser0"];
        for device in devices.iter().filter(|device| !own.contains(&device.as_str())) {
            let ethtool = member.node.command("ethtool");
            ethtool.args(["-K", device, "tx", "off"]).stdout().unwrap();
        }
    }
}

fn exchange(from: &Namespace, to: &Namespace, targets: &[IpAddr]) {
    for &target in targets {
        transfer(from, (to, target), 4 * MIB, LIMIT).unwrap();
        assert_eq!(echoed(from, (to, target), 700), 700);
        from.ping_until(target, &[0x5a; 900], LIMIT).unwrap();
    }
}

#[test]
fn every_length_and_checksum_is_right_where_it_arrives() {
    let (mesh, laptop) = pair("dump", BORINGTUN);
    without_offload(&mesh);
    let pod = pods(&mesh.members)[0];
    let far = laptop.node.namespace();
    let at_pod = Dump::start(&pod.namespace, "eth0", mesh.members[0].node.dir());
    let at_laptop = Dump::start(far, &laptop.device, laptop.node.dir());

    exchange(&pod.namespace, far, &laptop.addresses);
    exchange(far, &pod.namespace, &pod.addresses);

    at_pod.judge();
    at_laptop.judge();
}

#[test]
fn every_length_and_checksum_is_right_between_two_nodes() {
    let mesh = native("dump2", 2);
    without_offload(&mesh);
    let pods = pods(&mesh.members);
    reaches(&pods[0].namespace, &pods[1].addresses, b"first");
    let dumps =
        [0, 1].map(|at| Dump::start(&pods[at].namespace, "eth0", mesh.members[at].node.dir()));

    exchange(&pods[0].namespace, &pods[1].namespace, &pods[1].addresses);
    exchange(&pods[1].namespace, &pods[0].namespace, &pods[0].addresses);

    dumps.into_iter().for_each(Dump::judge);
}

/// Sends one datagram and returns the length of what came back.
fn echoed(from: &Namespace, to: (&Namespace, IpAddr), length: usize) -> usize {
    let target = SocketAddr::new(to.1, 0);
    let server = to.0.run(move || UdpSocket::bind(target)).unwrap();
    let client = connected(from, server.local_addr().unwrap());
    server.set_read_timeout(Some(LIMIT)).unwrap();
    let sent: Vec<u8> = (0..length).map(|at| (at * 7) as u8).collect();
    let mut buffer = vec![0; 1 << 16];
    client.send(&sent).unwrap();
    let (arrived, back) = server.recv_from(&mut buffer).unwrap();
    assert!(buffer[..arrived] == sent, "other bytes than were sent");
    server.send_to(&buffer[..arrived], back).unwrap();
    let returned = client.recv(&mut buffer).unwrap();
    assert!(buffer[..returned] == sent, "other bytes than were sent");
    returned
}

fn connected(from: &Namespace, to: SocketAddr) -> UdpSocket {
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = from.run(move || {
        let socket = UdpSocket::bind(any)?;
        socket.connect(to)?;
        std::io::Result::Ok(socket)
    });
    let socket = socket.unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    socket
}

#[test]
fn datagrams_larger_than_the_tunnel_come_in_fragments_and_whole() {
    let (mesh, laptop) = pair("large", WIREGUARD_GO);
    let pod = pods(&mesh.members)[0];
    let far = laptop.node.namespace();

    for length in [1, 1_371, 1_372, 1_373, 1_393, 8_000, 40_000, 65_000] {
        for (to_laptop, to_pod) in laptop.addresses.iter().zip(in_order(pod)) {
            assert_eq!(echoed(&pod.namespace, (far, *to_laptop), length), length);
            assert_eq!(echoed(far, (&pod.namespace, to_pod), length), length);
        }
    }
}

/// A port that nobody listens on answers, through the tunnel.
fn refused(from: &Namespace, to: IpAddr) {
    let socket = connected(from, SocketAddr::new(to, 9));
    socket.send(b"anybody?").unwrap();
    let answer = socket.recv(&mut [0; 16]).unwrap_err();
    assert_eq!(answer.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[test]
fn icmp_errors_come_back_through_the_tunnel() {
    let mesh = native("icmp", 2);
    let pods = pods(&mesh.members);
    reaches(&pods[0].namespace, &pods[1].addresses, b"first");

    for &to in &pods[1].addresses {
        refused(&pods[0].namespace, to);
        // One hop to the node, one through the tunnel, and the third is the pod.
        let (hops, said) = ("2", to.to_string());
        let ping = pods[0].namespace.command("ping", mesh.members[0].node.dir());
        let output = ping.args(["-n", "-c", "1", "-W", "5", "-t", hops, &said]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let node = if to.is_ipv4() { "10.42.2.1" } else { "fd42:0:0:2::1" };
        let late = ["Time to live exceeded", "Time exceeded: Hop limit"];
        assert!(text.contains(node) && late.iter().any(|word| text.contains(word)), "{text}");
    }
}

/// Traffic classes of what arrives on the cable while a pod pings another with `class`.
fn outer_classes(mesh: &Alone, class: &str) -> String {
    let far = mesh.members[1].node.command("tcpdump");
    let flags = ["-i", "eth0", "-Q", "in", "-n", "-v", "-l", "--immediate-mode", "udp"];
    let mut dump = far.args(flags).spawn().unwrap();
    dump.wait_for_log("listening on", LIMIT).unwrap();
    let pods = pods(&mesh.members);
    let ping = pods[0].namespace.command("ping", mesh.members[0].node.dir());
    let to = pods[1].address(true).unwrap().to_string();
    ping.args(["-c", "3", "-i", "0.05", "-Q", class, &to]).stdout().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    dump.log()
}

#[test]
fn the_outer_class_is_the_users_and_congestion_marks_are_the_packets() {
    for (dscp, seen) in [("zero", "tos 0x2,"), ("copy", "tos 0xba,"), ("10", "tos 0x2a,")] {
        let mut mesh = Alone::prepare("dscp", 2).unwrap();
        for member in &mut mesh.members {
            member.start_agent_with(["--dscp", dscp]).unwrap();
        }
        wait_until_ready(&mut mesh.members).unwrap();
        add_pods(&mesh.lab, &mut mesh.members, 1).unwrap();
        let pods = pods(&mesh.members);
        reaches(&pods[0].namespace, &pods[1].addresses, b"first");

        let classes = outer_classes(&mesh, "0xba");

        assert_eq!(classes.matches(seen).count(), 3, "{dscp}: {classes}");
    }
}
