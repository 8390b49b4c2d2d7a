//! Rotations as the controller runs them, against the embedded API and agents that only write
//! their status. No root, loopback only.

#![allow(clippy::unwrap_used, reason = "the whole file is a test")]

use std::sync::Arc;
use std::time::Duration;

use api::{
    Confirmation, ConfirmedStep, KeyRotation, KeyRotationSpec, Mesh, MeshNode, MeshNodeSpec, Pool,
    PublishedKey, RotationPhase, RotationSchedule, conditions, digest,
};
use controller::embed::{Embedded, Start, ensure_mesh};
use controller::metrics::Metrics;
use controller::reconcile::{self, Settings};
use keys::{KeyEpoch, PublicKey};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

/// Generous: the machine may be busy.
const SOON: Duration = Duration::from_secs(30);

struct World {
    server: Embedded,
    _active: watch::Sender<bool>,
    _dir: tempfile::TempDir,
}

impl World {
    async fn start(nodes: usize) -> World {
        let dir = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let start = Start { dir: dir.path().to_owned(), listener, names: Vec::new() };
        let server = Embedded::start(start).await.unwrap();
        let pool = Pool { cidr: "10.42.0.0/16".to_owned(), node_prefix_length: 24, name: None };
        ensure_mesh(&server.client, vec![pool]).await.unwrap();
        let (hold, active) = watch::channel(true);
        for number in 0..2 {
            let settings = Settings::new(format!("controller-{number}"));
            let metrics = Arc::new(Metrics::default());
            tokio::spawn(reconcile::run(
                server.client.clone(),
                settings,
                active.clone(),
                watch::channel(0).1,
                metrics,
            ));
        }
        for number in 0..nodes {
            let node = MeshNode::new(&format!("n{number}"), MeshNodeSpec::default());
            let api: Api<MeshNode> = Api::all(server.client.clone());
            api.create(&PostParams::default(), &node).await.unwrap();
            tokio::spawn(agent(server.client.clone(), format!("n{number}")));
        }
        let world = World { server, _active: hold, _dir: dir };
        world
            .until("all publish", async |world| {
                world.nodes().await.iter().all(|node| held(node) == [1])
            })
            .await;
        world
    }

    fn rotations(&self) -> Api<KeyRotation> {
        Api::all(self.server.client.clone())
    }

    async fn nodes(&self) -> Vec<MeshNode> {
        let api: Api<MeshNode> = Api::all(self.server.client.clone());
        api.list(&ListParams::default()).await.unwrap().items
    }

    async fn begin(&self, name: &str, spec: KeyRotationSpec) {
        let rotation = KeyRotation::new(name, spec);
        self.rotations().create(&PostParams::default(), &rotation).await.unwrap();
    }

    async fn edit(&self, name: &str, spec: Value) {
        let patch = Patch::Merge(json!({"spec": spec}));
        self.rotations().patch(name, &PatchParams::default(), &patch).await.unwrap();
    }

    async fn until(&self, what: &str, holds: impl AsyncFn(&World) -> bool) {
        let end = Instant::now() + SOON;
        while !holds(self).await {
            let rotations = self.rotations().list(&ListParams::default()).await.unwrap().items;
            let told: Vec<_> = rotations.iter().map(|r| (r.name_any(), &r.status)).collect();
            assert!(Instant::now() < end, "{what}: {told:#?}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn phase(&self, name: &str, wanted: RotationPhase) -> KeyRotation {
        self.until(&format!("{name} becomes {wanted}"), async |world| {
            let status = world.rotations().get(name).await.unwrap().status;
            status.and_then(|status| status.phase) == Some(wanted)
        })
        .await;
        self.rotations().get(name).await.unwrap()
    }
}

fn held(node: &MeshNode) -> Vec<u32> {
    let status = node.status.clone().unwrap_or_default();
    status.public_keys.iter().map(|key| key.epoch).collect()
}

fn key(name: &str, epoch: u32) -> PublicKey {
    let mut bytes = [9; 32];
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    bytes[31] = u8::try_from(epoch).unwrap();
    PublicKey::from_bytes(bytes)
}

/// Publishes what it is told to hold and confirms what it sees, as a real one does.
async fn agent(client: Client, name: String) {
    let nodes: Api<MeshNode> = Api::all(client.clone());
    let rotations: Api<KeyRotation> = Api::all(client);
    loop {
        sleep(Duration::from_millis(20)).await;
        let Ok(all) = nodes.list(&ListParams::default()).await else { continue };
        let Ok(open) = rotations.list(&ListParams::default()).await else { continue };
        let Some(own) = all.items.iter().find(|node| node.name_any() == name) else { continue };
        let epochs = match own.spec.epochs.as_slice() {
            [] => vec![own.spec.key_epoch],
            epochs => epochs.to_vec(),
        };
        let publish = |epoch: &u32| PublishedKey {
            epoch: *epoch,
            public_key: key(&name, *epoch).to_string(),
        };
        let keys: Vec<PublishedKey> = epochs.iter().map(publish).collect();
        let before = own.status.clone().unwrap_or_default();
        let confirmed = open.items.iter().find_map(|rotation| confirm(rotation, &all.items));
        let confirmed = confirmed.or(before.confirmed.clone());
        if before.public_keys == keys && before.confirmed == confirmed {
            continue;
        }
        let status = json!({"publicKeys": keys, "confirmed": confirmed});
        let patch = Patch::Merge(json!({"status": status}));
        // A race is lost now and then; the next look repeats it.
        let _ = nodes.patch_status(&name, &PatchParams::default(), &patch).await;
    }
}

fn confirm(rotation: &KeyRotation, nodes: &[MeshNode]) -> Option<Confirmation> {
    let status = rotation.status.clone()?;
    let (epoch, wave) = (status.epoch?, status.wave?);
    let publishes = |name: &str| {
        let node = nodes.iter().find(|node| node.name_any() == name)?;
        held(node).contains(&epoch).then_some(())
    };
    let (step, names): (_, Vec<String>) = match status.phase? {
        RotationPhase::Accepting => (ConfirmedStep::Accepted, wave.nodes),
        RotationPhase::Switching | RotationPhase::Draining => {
            let on_it = nodes.iter().filter(|node| node.spec.key_epoch == epoch);
            (ConfirmedStep::Switched, on_it.map(ResourceExt::name_any).collect())
        }
        _ => return None,
    };
    names.iter().try_for_each(|name| publishes(name))?;
    let keys = names.iter().map(|name| (name.as_str(), KeyEpoch(epoch), key(name, epoch)));
    let digest = digest(keys);
    let rotation = rotation.uid()?;
    (Some(&digest) == wave.digest.as_ref()).then_some(Confirmation {
        rotation,
        wave: wave.number,
        step,
        digest,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_goes_through_all_its_phases_and_the_next_takes_a_new_number() {
    let world = World::start(4).await;

    let canary = KeyRotationSpec {
        canaries: vec!["n2".to_owned()],
        wave_size: Some(2),
        ..KeyRotationSpec::default()
    };
    world.begin("first", canary).await;
    let first = world.phase("first", RotationPhase::Completed).await;
    let status = first.status.unwrap();
    assert_eq!((status.done.as_deref(), status.epoch), (Some("4/4"), Some(2)));
    assert!(status.ended_at.is_some() && conditions::holds(&status.conditions, "Completed"));
    assert_eq!(status.wave.unwrap().number, 3, "a canary, two, and the last");
    assert!(world.nodes().await.iter().all(|n| n.spec.key_epoch == 2 && held(n) == [2]));

    world.begin("second", KeyRotationSpec::default()).await;
    let second = world.phase("second", RotationPhase::Completed).await;
    assert_eq!(second.status.unwrap().epoch, Some(3));
    world.rotations().delete("second", &DeleteParams::default()).await.unwrap();
    world
        .until("it may be deleted", async |world| {
            world.rotations().get_opt("second").await.unwrap().is_none()
        })
        .await;
}

/// As an agent of that node would.
async fn count(world: &World, name: &str, rotation: &str, (sent, lost): (u64, u64)) -> bool {
    let nodes: Api<MeshNode> = Api::all(world.server.client.clone());
    let probes = json!({"rotation": rotation, "sent": sent, "lost": lost});
    let patch = Patch::Merge(json!({"status": {"probes": probes}}));
    nodes.patch_status(name, &PatchParams::default(), &patch).await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_probes_of_all_nodes_are_summed_also_after_the_end_and_never_taken_back() {
    let world = World::start(3).await;
    let counted = async |world: &World| {
        let status = world.rotations().get("first").await.unwrap().status.unwrap_or_default();
        (status.probes, status.lost)
    };
    world.begin("first", KeyRotationSpec { paused: true, ..KeyRotationSpec::default() }).await;
    let uid = world.rotations().get("first").await.unwrap().uid().unwrap();
    assert!(count(&world, "n0", &uid, (10, 2)).await);
    assert!(count(&world, "n1", &uid, (20, 0)).await);
    assert!(count(&world, "n2", "an older one", (99, 99)).await);
    assert!(!count(&world, "n2", &uid, (1, 2)).await, "more lost than sent");
    assert!(!count(&world, "n2", &uid, (u64::MAX, 0)).await, "out of bounds");
    assert_eq!(counted(&world).await, (None, None), "it has not begun");

    world.edit("first", json!({"paused": false})).await;
    world.phase("first", RotationPhase::Completed).await;
    assert_eq!(counted(&world).await, (Some(30), Some(2)));
    assert!(count(&world, "n2", &uid, (5, 1)).await);
    world
        .until("the last ones are added", async |world| counted(world).await == (Some(35), Some(3)))
        .await;

    let nodes: Api<MeshNode> = Api::all(world.server.client.clone());
    nodes.delete("n0", &DeleteParams::default()).await.unwrap();
    world.begin("second", KeyRotationSpec::default()).await;
    world.phase("second", RotationPhase::Completed).await;
    assert_eq!(counted(&world).await, (Some(35), Some(3)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_rotation_gets_a_conflict_and_the_first_can_be_rolled_back() {
    let world = World::start(3).await;
    let spec = KeyRotationSpec { wave_size: Some(1), ..KeyRotationSpec::default() };
    world.begin("first", spec).await;
    world
        .until("one node has switched", async |world| {
            world.nodes().await.iter().any(|node| node.spec.key_epoch == 2)
        })
        .await;
    world.edit("first", json!({"paused": true})).await;

    world.begin("second", KeyRotationSpec::default()).await;
    let refused = world.phase("second", RotationPhase::Refused).await.status.unwrap();
    let why = conditions::get(&refused.conditions, "Progressing").unwrap();
    assert_eq!(why.reason, "Conflict");
    assert!(why.message.contains("keyrotation first is under way"), "{}", why.message);

    world.edit("first", json!({"paused": false, "rollBack": true})).await;
    world.phase("first", RotationPhase::RolledBack).await;
    assert!(world.nodes().await.iter().all(|n| n.spec.key_epoch == 1 && held(n) == [1]));
    let stays = world.rotations();
    let patch = Patch::Merge(json!({"spec": {"rollBack": false}}));
    assert!(stays.patch("first", &PatchParams::default(), &patch).await.is_err(), "for good");

    world.begin("third", KeyRotationSpec::default()).await;
    let third = world.phase("third", RotationPhase::Completed).await;
    assert_eq!(third.status.unwrap().epoch, Some(3), "no number is used twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_is_refused_and_nothing_is_written() {
    let world = World::start(2).await;
    let node = |name: &str| KeyRotationSpec { nodes: vec![name.to_owned()], ..Default::default() };
    let late = KeyRotationSpec {
        deadline: Some("2020-01-01T00:00:00Z".to_owned()),
        ..KeyRotationSpec::default()
    };

    for (name, spec, reason) in [("a", node("nobody"), "UnknownNode"), ("b", late, "BadDeadline")] {
        world.begin(name, spec).await;
        let status = world.phase(name, RotationPhase::Refused).await.status.unwrap();
        assert_eq!(conditions::get(&status.conditions, "Progressing").unwrap().reason, reason);
    }

    assert!(world.nodes().await.iter().all(|node| node.spec.epochs.is_empty()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_says_when_the_next_rotation_is_and_keeps_revoked_keys() {
    let world = World::start(2).await;
    let schedule = RotationSchedule {
        interval: "720h".to_owned(),
        jitter: None,
        window_start: None,
        window_end: None,
    };
    let meshes: Api<Mesh> = Api::all(world.server.client.clone());
    let patch = Patch::Merge(json!({"spec": {"keyRotation": schedule}}));
    meshes.patch(api::MESH, &PatchParams::default(), &patch).await.unwrap();
    let nodes: Api<MeshNode> = Api::all(world.server.client.clone());
    let patch = Patch::Merge(json!({"spec": {"revoked": true}}));
    nodes.patch("n1", &PatchParams::default(), &patch).await.unwrap();

    world
        .until("the Mesh says both", async |_| {
            let status = meshes.get(api::MESH).await.unwrap().status.unwrap_or_default();
            let at = status.next_rotation.and_then(|text| text.parse::<jiff::Timestamp>().ok());
            at.is_some_and(|at| at > jiff::Timestamp::now())
                && status.revoked_keys == [key("n1", 1).to_string()]
        })
        .await;
}
