//! A laptop with somebody else's WireGuard joins by what `hawser peer create` wrote: `wg-quick`
//! brings it up as it is.
//!
//! ```text
//!   laptop: wg-quick, wireguard-go ── NAT ──┬── node-1 (entry), pod
//!                                           ├── node-2 (entry), pod
//!                                           └── node-3, which it never calls, pod
//! ```

use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use e2e::lab::{Node, eventually};
use e2e::mesh::{Controller, Mesh};
use e2e::oracle::{Oracles, marker};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(20);
/// Until everybody's packets go to the node that the laptop has changed to.
const MOVES: Duration = Duration::from_secs(6);
/// From the command to the last packet of a peer that is deleted.
const OUT: Duration = Duration::from_secs(2);

/// A device that `wg-quick` made of a file.
struct Tunnel<'a> {
    laptop: &'a Node,
    file: PathBuf,
}

impl<'a> Tunnel<'a> {
    fn up(laptop: &'a Node, file: &std::path::Path) -> Self {
        let tunnel = Self { laptop, file: file.to_owned() };
        let up = tunnel.wg_quick("up").output().unwrap();
        assert!(up.status.success(), "{}", String::from_utf8_lossy(&up.stderr));
        tunnel
    }

    fn wg_quick(&self, verb: &str) -> e2e::lab::Command {
        self.laptop.command("wg-quick").arg(verb).arg(&self.file)
    }
}

impl Drop for Tunnel<'_> {
    /// Its program ends with the device.
    fn drop(&mut self) {
        let _ = self.wg_quick("down").output();
    }
}

/// What the CLI says: its exit code and everything printed.
fn hawser(controller: &Controller, args: &[&str]) -> (Option<i32>, String) {
    let output = controller.hawser().args(args).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

fn json(controller: &Controller, args: &[&str]) -> Value {
    let text = controller.hawser().args(args).args(["-o", "json"]).stdout().unwrap();
    serde_json::from_str(&text).unwrap()
}

fn addresses(controller: &Controller) -> Vec<IpAddr> {
    let list = json(controller, &["peer", "list"]);
    let nets = list["items"][0]["addresses"].as_array().unwrap().iter();
    let nets = nets.map(|net| net.as_str().unwrap().parse::<ipnet::IpNet>().unwrap());
    nets.map(|net| net.addr()).collect()
}

/// Both ways, both families, with every pod on these nodes.
fn reaches(mesh: &Mesh, nodes: &[usize], laptop: &Node, ours: &[IpAddr], marker: &[u8]) {
    for at in nodes {
        let pod = &mesh.members[*at].pods[0];
        for address in &pod.addresses {
            laptop.namespace().ping_until(*address, marker, LIMIT).unwrap();
        }
        for address in ours {
            pod.namespace.ping_until(*address, marker, LIMIT).unwrap();
        }
    }
}

#[test]
fn a_laptop_comes_in_by_the_file_that_was_made_moves_to_another_entry_and_is_thrown_out() {
    let marker = marker();
    let mut mesh = Mesh::start("peer", 3).unwrap();
    let oracles = Oracles::watch(&mesh.lab, &marker).unwrap();
    mesh.add_pods(1).unwrap();
    let tunnel = mesh.members[0].node.capture("hawser0", &[&marker]).unwrap();
    let router = mesh.lab.nat_router("home", &mesh.lab.switch().unwrap()).unwrap();
    let laptop = mesh.lab.node_on("laptop", router.inside()).unwrap();
    let first = laptop.dir().join(format!("hwq{}.conf", std::process::id()));
    let second = laptop.dir().join(format!("hwq{}-2.conf", std::process::id()));
    let out = first.display().to_string();
    let create = ["peer", "create", "laptop", "--out", &out];
    let via = ["--via", "node-1,node-2"];

    // Nobody guesses which private addresses a laptop reaches.
    eventually("the endpoints are known", LIMIT, || {
        hawser(&mesh.controller, &create).1.contains("no node has a public endpoint")
    })
    .unwrap();
    let (code, said) = hawser(&mesh.controller, &[&create[..], &via].concat());
    assert_eq!(code, Some(0), "{said}");
    let text = std::fs::read_to_string(&first).unwrap();
    let key = text.lines().find_map(|line| line.strip_prefix("PrivateKey = ")).unwrap();
    for file in [&first, &second] {
        assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(std::fs::read_to_string(file).unwrap().contains(key), "one key for both");
    }
    let ours = addresses(&mesh.controller);
    assert_eq!(ours.len(), 2);

    let mut up = Tunnel::up(&laptop, &first);
    reaches(&mesh, &[0, 1, 2], &laptop, &ours, &marker);
    let via = |mesh: &Mesh| json(&mesh.controller, &["peer", "list"])["items"][0]["via"].clone();
    eventually("node-1 says so", LIMIT, || via(&mesh) == "node-1").unwrap();

    // Its entry dies, and it takes the other file. Then back again, while node-2 still runs.
    let mut moved = Vec::new();
    mesh.members[0].kill_agent();
    for (file, node, others) in [(&second, "node-2", &[1, 2][..]), (&first, "node-1", &[0, 1, 2])] {
        // All have heard where it is.
        std::thread::sleep(Duration::from_secs(1));
        drop(up);
        let begun = Instant::now();
        up = Tunnel::up(&laptop, file);
        let up_after = begun.elapsed();
        let far = &mesh.members[2].pods[0];
        let begun = Instant::now();
        far.namespace.ping_until(ours[0], &marker, LIMIT).unwrap();
        moved.push((up_after, begun.elapsed()));
        eventually("its entry says so", LIMIT, || via(&mesh) == node).unwrap();
        reaches(&mesh, others, &laptop, &ours, &marker);
        assert_eq!(via(&mesh), node);
        if node == "node-2" {
            mesh.members[0].start_agent().unwrap();
            mesh.members[0].wait_until_ready(LIMIT).unwrap();
        }
    }
    println!("wg-quick up, and then reached from a third node: {moved:?}");
    assert!(moved.iter().all(|(_, took)| *took < MOVES), "{moved:?}");

    let pods = [&mesh.members[0].pods[0], &mesh.members[2].pods[0]];
    let begun = Instant::now();
    mesh.controller.hawser().args(["peer", "delete", "laptop", "--yes"]).stdout().unwrap();
    let mut last = Duration::ZERO;
    let answers = |pod: &e2e::mesh::Pod| {
        let soon = Duration::from_millis(100);
        pod.namespace.ping_within(ours[0], &marker, soon).is_ok()
            || laptop.namespace().ping_within(pod.addresses[0], &marker, soon).is_ok()
    };
    while pods.iter().any(|pod| answers(pod)) {
        last = begun.elapsed();
        assert!(last < OUT, "still in after {last:?}");
    }
    println!("out after {last:?}");
    let claims = hawser(&mesh.controller, &["peer", "list"]).1;
    assert!(claims.contains("no peers"), "{claims}");
    assert!(laptop.namespace().ping_within(pods[0].addresses[0], &marker, OUT).is_err());

    let process = mesh.controller.process().unwrap();
    let logs = mesh.members.iter().map(|member| member.agent().unwrap().log());
    assert!(logs.chain([process.log(), said]).all(|log| !log.contains(key)), "a key in a log");
    oracles.judge(&tunnel.seen()).unwrap();
}
