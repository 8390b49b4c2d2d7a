//! Runs rotations: read, ask [`crate::rotate`], write; again until there is nothing to do.
//!
//! What is written is decided on a fresh read. The order makes a cut anywhere harmless: the claim
//! of the mesh before the progress, the progress before what follows from it.

mod read;
mod status;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use api::{KeyRotation, KeyRotationSpec, Mesh, MeshNode, MeshPeer};
use futures::FutureExt;
use jiff::Timestamp;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio::time::Instant;
use tracing::info;

use super::events::{Events, Notice};
use super::pass::in_parallel;
use super::write::{Outcome, settle, version_of};
use crate::metrics::Metrics;
use crate::rotate::schedule::{Due, due};
use crate::rotate::{Next, Progress, Rotation, World, Write, next, tidy};
pub(super) use read::SeenRotations;
use status::Report;

/// Steps in one pass; races may take a few.
const STEPS: usize = 24;
/// So long without a change of phase, and it counts as stalled.
const STALLED: Duration = Duration::from_secs(60);
/// So long after the end of a rotation every agent has told what it counted: the last probes wait
/// two seconds for their answers.
const ALL_TOLD: Duration = Duration::from_secs(5);
/// Keeps a deleted rotation until its nodes are in order.
const FINALIZER: &str = "hawser.dev/rotation";

/// The rotations of one controller.
pub(super) struct Rotations {
    client: Client,
    metrics: Arc<Metrics>,
    /// Since when each has been where it is.
    since: HashMap<String, (Progress, Instant)>,
}

/// What one look sees.
struct Look<'a> {
    seen: &'a SeenRotations,
    world: World,
    mesh: &'a Mesh,
    /// Read just now, and not from a cache.
    fresh: bool,
    events: &'a Events,
    now: Timestamp,
}

impl<'a> Look<'a> {
    fn report(&'a self, rotation: &'a Rotation, todo: &'a Next) -> Report<'a> {
        let probes = self.seen.probes(&rotation.uid);
        Report { rotation, world: &self.world, todo, probes, now: self.now }
    }
}

/// What one look came to.
enum Step {
    /// Something was written, or somebody was faster: look again.
    Again,
    /// Nothing to do before this time.
    Until(Option<Timestamp>),
}

impl Rotations {
    pub(super) fn new(client: Client, metrics: Arc<Metrics>) -> Self {
        Self { client, metrics, since: HashMap::new() }
    }

    /// Does what there is to do. Returns when to come back even if nothing changes.
    pub(super) async fn run(
        &mut self,
        cached: SeenRotations,
        events: &Events,
    ) -> anyhow::Result<Option<Duration>> {
        let mut seen = cached;
        for step in 0..STEPS {
            let now = Timestamp::now();
            // A cache says whether there is work; what is done is decided on what is true now.
            let Some(mesh) = seen.mesh.clone() else {
                return Ok(None);
            };
            let world = seen.world();
            let look = Look { seen: &seen, world, mesh: &mesh, fresh: step > 0, events, now };
            match self.step(&look).await? {
                Step::Until(wake) => {
                    let wake = wake.map(|at| Duration::try_from(at - now).unwrap_or_default());
                    let wake = wake.map(|wake| wake + Duration::from_secs(1));
                    return Ok(wake.into_iter().chain(self.stall()).min());
                }
                Step::Again => seen = self.fresh().await?,
            }
        }
        Ok(Some(Duration::from_millis(200)))
    }

    /// A wait that may turn out to be a stall is looked at again.
    fn stall(&self) -> Option<Duration> {
        (!self.since.is_empty()).then_some(STALLED)
    }

    async fn fresh(&self) -> anyhow::Result<SeenRotations> {
        let all = ListParams::default();
        let meshes: Api<Mesh> = Api::all(self.client.clone());
        let nodes: Api<MeshNode> = Api::all(self.client.clone());
        let peers: Api<MeshPeer> = Api::all(self.client.clone());
        let rotations: Api<KeyRotation> = Api::all(self.client.clone());
        let mesh = meshes.get_opt(api::MESH).await.context("reading the Mesh")?;
        let rotations = rotations.list(&all).await.context("listing rotations")?;
        let peers = peers.list(&all).await.context("listing peers")?;
        let nodes = nodes.list(&all).await.context("listing nodes")?;
        Ok(SeenRotations {
            mesh: mesh.map(Arc::new),
            nodes: nodes.items.into_iter().map(Arc::new).collect(),
            peers: peers.items.into_iter().map(Arc::new).collect(),
            rotations: rotations.items.into_iter().map(Arc::new).collect(),
        })
    }

    async fn step(&mut self, look: &Look<'_>) -> anyhow::Result<Step> {
        let open = look.seen.open();
        let is_open = |uid: &String| open.iter().any(|o| o.metadata.uid.as_ref() == Some(uid));
        if look.world.running.as_ref().is_some_and(|running| !is_open(&running.uid)) {
            return if look.fresh { self.release(look.mesh).await } else { Ok(Step::Again) };
        }
        let stray = tidy(&look.world);
        if !stray.is_empty() {
            return if look.fresh { self.write(&stray, look).await } else { Ok(Step::Again) };
        }
        self.since.retain(|uid, _| is_open(uid));
        let mut wake: Option<Timestamp> = None;
        for object in &open {
            match self.advance(object, look).await? {
                Step::Again => return Ok(Step::Again),
                Step::Until(at) => wake = [wake, at].into_iter().flatten().min(),
            }
        }
        if let Some(object) = look.seen.over_and_held().next() {
            return if look.fresh { self.let_go(object).await } else { Ok(Step::Again) };
        }
        match self.count(look).await? {
            Step::Again => return Ok(Step::Again),
            Step::Until(at) => wake = [wake, at].into_iter().flatten().min(),
        }
        if open.is_empty() {
            return Ok(match self.schedule(look).await? {
                Step::Until(at) => Step::Until([wake, at].into_iter().flatten().min()),
                Step::Again => Step::Again,
            });
        }
        Ok(Step::Until(wake))
    }

    /// One rotation by as much as can be done in one write.
    async fn advance(&mut self, object: &KeyRotation, look: &Look<'_>) -> anyhow::Result<Step> {
        let mut rotation = read::rotation(object);
        let mut todo = next(&rotation, &look.world, look.now);
        while let Next::Move(progress) = todo {
            rotation.progress = Some(progress);
            todo = next(&rotation, &look.world, look.now);
        }
        let report = look.report(&rotation, &todo);
        let stalled = self.is_stalled(&rotation, &todo);
        let after = report.status(object, stalled);
        if object.status.as_ref() != Some(&after) && !matches!(todo, Next::Begin(_)) {
            return if look.fresh { self.keep(object, after, look).await } else { Ok(Step::Again) };
        }
        match todo {
            Next::Begin(_) | Next::Write(_) if !look.fresh => Ok(Step::Again),
            Next::Begin(progress) => self.begin(object, progress, look).await,
            Next::Write(writes) => self.write(&writes, look).await,
            Next::Wait(waiting) => Ok(Step::Until(waiting.until)),
            Next::Move(_) | Next::Rest | Next::Refuse(_) | Next::Pend(_) => Ok(Step::Until(None)),
        }
    }

    /// True if it has waited in one place for long.
    fn is_stalled(&mut self, rotation: &Rotation, todo: &Next) -> bool {
        let (Some(progress), Next::Wait(waiting)) = (&rotation.progress, todo) else {
            return false;
        };
        let at = (progress.clone(), Instant::now());
        let since = self.since.entry(rotation.uid.clone()).or_insert_with(|| at.clone());
        if since.0 != *progress {
            *since = at;
        }
        let patient = matches!(waiting.reason.word, "Paused" | "AwaitingAway");
        !patient && since.1.elapsed() >= STALLED
    }

    /// Claims the mesh; the progress follows once the claim is seen.
    async fn begin(
        &self,
        object: &KeyRotation,
        progress: Progress,
        look: &Look<'_>,
    ) -> anyhow::Result<Step> {
        let rotations: Api<KeyRotation> = Api::all(self.client.clone());
        let name = object.name_any();
        if !object.finalizers().iter().any(|held| held == FINALIZER) {
            let mut finalizers = object.finalizers().to_vec();
            finalizers.push(FINALIZER.to_owned());
            let mut metadata = version_of(object);
            metadata["finalizers"] = json!(finalizers);
            let patch = Patch::Merge(json!({"metadata": metadata}));
            let answer = rotations.patch(&name, &PatchParams::default(), &patch).await.map(drop);
            settle(answer).with_context(|| format!("holding {name}"))?;
            return Ok(Step::Again);
        }
        if look.world.running.is_none() {
            let claim = json!({"rotation": object.uid(), "newestEpoch": progress.epoch});
            self.patch_mesh(look.mesh, claim).await?;
            return Ok(Step::Again);
        }
        info!(rotation = name, epoch = %progress.epoch, "rotation begins");
        let mut rotation = read::rotation(object);
        rotation.progress = Some(progress);
        let todo = Next::Rest;
        let report = look.report(&rotation, &todo);
        self.keep(object, report.status(object, false), look).await
    }

    /// The mesh is free for another rotation.
    async fn release(&self, mesh: &Mesh) -> anyhow::Result<Step> {
        self.patch_mesh(mesh, json!({"rotation": null})).await?;
        Ok(Step::Again)
    }

    async fn patch_mesh(&self, mesh: &Mesh, status: serde_json::Value) -> anyhow::Result<Outcome> {
        let api: Api<Mesh> = Api::all(self.client.clone());
        let patch = Patch::Merge(json!({"metadata": version_of(mesh), "status": status}));
        let answer = api.patch_status(api::MESH, &PatchParams::default(), &patch).await.map(drop);
        let outcome = settle(answer).context("noting the rotation in the Mesh")?;
        self.metrics.write("rotation", outcome.name());
        Ok(outcome)
    }

    async fn keep(
        &self,
        object: &KeyRotation,
        status: api::KeyRotationStatus,
        look: &Look<'_>,
    ) -> anyhow::Result<Step> {
        let name = object.name_any();
        let notice = status::notice(object, &status);
        let mut after = object.clone();
        after.status = Some(status);
        let api: Api<KeyRotation> = Api::all(self.client.clone());
        let answer = api.replace_status(&name, &PostParams::default(), &after).await.map(drop);
        let outcome = settle(answer).with_context(|| format!("reporting on {name}"))?;
        self.metrics.write("rotation", outcome.name());
        if let (Outcome::Done, Some(notice)) = (outcome, notice) {
            let Notice { reason, note, .. } = &notice;
            info!(rotation = name, reason, note, "rotation");
            look.events.publish(object, &notice).await;
        }
        Ok(Step::Again)
    }

    /// Tells nodes their epochs, a few at a time; those that fail are tried again.
    async fn write(&self, writes: &[Write], look: &Look<'_>) -> anyhow::Result<Step> {
        let api: Api<MeshNode> = Api::all(self.client.clone());
        let api = &api;
        let tries = writes.iter().filter_map(|write| {
            let node = look.seen.nodes.iter().find(|node| node.name_any() == write.node)?;
            let spec = json!({"keyEpoch": write.key_epoch, "epochs": write.epochs});
            let patch = json!({"metadata": version_of(node.as_ref()), "spec": spec});
            Some(
                async move {
                    let patch = Patch::Merge(&patch);
                    api.patch(&write.node, &PatchParams::default(), &patch).await.map(drop)
                }
                .boxed(),
            )
        });
        let mut failed = None;
        for answer in in_parallel(tries.collect()).await {
            match settle(answer) {
                Ok(outcome) => self.metrics.write("epochs", outcome.name()),
                Err(error) => {
                    self.metrics.write("epochs", "failed");
                    failed = Some(error);
                }
            }
        }
        failed.map_or(Ok(Step::Again), |error| Err(error).context("telling nodes their epochs"))
    }

    /// The last probes have their fate only when a rotation is over; they are added in one write.
    async fn count(&self, look: &Look<'_>) -> anyhow::Result<Step> {
        let mut wake: Option<Timestamp> = None;
        for object in look.seen.over() {
            let probes = look.seen.probes(&object.uid().unwrap_or_default());
            let Some(after) = status::counted(object, probes) else { continue };
            let ended = after.ended_at.as_ref().and_then(|at| at.parse::<Timestamp>().ok());
            let at = ended.unwrap_or(look.now).saturating_add(ALL_TOLD).unwrap_or(Timestamp::MAX);
            if look.now < at {
                wake = wake.into_iter().chain([at]).min();
            } else if look.fresh {
                return self.keep(object, after, look).await;
            } else {
                return Ok(Step::Again);
            }
        }
        Ok(Step::Until(wake))
    }

    /// A rotation that is over may be deleted.
    async fn let_go(&self, object: &KeyRotation) -> anyhow::Result<Step> {
        let finalizers: Vec<&String> =
            object.finalizers().iter().filter(|held| *held != FINALIZER).collect();
        let mut metadata = version_of(object);
        metadata["finalizers"] = json!(finalizers);
        let api: Api<KeyRotation> = Api::all(self.client.clone());
        let patch = Patch::Merge(json!({"metadata": metadata}));
        let name = object.name_any();
        let answer = api.patch(&name, &PatchParams::default(), &patch).await.map(drop);
        settle(answer).with_context(|| format!("letting go of {name}"))?;
        Ok(Step::Again)
    }

    /// Begins a rotation that is due, and says when the next one is.
    async fn schedule(&self, look: &Look<'_>) -> anyhow::Result<Step> {
        let Some(schedule) = &look.mesh.spec.key_rotation else {
            return self.announce(None, None, look).await;
        };
        let last = look.seen.last_end();
        match due(schedule, last, dice(look.mesh, last), look.now) {
            Due::Never(why) => self.announce(Some(why), None, look).await,
            Due::At(at) => self.announce(Some(at.to_string()), Some(at), look).await,
            Due::Now => match &look.world.degraded {
                Some(why) => {
                    let text = format!("waits: the mesh is degraded: {why}");
                    self.announce(Some(text), None, look).await
                }
                None => self.create_scheduled(look).await,
            },
        }
    }

    async fn create_scheduled(&self, look: &Look<'_>) -> anyhow::Result<Step> {
        let name = format!("scheduled-{}", look.now.strftime("%Y%m%d-%H%M%S"));
        let rotation = KeyRotation::new(&name, KeyRotationSpec::default());
        let api: Api<KeyRotation> = Api::all(self.client.clone());
        let answer = api.create(&PostParams::default(), &rotation).await.map(drop);
        settle(answer).with_context(|| format!("beginning {name}"))?;
        info!(rotation = name, "rotation is due");
        Ok(Step::Again)
    }

    async fn announce(
        &self,
        text: Option<String>,
        at: Option<Timestamp>,
        look: &Look<'_>,
    ) -> anyhow::Result<Step> {
        let text = text.map(|text| text.chars().take(250).collect::<String>());
        let told = look.mesh.status.as_ref().and_then(|status| status.next_rotation.clone());
        if told == text {
            return Ok(Step::Until(at));
        }
        if look.fresh {
            self.patch_mesh(look.mesh, json!({"nextRotation": text})).await?;
        }
        Ok(Step::Again)
    }
}

/// The same for one interval, so that the time does not wander.
fn dice(mesh: &Mesh, last: Timestamp) -> f64 {
    let seed = format!("{}{last}", mesh.uid().unwrap_or_default());
    let digest =
        api::digest([(seed.as_str(), keys::KeyEpoch::FIRST, keys::PublicKey::from_bytes([0; 32]))]);
    let number = u32::from_str_radix(&digest[..8], 16).unwrap_or_default();
    f64::from(number) / f64::from(u32::MAX)
}
