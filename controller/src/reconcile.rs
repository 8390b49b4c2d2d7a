//! Keeps the mesh as it should be: read, ask the pure functions, write what differs.
//!
//! ```text
//! watchers → caches → something to do? ──no──▶ report: conditions that differ
//!                         │ yes                      ▲
//!                         ▼                          │
//!               nodes, then claims, read afresh ─▶ allocate::plan ─▶ writes ─▶ again until none
//! ```
//!
//! Caches only say whether there is work; what is written is decided on a fresh read, in the order
//! that [`crate::allocate`] asks for. A pass waits until a burst of changes is over, so a hundred
//! nodes that join at once are one pass.

mod announce;
mod events;
mod mark;
mod mirror;
mod pass;
mod read;
mod report;
mod rotations;
mod write;

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use api::{KeyRotation, Mesh, MeshNode, MeshPeer, SubnetClaim};
use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::Node as KubeNode;
use kube::runtime::reflector::{self, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use crate::allocate::REST;
use crate::metrics::Metrics;
use pass::Pass;
pub use read::Seen;
use rotations::SeenRotations;

/// A burst of changes is over when nothing came for this long,
const QUIET: Duration = Duration::from_millis(20);
/// or after this long at most.
const PATIENCE: Duration = Duration::from_millis(250);
/// Even without any change everything is looked at again now and then.
const RESYNC: Duration = Duration::from_secs(600);
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const LAST_BACKOFF: Duration = Duration::from_secs(30);

/// How a reconciler runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Who it is, in events.
    pub identity: String,
    /// How long a released subnet rests; never less than [`REST`] outside of tests.
    pub rest: Duration,
    /// Keep a MeshNode for each Kubernetes Node.
    pub mirror: bool,
}

impl Settings {
    pub fn new(identity: impl Into<String>) -> Settings {
        Settings { identity: identity.into(), rest: REST, mirror: false }
    }
}

/// Runs until the future is dropped. `active` is the lease's word: while it is false, only rests
/// are watched. `restores` changes when the API has gone back in time.
pub async fn run(
    client: Client,
    settings: Settings,
    active: watch::Receiver<bool>,
    mut restores: watch::Receiver<u64>,
    metrics: Arc<Metrics>,
) {
    let (gone, deleted) = mpsc::unbounded_channel();
    let mirror = settings.mirror;
    let mut pass = Pass::new(client.clone(), settings, metrics, deleted);
    loop {
        let watched = watch_and_work(client.clone(), mirror, &mut pass, (active.clone(), &gone));
        tokio::select! {
            () = watched => return,
            () = next(&mut restores) => info!("the caches begin anew"),
        }
    }
}

/// A watch that began before a restore sees nothing until the server's count of writes has come to
/// where the watch stands.
async fn next(restores: &mut watch::Receiver<u64>) {
    if restores.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn watch_and_work(
    client: Client,
    mirror: bool,
    pass: &mut Pass,
    (active, gone): (watch::Receiver<bool>, &mpsc::UnboundedSender<String>),
) {
    let changed = Arc::new(Notify::new());
    let claim_gone = move |claim: &SubnetClaim| {
        // An error means that the reader is gone; then the whole run is over.
        let _ = gone.send(claim.name_any());
    };
    let (meshes, watch_meshes) = cache::<Mesh>(Api::all(client.clone()), &changed);
    let (nodes, watch_nodes) = cache::<MeshNode>(Api::all(client.clone()), &changed);
    let (claims, watch_claims) = cache_telling(Api::all(client.clone()), &changed, claim_gone);
    let (peers, watch_peers) = cache::<MeshPeer>(Api::all(client.clone()), &changed);
    let (rotations, watch_rotations) = cache::<KeyRotation>(Api::all(client.clone()), &changed);
    let (machines, watch_machines) = cache::<KubeNode>(Api::all(client), &changed);
    let machines = mirror.then_some(machines);
    let caches = Caches { meshes, nodes, claims, peers, rotations, machines };
    let watch_machines = async move {
        if mirror {
            watch_machines.await;
        } else {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = watch_meshes => {}
        () = watch_nodes => {}
        () = watch_claims => {}
        () = watch_peers => {}
        () = watch_rotations => {}
        () = watch_machines => {}
        () = work(caches, pass, changed, active) => {}
    }
}

/// What the watchers have seen so far.
struct Caches {
    meshes: Store<Mesh>,
    nodes: Store<MeshNode>,
    claims: Store<SubnetClaim>,
    peers: Store<MeshPeer>,
    rotations: Store<KeyRotation>,
    machines: Option<Store<KubeNode>>,
}

impl Caches {
    async fn filled(&self) {
        // An error means that the writer is gone; then the whole run is over.
        let _ = self.meshes.wait_until_ready().await;
        let _ = self.nodes.wait_until_ready().await;
        let _ = self.claims.wait_until_ready().await;
        let _ = self.peers.wait_until_ready().await;
        let _ = self.rotations.wait_until_ready().await;
        if let Some(machines) = &self.machines {
            let _ = machines.wait_until_ready().await;
        }
    }

    fn seen(&self) -> Seen {
        Seen {
            mesh: (self.meshes.state().into_iter())
                .find(|mesh| mesh.metadata.name.as_deref() == Some(api::MESH)),
            nodes: self.nodes.state(),
            claims: self.claims.state(),
            peers: self.peers.state(),
            machines: self.machines().unwrap_or_default(),
        }
    }

    fn rotations(&self) -> SeenRotations {
        let Seen { mesh, nodes, peers, .. } = self.seen();
        SeenRotations { mesh, nodes, peers, rotations: self.rotations.state() }
    }

    fn machines(&self) -> Option<Vec<Arc<KubeNode>>> {
        self.machines.as_ref().map(Store::state)
    }
}

async fn work(
    caches: Caches,
    pass: &mut Pass,
    changed: Arc<Notify>,
    mut active: watch::Receiver<bool>,
) {
    caches.filled().await;
    info!("caches filled");
    let mut backoff = FIRST_BACKOFF;
    loop {
        let is_active = *active.borrow_and_update();
        let next = match turn(pass, &caches, is_active).await {
            Ok(next) => {
                backoff = FIRST_BACKOFF;
                next
            }
            Err(error) => {
                warn!(error = format!("{error:#}"), ?backoff, "pass failed");
                sleep(jittered(backoff)).await;
                backoff = (backoff * 2).min(LAST_BACKOFF);
                continue;
            }
        };
        let wake = Instant::now() + next.unwrap_or(RESYNC).min(RESYNC);
        tokio::select! {
            () = changed.notified() => quiet(&changed).await,
            _ = active.changed() => {}
            () = tokio::time::sleep_until(wake) => {}
        }
    }
}

/// Subnets and conditions, then rotations: those look at what the former decided.
async fn turn(pass: &mut Pass, caches: &Caches, active: bool) -> anyhow::Result<Option<Duration>> {
    let rest = pass.run(caches.seen(), caches.machines(), active).await?;
    if !active {
        return Ok(rest);
    }
    let wake = pass.rotate(caches.rotations()).await?;
    Ok(rest.into_iter().chain(wake).min())
}

/// Waits until a burst of changes is over.
async fn quiet(changed: &Notify) {
    let burst = async move { while timeout(QUIET, changed.notified()).await.is_ok() {} };
    // However long the burst, work begins.
    let _ = timeout(PATIENCE, burst).await;
}

/// Two controllers that failed together do not come back together.
fn jittered(backoff: Duration) -> Duration {
    let dice = uuid::Uuid::new_v4().as_bytes()[0];
    backoff.mul_f64(0.5 + f64::from(dice) / 256.0)
}

/// A cache of all objects of a kind, and the work that keeps it so.
fn cache<K>(api: Api<K>, changed: &Arc<Notify>) -> (Store<K>, impl Future<Output = ()> + use<K>)
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    K::DynamicType: Default + Eq + Hash + Clone,
{
    cache_telling(api, changed, |_| {})
}

/// The same, which also tells of each object that it sees deleted.
fn cache_telling<K, F>(
    api: Api<K>,
    changed: &Arc<Notify>,
    deleted: F,
) -> (Store<K>, impl Future<Output = ()> + use<K, F>)
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    K::DynamicType: Default + Eq + Hash + Clone,
    F: Fn(&K),
{
    let (store, writer) = reflector::store();
    let stream = watcher(api, watcher::Config::default()).default_backoff().reflect(writer);
    (store, drain(stream, Arc::clone(changed), deleted))
}

async fn drain<K>(
    stream: impl Stream<Item = watcher::Result<watcher::Event<K>>>,
    changed: Arc<Notify>,
    deleted: impl Fn(&K),
) {
    let mut stream = std::pin::pin!(stream);
    while let Some(event) = stream.next().await {
        if let Ok(watcher::Event::Delete(object)) = &event {
            deleted(object);
        }
        match event {
            Ok(watcher::Event::Init | watcher::Event::InitApply(_)) => {}
            Ok(watcher::Event::InitDone | watcher::Event::Apply(_) | watcher::Event::Delete(_)) => {
                changed.notify_one();
            }
            Err(error) => warn!(%error, "watch interrupted"),
        }
    }
}
