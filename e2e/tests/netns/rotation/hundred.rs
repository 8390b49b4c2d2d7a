//! A hundred nodes: how long until everybody has confirmed, and until nobody hears a revoked one.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use api::{KeyRotation, KeyRotationSpec, RotationPhase as Phase};
use e2e::lab::eventually;
use e2e::mesh::{Mesh, Pod};
use kube::{
    Api,
    api::{ListParams, PostParams},
};

use super::number;

const NODES: usize = 100;
const LIMIT: Duration = Duration::from_secs(120);
const BOUND: Duration = Duration::from_secs(2);

fn percentile(times: &mut [Duration], of_hundred: usize) -> Duration {
    times.sort();
    times[(times.len() * of_hundred).div_ceil(100).saturating_sub(1)]
}

fn start(prefix: &str) -> Mesh {
    let mut mesh = Mesh::prepare(prefix, NODES, &mut |_| {}).unwrap();
    for member in &mut mesh.members {
        member.start_agent().unwrap();
    }
    mesh.wait_until_ready().unwrap();
    let knows_all = |member: &e2e::mesh::Member| {
        let state = member.state().unwrap_or_default();
        let peers = state["peers"].as_array().cloned().unwrap_or_default();
        peers.iter().filter(|peer| peer["up"] == true).count() == NODES - 1
    };
    for member in &mesh.members {
        eventually("all tunnels", LIMIT, || knows_all(member)).unwrap();
    }
    mesh
}

/// From the first new key that is published to the last confirmation, and to the last switch.
fn rotate(mesh: &Mesh, name: String) -> (Duration, Duration) {
    let times = mesh.controller.api(async move |client| {
        let all: Api<KeyRotation> = Api::all(client.clone());
        let nodes: Api<api::MeshNode> = Api::all(client);
        let rotation = KeyRotation::new(&name, KeyRotationSpec::default());
        all.create(&PostParams::default(), &rotation).await?;
        let (mut published, mut accepted) = (None, None);
        loop {
            let status = all.get(&name).await?.status.unwrap_or_default();
            if published.is_none() && status.phase.is_some() {
                let first = nodes.list(&ListParams::default()).await?;
                let has_two = |node: &api::MeshNode| {
                    node.status.as_ref().is_some_and(|status| status.public_keys.len() > 1)
                };
                published = first.iter().any(has_two).then(Instant::now);
            }
            let phase = status.phase;
            if accepted.is_none()
                && matches!(phase, Some(Phase::Switching | Phase::Forgetting | Phase::Completed))
            {
                accepted = Some(Instant::now());
            }
            if phase.is_some_and(Phase::is_over) {
                anyhow::ensure!(phase == Some(Phase::Completed), "{status:?}");
                let begun = published.expect("seen before the end");
                return Ok((accepted.expect("likewise") - begun, begun.elapsed()));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    times.unwrap()
}

#[test]
#[ignore = "long: HAWSER_LONG=1 ./e2e/test runs it"]
fn a_hundred_nodes_confirm_new_keys_within_two_seconds() {
    let mesh = start("hundrot");
    let (mut accepted, mut whole) = (Vec::new(), Vec::new());
    for round in 0..number("HAWSER_ROTATIONS", 10) {
        let (confirmed, over) = rotate(&mesh, format!("round-{round}"));
        println!("round {round}: all confirmed after {confirmed:?}, over after {over:?}");
        accepted.push(confirmed);
        whole.push(over);
    }
    let (half, most) = (percentile(&mut accepted, 50), percentile(&mut accepted, 99));
    let whole = percentile(&mut whole, 99);
    println!(
        "{NODES} nodes, published to confirmed by all: p50 {half:?}, p99 {most:?}; over {whole:?}"
    );
    assert!(most <= BOUND, "{most:?}");
}

/// Sends to one pod until told; when it last heard anything.
fn listen(
    from: &Pod,
    to: &Pod,
    pps: u32,
    stop: &Arc<AtomicBool>,
) -> std::thread::JoinHandle<Instant> {
    let any = std::net::SocketAddr::new(to.address(true).unwrap(), 0);
    let inbox = to.namespace.run(move || UdpSocket::bind(any).unwrap());
    let target = inbox.local_addr().unwrap();
    let outbox = from.namespace.run(|| UdpSocket::bind("0.0.0.0:0").unwrap());
    inbox.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let (sends, hears) = (Arc::clone(stop), Arc::clone(stop));
    std::thread::spawn(move || {
        let (begun, mut sent) = (Instant::now(), 0u32);
        while !sends.load(Ordering::Relaxed) {
            // An error is the end that is waited for.
            let _ = outbox.send_to(b"still here", target);
            sent += 1;
            let due = Duration::from_secs(1) * sent / pps;
            std::thread::sleep(due.saturating_sub(begun.elapsed()));
        }
    });
    std::thread::spawn(move || {
        let mut last = Instant::now();
        while !hears.load(Ordering::Relaxed) {
            if inbox.recv(&mut [0; 64]).is_ok() {
                last = Instant::now();
            }
        }
        last
    })
}

#[test]
#[ignore = "long: HAWSER_LONG=1 ./e2e/test runs it"]
fn a_hundred_nodes_are_out_of_a_revoked_ones_reach_within_two_seconds() {
    let mut mesh = start("hundrev");
    let rounds = number("HAWSER_ROUNDS", 10) as usize;
    let watchers = 20;
    // The revoked ones from the end; those that listen from the beginning.
    for number in (0..watchers).chain(NODES - rounds..NODES) {
        let (lab, member) = (&mesh.lab, &mut mesh.members[number]);
        member.add_pod(lab, "a").unwrap();
    }
    let pps = number("HAWSER_PPS", 10_000) / u32::try_from(2 * watchers).unwrap();
    let mut times = Vec::new();
    for round in 0..rounds {
        let out = &mesh.members[NODES - 1 - round];
        let pod = &out.pods[0];
        let stop = Arc::new(AtomicBool::new(false));
        let ears: Vec<_> = mesh.members[..watchers]
            .iter()
            .flat_map(|member| {
                let other = &member.pods[0];
                [listen(pod, other, pps, &stop), listen(other, pod, pps, &stop)]
            })
            .collect();
        std::thread::sleep(Duration::from_secs(1));
        let asked = Instant::now();
        let name = out.node.name().to_owned();
        mesh.controller.hawser().args(["revoke", &name, "--yes"]).stdout().unwrap();
        std::thread::sleep(2 * BOUND);
        stop.store(true, Ordering::Relaxed);
        for ear in ears {
            let last = ear.join().unwrap();
            assert!(last > asked, "it was still heard when the command was given");
            times.push(last - asked);
        }
    }
    let (half, most) = (percentile(&mut times, 50), percentile(&mut times, 99));
    println!(
        "{NODES} nodes, {rounds} revoked, from the command to the last packet of {} flows: \
         p50 {half:?}, p99 {most:?}, at most {:?}",
        times.len(),
        times.last()
    );
    assert!(most <= BOUND, "{most:?}");
}
