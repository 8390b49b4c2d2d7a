//! A hundred nodes: how long until everybody has confirmed, and until nobody hears a revoked one.

use std::collections::HashMap;
use std::net::UdpSocket;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use api::{KeyRotation, KeyRotationSpec, RotationPhase as Phase};
use e2e::lab::eventually;
use e2e::mesh::{Mesh, Pod};
use futures::TryStreamExt as _;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, api::PostParams};

use super::number;

const NODES: usize = 100;
const LIMIT: Duration = Duration::from_secs(120);
const BOUND: Duration = Duration::from_secs(2);

fn percentile(times: &mut [Duration], of_hundred: usize) -> Duration {
    times.sort();
    times[(times.len() * of_hundred).div_ceil(100).saturating_sub(1)]
}

/// The machine of the control plane is not one of the hundred: what runs there, this test among it,
/// does not wait its turn behind a hundred agents on a few cores.
fn give_control_a_machine_of_its_own(mesh: &Mesh) {
    let controller = mesh.controller.process().expect("it runs").pid();
    for process in [controller, std::process::id()] {
        for thread in std::fs::read_dir(format!("/proc/{process}/task")).unwrap() {
            let thread = thread.unwrap().file_name().into_string().unwrap().parse().unwrap();
            let thread = rustix::process::Pid::from_raw(thread);
            rustix::process::setpriority_process(thread, -10).unwrap();
        }
    }
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
    give_control_a_machine_of_its_own(&mesh);
    mesh
}

/// When nodes' statuses showed what.
#[derive(Default)]
struct Seen {
    published: Option<Instant>,
    accepted: HashMap<String, Instant>,
    switched: HashMap<String, Instant>,
}

impl Seen {
    fn note(&mut self, node: &api::MeshNode, rotation: &str, now: Instant) {
        let status = node.status.clone().unwrap_or_default();
        if status.public_keys.len() > 1 {
            self.published.get_or_insert(now);
        }
        let confirmed = status.confirmed.filter(|confirmed| confirmed.rotation == rotation);
        let Some(confirmed) = confirmed else { return };
        let name = node.metadata.name.clone().unwrap_or_default();
        if confirmed.step == api::ConfirmedStep::Switched {
            self.switched.insert(name.clone(), now);
        }
        // A later step says the earlier one too, if two changes came as one.
        self.accepted.entry(name).or_insert(now);
    }

    /// From the first new key that is published to the last confirmation that all are accepted,
    /// and to the last that all are used.
    fn times(&self) -> anyhow::Result<(Duration, Duration)> {
        let begun = self.published.context("no key was published")?;
        let last = |steps: &HashMap<String, Instant>| {
            anyhow::ensure!(steps.len() == NODES, "only {} of {NODES} confirmed", steps.len());
            Ok(*steps.values().max().expect("many") - begun)
        };
        Ok((last(&self.accepted)?, last(&self.switched)?))
    }
}

/// Rotates all keys; see [`Seen::times`], and how long the whole took.
fn rotate(mesh: &Mesh, name: String) -> (Duration, Duration, Duration) {
    let times = mesh.controller.api(async move |client| {
        let all: Api<KeyRotation> = Api::all(client.clone());
        let nodes: Api<api::MeshNode> = Api::all(client);
        let mut changes = pin!(watcher(nodes, watcher::Config::default()).applied_objects());
        for _ in 0..NODES {
            changes.try_next().await?;
        }
        let begun = Instant::now();
        let rotation = KeyRotation::new(&name, KeyRotationSpec::default());
        let uid = all.create(&PostParams::default(), &rotation).await?.metadata.uid;
        let uid = uid.context("a UID")?;
        let mut seen = Seen::default();
        let over = async {
            loop {
                let phase = all.get(&name).await?.status.unwrap_or_default().phase;
                if phase.is_some_and(Phase::is_over) {
                    anyhow::ensure!(phase == Some(Phase::Completed), "{phase:?}");
                    return Ok(());
                }
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        };
        let watch = async {
            while let Some(node) = changes.try_next().await? {
                seen.note(&node, &uid, Instant::now());
            }
            anyhow::bail!("the watch ended")
        };
        tokio::select! {
            ended = over => ended?,
            ended = watch => ended?,
        }
        let (accepted, switched) = seen.times()?;
        Ok((accepted, switched, begun.elapsed()))
    });
    times.unwrap()
}

#[test]
#[ignore = "long: HAWSER_LONG=1 ./e2e/test runs it"]
fn a_hundred_nodes_confirm_new_keys_within_two_seconds() {
    let mesh = start("hundrot");
    let (mut accepted, mut whole) = (Vec::new(), Vec::new());
    for round in 0..number("HAWSER_ROTATIONS", 10) {
        let (confirmed, switched, over) = rotate(&mesh, format!("round-{round}"));
        println!(
            "{NODES} nodes, round {round}: all confirmed {confirmed:?} after the first key was published, all \
             switched after {switched:?}, over after {over:?}"
        );
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
