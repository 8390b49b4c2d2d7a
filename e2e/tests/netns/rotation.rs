//! Keys rotate under traffic without a lost packet; a revoked node is out in seconds.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use e2e::mesh::{Mesh, Pod};

#[path = "rotation/clone.rs"]
mod clone;
#[path = "rotation/hundred.rs"]
mod hundred;
#[path = "rotation/memory.rs"]
mod memory;
#[path = "rotation/plain_peer.rs"]
mod plain_peer;
#[path = "rotation/probes.rs"]
mod probes;
#[path = "rotation/traffic.rs"]
mod traffic;
#[path = "rotation/view_age.rs"]
mod view_age;
#[path = "rotation/zero_loss.rs"]
mod zero_loss;

const LIMIT: Duration = Duration::from_secs(20);
/// From the command to the last packet of a revoked node.
const BOUND: Duration = Duration::from_secs(2);
const PORT: u16 = 7107;

fn number(name: &str, default: u32) -> u32 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn epochs(mesh: &Mesh) -> Vec<(u32, Vec<u32>)> {
    let nodes = mesh.controller.nodes().unwrap();
    let keys = |node: &api::MeshNode| {
        let status = node.status.clone().unwrap_or_default();
        status.public_keys.iter().map(|key| key.epoch).collect()
    };
    nodes.iter().map(|node| (node.spec.key_epoch, keys(node))).collect()
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
