//! The controller as it runs on plain machines: embedded API and reconcilers in one process, real
//! TLS, a real file. No root, loopback only.

#![allow(clippy::unwrap_used, reason = "the whole file is a test")]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use api::{ClaimPhase, Mesh, MeshNode, MeshNodeSpec, Pool, SubnetClaim, claim_name, conditions};
use controller::embed::{Embedded, Start, ensure_mesh};
use controller::metrics::Metrics;
use controller::reconcile::{self, Settings};
use ipnet::IpNet;
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

/// Generous: the machine may be busy.
const SOON: Duration = Duration::from_secs(20);

struct World {
    server: Embedded,
    controllers: Vec<JoinHandle<()>>,
    _active: watch::Sender<bool>,
}

fn pool(cidr: &str, node_prefix_length: u8) -> Pool {
    Pool { cidr: cidr.to_owned(), node_prefix_length, name: None }
}

fn both() -> Vec<Pool> {
    vec![pool("10.42.0.0/16", 24), pool("fd42::/48", 64)]
}

impl World {
    async fn start(dir: &Path, pools: Vec<Pool>, controllers: usize) -> World {
        let start = Start {
            dir: dir.to_owned(),
            listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            names: Vec::new(),
        };
        let server = Embedded::start(start).await.unwrap();
        ensure_mesh(&server.client, pools).await.unwrap();
        let (hold, active) = watch::channel(true);
        let controllers = (0..controllers)
            .map(|i| {
                let mut settings = Settings::new(format!("controller-{i}"));
                settings.rest = Duration::from_secs(2);
                let metrics = Arc::new(Metrics::default());
                let client = server.client.clone();
                tokio::spawn(reconcile::run(
                    client,
                    settings,
                    active.clone(),
                    watch::channel(0).1,
                    metrics,
                ))
            })
            .collect();
        World { server, controllers, _active: hold }
    }

    /// As SIGKILL would: nothing is said goodbye to but the listener.
    async fn stop(self) {
        for controller in self.controllers {
            controller.abort();
            let _ = controller.await;
        }
        self.server.stop().await.unwrap();
    }

    fn client(&self) -> Client {
        self.server.client.clone()
    }

    fn nodes(&self) -> Api<MeshNode> {
        Api::all(self.client())
    }

    fn claims(&self) -> Api<SubnetClaim> {
        Api::all(self.client())
    }

    async fn add(&self, name: &str) {
        let node = MeshNode::new(name, MeshNodeSpec::default());
        self.nodes().create(&PostParams::default(), &node).await.unwrap();
    }

    async fn subnets(&self, name: &str) -> Vec<String> {
        self.nodes().get(name).await.unwrap().spec.subnets
    }

    /// Waits until every node has `count` subnets and returns them all.
    async fn allocated(&self, count: usize) -> Vec<IpNet> {
        let all = async {
            loop {
                let nodes = self.nodes().list(&ListParams::default()).await.unwrap().items;
                if nodes.iter().all(|node| node.spec.subnets.len() == count) {
                    let subnets = nodes.iter().flat_map(|node| &node.spec.subnets);
                    return subnets.map(|subnet| subnet.parse().unwrap()).collect();
                }
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(SOON, all).await.expect("every node gets its subnets")
    }

    async fn condition(&self, name: &str, type_: &str, reason: &str) -> String {
        let found = async {
            loop {
                let status = self.nodes().get(name).await.unwrap().status.unwrap_or_default();
                if let Some(condition) = conditions::get(&status.conditions, type_)
                    && condition.reason == reason
                {
                    return condition.message.clone();
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(SOON, found)
            .await
            .unwrap_or_else(|_| panic!("{name}: {type_} does not become {reason}"))
    }

    async fn events(&self, reason: &str, count: usize) {
        let api: Api<Event> = Api::namespaced(self.client(), "default");
        let told = async {
            loop {
                let all = api.list(&ListParams::default()).await.unwrap();
                let told = all.iter().filter(|event| event.reason.as_deref() == Some(reason));
                let told: Vec<_> = told.collect();
                assert!(told.iter().all(|event| event.series.is_none()), "told again");
                if told.len() == count {
                    return;
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(SOON, told).await.expect("the events are there");
    }

    async fn phase(&self, subnet: &str, phase: ClaimPhase) {
        let name = claim_name(&subnet.parse().unwrap());
        let reached = async {
            loop {
                let claim = self.claims().get(&name).await.unwrap();
                if claim.status.unwrap_or_default().phase == Some(phase) {
                    return;
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(SOON, reached)
            .await
            .unwrap_or_else(|_| panic!("{subnet} does not become {phase:?}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_get_a_subnet_of_each_family_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path(), both(), 1).await;

    let began = Instant::now();
    for name in ["a", "b", "c"] {
        world.add(name).await;
    }
    let subnets: BTreeSet<IpNet> = world.allocated(2).await.into_iter().collect();
    let took = began.elapsed();

    assert_eq!(subnets.len(), 6);
    println!("3 nodes allocated in {took:?}");
    world.condition("a", "SubnetAllocated", "SubnetAllocated").await;
    world.condition("a", "Ready", "AgentSilent").await;
    let mesh: Api<Mesh> = Api::all(world.client());
    timeout(SOON, async {
        while mesh.get(api::MESH).await.unwrap().status.unwrap_or_default().nodes.as_deref()
            != Some("0/3")
        {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("the Mesh counts its nodes");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_nodes_block_rests_and_a_new_node_of_its_name_gets_another() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path(), vec![pool("10.42.0.0/23", 24)], 1).await;
    world.add("a").await;
    world.allocated(1).await;
    assert_eq!(world.subnets("a").await, ["10.42.0.0/24"]);

    world.nodes().delete("a", &DeleteParams::default()).await.unwrap();
    world.add("a").await;
    world.allocated(1).await;

    assert_eq!(world.subnets("a").await, ["10.42.1.0/24"]);
    world.phase("10.42.0.0/24", ClaimPhase::Resting).await;
    world.add("b").await;
    let why = world.condition("b", "SubnetAllocated", "PoolExhausted").await;
    assert!(why.contains("at rest"), "{why}");

    world.allocated(1).await;
    assert_eq!(world.subnets("b").await, ["10.42.0.0/24"]);
    let claim = world.claims().get("10-42-0-0-24").await.unwrap();
    assert_eq!(claim.spec.generation, 2);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_every_node_keeps_what_it_had() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path(), both(), 1).await;
    for name in ["a", "b"] {
        world.add(name).await;
    }
    world.allocated(2).await;
    let before = (world.subnets("a").await, world.subnets("b").await);
    world.stop().await;

    let world = World::start(dir.path(), both(), 1).await;
    world.add("c").await;
    let all: BTreeSet<IpNet> = world.allocated(2).await.into_iter().collect();

    assert_eq!((world.subnets("a").await, world.subnets("b").await), before);
    assert_eq!(all.len(), 6);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_controllers_at_once_give_each_subnet_to_one_node() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path(), both(), 2).await;

    let names: Vec<String> = (0..30).map(|i| format!("n{i}")).collect();
    futures::future::join_all(names.iter().map(|name| world.add(name))).await;
    let subnets = world.allocated(2).await;

    let distinct: BTreeSet<&IpNet> = subnets.iter().collect();
    assert_eq!((subnets.len(), distinct.len()), (60, 60));
    let nothing_in_vain = async {
        loop {
            let claims = world.claims().list(&ListParams::default()).await.unwrap();
            if claims.iter().filter(|claim| claim.spec.node_uid.is_some()).count() == 60 {
                return;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(SOON, nothing_in_vain).await.expect("surplus claims are released");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exhausted_pool_is_told_once_and_heals_when_a_pool_is_added() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path(), vec![pool("10.42.0.0/24", 24)], 1).await;
    world.add("a").await;
    world.allocated(1).await;
    world.add("b").await;

    let why = world.condition("b", "SubnetAllocated", "PoolExhausted").await;
    let version = world.nodes().get("b").await.unwrap().resource_version();
    sleep(Duration::from_millis(700)).await;
    let later = world.nodes().get("b").await.unwrap().resource_version();

    assert!(why.contains("10.42.0.0/24 (1 of /24)"), "{why}");
    assert_eq!(version, later, "a full pool is no reason to write again and again");
    // One for the node, one for the Mesh, however often the controller looked.
    world.events("PoolExhausted", 2).await;

    let meshes: Api<Mesh> = Api::all(world.client());
    let pools = [pool("10.42.0.0/24", 24), pool("10.43.0.0/24", 24)];
    let grown = Patch::Merge(json!({"spec": {"pools": pools}}));
    meshes.patch(api::MESH, &PatchParams::default(), &grown).await.unwrap();
    world.allocated(1).await;

    assert_eq!(world.subnets("b").await, ["10.43.0.0/24"]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copied_key_is_refused_and_the_first_one_stays_admitted() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path(), both(), 1).await;
    let key = "CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk=";
    let status = |address: &str| {
        Patch::Merge(json!({"status": {
            "publicKeys": [{"epoch": 1, "publicKey": key}],
            "endpoints": [format!("{address}:51820")],
        }}))
    };
    world.add("first").await;
    world.add("clone").await;
    world.allocated(2).await;

    let nodes = world.nodes();
    let params = PatchParams::default();
    nodes.patch_status("first", &params, &status("192.0.2.1")).await.unwrap();
    world.condition("first", "Ready", "NodeReady").await;
    nodes.patch_status("clone", &params, &status("192.0.2.2")).await.unwrap();

    let why = world.condition("clone", "Admitted", "KeyShared").await;
    assert!(why.contains("first"), "{why}");
    world.condition("first", "Admitted", "Admitted").await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_nodes_that_join_at_once_are_served_together() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path(), both(), 1).await;

    let began = Instant::now();
    let names: Vec<String> = (0..100).map(|i| format!("n{i}")).collect();
    futures::future::join_all(names.iter().map(|name| world.add(name))).await;
    let subnets: BTreeSet<IpNet> = world.allocated(2).await.into_iter().collect();

    println!("100 nodes allocated in {:?}", began.elapsed());
    assert_eq!(subnets.len(), 200);
    world.stop().await;
}
