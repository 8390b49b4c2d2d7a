//! A rotation loses no packet, whoever is killed meanwhile.

use std::time::{Duration, Instant};

use api::{KeyRotation, KeyRotationSpec, RotationPhase as Phase};
use e2e::mesh::{Controller, Mesh};
use e2e::oracle::{Oracles, marker, promised};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;

use super::traffic::{Traffic, ring};
use super::{LIMIT, epochs, number};

/// The phases of a rotation, each of which may be cut.
const PHASES: [Phase; 5] =
    [Phase::Publishing, Phase::Accepting, Phase::Switching, Phase::Draining, Phase::Forgetting];
/// The library's own words while nobody listens at the API.
const API_AWAY: &str = "kube_client::client::builder";

#[test]
fn a_rotation_of_all_nodes_loses_no_packet() {
    rotate_under_traffic(1, 3000);
}

/// A million packets; minutes.
#[test]
#[ignore = "long: HAWSER_LONG=1 ./e2e/test runs it"]
fn twenty_rotations_lose_none_of_a_million_packets() {
    rotate_under_traffic(number("HAWSER_ROTATIONS", 20), number("HAWSER_PPS", 10_000));
}

fn rotate_under_traffic(rounds: u32, pps: u32) {
    let marker = marker();
    let mut mesh = Mesh::start("rotate", 3).unwrap();
    let oracles = Oracles::watch(&mesh.lab, &marker).unwrap();
    mesh.add_pods(1).unwrap();
    let tunnel = mesh.members[0].node.capture("hawser0", &[&marker]).unwrap();
    assert_eq!(mesh.reach(&marker, LIMIT).failures(), Vec::<String>::new());
    let traffic = Traffic::start(&mesh, &ring(3), pps, &marker);
    std::thread::sleep(Duration::from_millis(300));

    let began = Instant::now();
    for _ in 0..rounds {
        let rotate = mesh.controller.hawser().args(["keys", "rotate", "--yes"]);
        let said = rotate.stdout().unwrap();
        assert!(said.contains("completed   3/3"), "{said}");
        assert!(said.contains("   probes lost 0 of "), "{said}");
        println!("{}", said.trim_end());
        let probes = super::probes::of_nodes(&mesh);
        assert!(probes.iter().all(|(sent, lost)| *sent > 0 && *lost == 0), "{probes:?}");
    }
    let took = began.elapsed() / rounds;
    if rounds > 1 {
        // The packets that are promised, however fast the rotations were.
        std::thread::sleep(Duration::from_secs(100).saturating_sub(began.elapsed()));
    }
    let outcome = traffic.finish(&mesh);

    let expected = (rounds + 1, vec![rounds + 1]);
    assert_eq!(epochs(&mesh), vec![expected; 3]);
    for member in &mesh.members {
        assert_eq!(keys_on_disk(&member.node.state()), [format!("key-{}", rounds + 1)]);
    }
    let (sent, lost) = outcome.without(None);
    println!("{rounds} rotations of {took:?} each: {lost} of {sent} packets lost");
    println!("{}", outcome.text());
    promised(lost == 0, || outcome.text());
    oracles.judge(&tunnel.seen()).unwrap();
}

fn keys_on_disk(state: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(state).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut keys: Vec<String> = names.filter(|name| name.contains("key-")).collect();
    keys.sort();
    keys
}

/// Begins a rotation and waits until it is in that phase; the one that it was seen in. With
/// everybody there it drains in the moment that it has switched, so to be caught there it goes back.
fn begin_and_catch(controller: &Controller, name: String, wanted: Phase) -> Phase {
    let caught = controller.api(async move |client| {
        let all: Api<KeyRotation> = Api::all(client);
        let rotation = KeyRotation::new(&name, KeyRotationSpec::default());
        all.create(&PostParams::default(), &rotation).await?;
        if wanted == Phase::Draining {
            catch(&all, &name, Phase::Switching).await?;
            let back = Patch::Merge(json!({"spec": {"rollBack": true}}));
            all.patch(&name, &PatchParams::default(), &back).await?;
        }
        catch(&all, &name, wanted).await
    });
    caught.unwrap()
}

async fn catch(all: &Api<KeyRotation>, name: &str, wanted: Phase) -> anyhow::Result<Phase> {
    loop {
        match all.get(name).await?.status.and_then(|status| status.phase) {
            Some(phase) if phase == wanted || phase.is_over() => return Ok(phase),
            _ => tokio::time::sleep(Duration::from_millis(2)).await,
        }
    }
}

/// Until every node holds that epoch alone and the rotation is over.
fn wait_for(mesh: &Mesh, epoch: u32, name: &str) {
    let over = || {
        let name = name.to_owned();
        let phase = mesh.controller.api(async move |client| {
            let status = Api::<KeyRotation>::all(client).get(&name).await?.status;
            Ok(status.and_then(|status| status.phase))
        });
        phase.is_ok_and(|phase| phase.is_some_and(Phase::is_over))
    };
    let begun = Instant::now();
    while !over() || epochs(mesh).iter().any(|(sent, held)| *sent != epoch || *held != [epoch]) {
        let history = || mesh.controller.hawser().args(["keys", "history", "-o", "json"]);
        assert!(begun.elapsed() < LIMIT * 6, "{}", history().stdout().unwrap());
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_killed_agent_or_controller_only_delays_a_rotation() {
    // The phase that is left with the first new key in use.
    kill_in(&[Phase::Switching], 2000);
}

/// A million packets; many minutes, as agents wait longer from cut to cut of the API.
#[test]
#[ignore = "long: HAWSER_LONG=1 ./e2e/test runs it"]
fn kills_in_every_phase_of_twenty_rotations_lose_no_packet_of_other_nodes() {
    let rounds = number("HAWSER_ROTATIONS", 20) as usize;
    let phases: Vec<Phase> = PHASES.into_iter().cycle().take(rounds).collect();
    kill_in(&phases, number("HAWSER_PPS", 10_000));
}

/// In each of these phases both the first node's agent and the controller are killed.
fn kill_in(phases: &[Phase], pps: u32) {
    let marker = marker();
    let mut mesh = Mesh::start("rotkill", 4).unwrap();
    let oracles = Oracles::watch(&mesh.lab, &marker).unwrap().allow_error(API_AWAY);
    mesh.add_pods(1).unwrap();
    let tunnel = mesh.members[1].node.capture("hawser0", &[&marker]).unwrap();
    assert_eq!(mesh.reach(&marker, LIMIT).failures(), Vec::<String>::new());
    let traffic = Traffic::start(&mesh, &[(0, 1), (1, 2), (2, 3), (3, 1)], pps, &marker);

    let (mut caught, mut epoch) = (Vec::new(), 1);
    for (round, wanted) in phases.iter().enumerate() {
        if *wanted != Phase::Draining {
            epoch = u32::try_from(round).unwrap() + 2;
        }
        let name = format!("round-{round}");
        caught.push(begin_and_catch(&mesh.controller, name.clone(), *wanted));
        mesh.members[0].kill_agent();
        mesh.controller.kill();
        mesh.controller.start().unwrap();
        mesh.members[0].start_agent().unwrap();
        wait_for(&mesh, epoch, &name);
    }
    assert_eq!(mesh.reach(&marker, LIMIT).failures(), Vec::<String>::new());
    let outcome = traffic.finish(&mesh);

    let (sent, lost) = outcome.without(Some(0));
    let (apart, lost_apart) = outcome.of(0);
    println!("killed in {caught:?}: {lost} of {sent} packets lost between the others,");
    println!("{lost_apart} of {apart} to or from the killed agent's node\n{}", outcome.text());
    assert_eq!(caught, phases, "killed in other phases than were meant");
    promised(lost == 0, || outcome.text());
    oracles.judge(&tunnel.seen()).unwrap();
}
