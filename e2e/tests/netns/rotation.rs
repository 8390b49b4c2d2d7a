//! Keys rotate under traffic without a lost packet; a revoked node is out in seconds.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use e2e::lab::{Flow, FlowReport};
use e2e::mesh::{Mesh, Pod};
use e2e::oracle::{Oracles, marker};

const LIMIT: Duration = Duration::from_secs(20);
/// From the command to the last packet of a revoked node.
const BOUND: Duration = Duration::from_secs(2);
const PORT: u16 = 7107;

fn number(name: &str, default: u32) -> u32 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Between every ordered pair of pods, over one family.
fn flows(pods: &[&Pod], per_second: u32, marker: &[u8]) -> Vec<Flow> {
    let mut flows = Vec::new();
    for (at, from) in pods.iter().enumerate() {
        // One flow for each receiver: the next pod in the ring, and the ring turns both ways.
        let to = pods[(at + 1) % pods.len()];
        for v4 in [true, false] {
            let (from, to) = if v4 { (from, &to) } else { (&to, from) };
            let address = to.address(v4).unwrap();
            let flow = Flow::start(&from.namespace, (&to.namespace, address), per_second, marker);
            flows.push(flow.unwrap());
        }
    }
    flows
}

fn epochs(mesh: &Mesh) -> Vec<(u32, Vec<u32>)> {
    let nodes = mesh.controller.nodes().unwrap();
    let keys = |node: &api::MeshNode| {
        let status = node.status.clone().unwrap_or_default();
        status.public_keys.iter().map(|key| key.epoch).collect()
    };
    nodes.iter().map(|node| (node.spec.key_epoch, keys(node))).collect()
}

#[test]
fn a_rotation_of_all_nodes_loses_no_packet() {
    let rounds = number("HAWSER_ROTATIONS", 3);
    let marker = marker();
    let mut mesh = Mesh::start("rotate", 3).unwrap();
    let oracles = Oracles::watch(&mesh.lab, &marker).unwrap();
    mesh.add_pods(1).unwrap();
    let tunnel = mesh.members[0].node.capture("hawser0", &[&marker]).unwrap();
    let reach = mesh.reach(&marker, LIMIT);
    assert_eq!(reach.failures(), Vec::<String>::new());
    let flows = flows(&mesh.pods(), number("HAWSER_PPS", 500), &marker);
    std::thread::sleep(Duration::from_millis(500));

    let mut took = Vec::new();
    for _ in 0..rounds {
        let began = Instant::now();
        let rotate = mesh.controller.hawser().args(["keys", "rotate", "--yes"]);
        let said = rotate.stdout().unwrap();
        assert!(said.contains("completed   3/3"), "{said}");
        took.push(began.elapsed());
    }

    let expected = (rounds + 1, vec![rounds + 1]);
    assert_eq!(epochs(&mesh), [expected.clone(), expected.clone(), expected]);
    for member in &mesh.members {
        let mut keys: Vec<String> = std::fs::read_dir(member.node.state())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.contains("key-"))
            .collect();
        keys.sort();
        assert_eq!(keys, [format!("key-{}", rounds + 1)], "old keys are off the disk");
    }
    let reports: Vec<FlowReport> = flows.into_iter().map(Flow::finish).collect();
    let (sent, lost) = reports.iter().fold((0, 0), |(s, l), r| (s + r.sent, l + r.lost));
    println!("{rounds} rotations, each {took:?}: {lost} of {sent} packets lost\n{reports:#?}");
    assert_eq!(lost, 0, "{reports:#?}");
    oracles.judge(&tunnel.seen()).unwrap();
}

#[test]
fn a_killed_agent_or_controller_only_delays_a_rotation() {
    let mut mesh = Mesh::start("rotkill", 3).unwrap();
    mesh.add_pods(1).unwrap();
    assert_eq!(mesh.reach(b"before", LIMIT).failures(), Vec::<String>::new());

    for round in 0..3 {
        let rotate = mesh.controller.hawser().args(["keys", "rotate", "--yes", "--no-wait"]);
        rotate.stdout().unwrap();
        std::thread::sleep(Duration::from_millis(300 + 700 * round));
        mesh.members[0].kill_agent();
        mesh.controller.kill();
        mesh.controller.start().unwrap();
        mesh.members[0].start_agent().unwrap();

        let epoch = u32::try_from(round).unwrap() + 2;
        let begun = Instant::now();
        while epochs(&mesh).iter().any(|(sent, held)| *sent != epoch || *held != [epoch]) {
            let history = || mesh.controller.hawser().args(["keys", "history", "-o", "json"]);
            assert!(begun.elapsed() < LIMIT * 6, "{}", history().stdout().unwrap());
            std::thread::sleep(Duration::from_millis(200));
        }
        // The rotation ends a moment after its last node.
        let over = || mesh.controller.hawser().args(["keys", "history"]).stdout().unwrap();
        while over().matches("Completed").count() <= usize::try_from(round).unwrap() {
            assert!(begun.elapsed() < LIMIT * 6, "{}", over());
            std::thread::sleep(Duration::from_millis(200));
        }
    }
    assert_eq!(mesh.reach(b"after", LIMIT).failures(), Vec::<String>::new());
}

/// Sends from one pod to another until told, and says when the last packet came.
fn last_arrival(from: &Pod, to: &Pod, stop: &Arc<AtomicBool>) -> std::thread::JoinHandle<Instant> {
    let target = SocketAddr::new(to.address(true).unwrap(), PORT);
    let inbox = to.namespace.run(move || UdpSocket::bind(target).unwrap());
    let outbox = from.namespace.run(|| UdpSocket::bind("0.0.0.0:0").unwrap());
    inbox.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let (ended, stop) = (Arc::clone(stop), Arc::clone(stop));
    std::thread::spawn(move || {
        while !ended.load(Ordering::Relaxed) {
            // An error is the end that is waited for.
            let _ = outbox.send_to(b"still here", target);
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    std::thread::spawn(move || {
        let mut last = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            if inbox.recv(&mut [0; 64]).is_ok() {
                last = Instant::now();
            }
        }
        last
    })
}

#[test]
fn a_revoked_node_is_out_within_two_seconds_and_stays_out() {
    let mut mesh = Mesh::start("revoke", 3).unwrap();
    mesh.add_pods(1).unwrap();
    assert_eq!(mesh.reach(b"before", LIMIT).failures(), Vec::<String>::new());
    let stop = Arc::new(AtomicBool::new(false));
    let pods = mesh.pods();
    let (first, last) = (pods[0], pods[2]);
    let arrivals = [last_arrival(last, first, &stop), last_arrival(first, last, &stop)];
    std::thread::sleep(Duration::from_millis(500));

    let dry = mesh.controller.hawser().args(["revoke", "node-3", "--dry-run"]);
    assert!(dry.stdout().unwrap().contains("meshnode/node-3 revoked (client dry run)"));
    std::thread::sleep(Duration::from_millis(500));
    let asked = Instant::now();
    mesh.controller.hawser().args(["revoke", "node-3", "--yes"]).stdout().unwrap();
    std::thread::sleep(BOUND + Duration::from_secs(1));
    stop.store(true, Ordering::Relaxed);

    for arrival in arrivals {
        let last = arrival.join().unwrap();
        let after = last.saturating_duration_since(asked);
        println!("last packet {after:?} after the command");
        assert!(last > asked, "it was still heard when the command was given");
        assert!(after < BOUND, "{after:?}");
    }
    // Also to agents that begin anew, and with its own agent alive.
    let (ours, theirs) = (mesh.pods()[0].address(true), mesh.pods()[2].address(true));
    mesh.members[0].kill_agent();
    mesh.members[0].start_agent().unwrap();
    mesh.members[0].wait_until_ready(LIMIT).unwrap();
    std::thread::sleep(Duration::from_secs(1));
    let pods = mesh.pods();
    for (from, to) in [(pods[0], theirs), (pods[2], ours)] {
        let echo = from.namespace.ping_within(to.unwrap(), b"back", Duration::from_secs(2));
        assert!(echo.is_err(), "{} is heard again", from.name);
    }
}
