//! One pass: allocate until nothing is left to do, then report.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use api::{Mesh, MeshNode, SubnetClaim, conditions};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node as KubeNode;
use kube::api::{ListParams, Patch, PatchParams};
use kube::core::ObjectList;
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::announce;
use super::events::{Events, Notice};
use super::mark::Mark;
use super::report::{Change, Reported, Sight};
use super::rotations::{Rotations, SeenRotations};
use super::write::{self, Outcome, version_of};
use super::{Seen, Settings, mirror};
use crate::admit::{self, Memory};
use crate::allocate::{Plan, Rests, Write, plan};
use crate::metrics::Metrics;

/// Rounds of planning and writing in one pass; races may take a few.
const ROUNDS: usize = 6;
/// Writes in flight.
const WIDTH: usize = 16;

pub(super) struct Pass {
    client: Client,
    metrics: Arc<Metrics>,
    events: Events,
    born: Instant,
    rests: Rests,
    memory: Memory,
    mark: Mark,
    /// A claim was missing at the last look.
    suspects: bool,
    /// Names of claims that somebody deleted.
    deleted: UnboundedReceiver<String>,
    rotations: Rotations,
}

impl Pass {
    pub(super) fn new(
        client: Client,
        settings: Settings,
        metrics: Arc<Metrics>,
        deleted: UnboundedReceiver<String>,
    ) -> Pass {
        Pass {
            events: Events::new(client.clone(), &settings.identity),
            rests: Rests::of(settings.rest),
            rotations: Rotations::new(client.clone(), Arc::clone(&metrics)),
            client,
            metrics,
            born: Instant::now(),
            memory: Memory::default(),
            mark: Mark::default(),
            suspects: false,
            deleted,
        }
    }

    /// Returns when to come back even if nothing changes.
    pub(super) async fn run(
        &mut self,
        cached: Seen,
        machines: Option<Vec<Arc<KubeNode>>>,
        active: bool,
    ) -> anyhow::Result<Option<Duration>> {
        self.metrics.active(active);
        let mut seen = cached;
        self.remember(&seen);
        let mut plan = self.plan(&seen);
        if active {
            let began = Instant::now();
            if let Some(machines) = machines {
                let steps =
                    mirror::plan(&machines, &seen.nodes, &seen.mesh_ranges(), &seen.epochs());
                mirror::apply(&self.client, &steps).await?;
            }
            let mut rounds = 0;
            while !plan.writes.is_empty() {
                rounds += 1;
                ensure!(rounds <= ROUNDS, "other writers were faster {ROUNDS} times");
                // A cache may be old: decide on what is true now.
                seen = self.fresh(seen).await?;
                plan = self.plan(&seen);
                self.write(&plan.writes, &seen).await?;
            }
            if !announce::due(&seen).is_empty() {
                // Of two that ask at once both must be seen.
                seen = self.fresh(seen).await?;
                plan = self.plan(&seen);
                announce::write(&self.client, &announce::due(&seen)).await?;
            }
            self.report(&seen, &plan).await?;
            self.metrics.pass(began.elapsed());
        }
        let now = self.born.elapsed();
        Ok(self.rests.next_end(now).map(|end| end.saturating_sub(now)))
    }

    /// Brings rotations forward. Returns when to come back even if nothing changes.
    pub(super) async fn rotate(
        &mut self,
        cached: SeenRotations,
    ) -> anyhow::Result<Option<Duration>> {
        self.rotations.run(cached, &self.events).await
    }

    fn remember(&mut self, seen: &Seen) {
        if seen.restored() {
            // Whoever pauses allocation has seen it; what was before it no longer counts.
            self.mark.begin_at(&seen.claims);
        }
        self.mark.saw(&seen.claims);
        while let Ok(name) = self.deleted.try_recv() {
            self.mark.deleted(&name);
        }
    }

    fn plan(&mut self, seen: &Seen) -> Plan {
        let now = self.born.elapsed();
        self.rests.observe(seen.released(), now);
        plan(&seen.view(&seen.pools(), &self.rests, now))
    }

    /// Nodes before claims: see [`crate::allocate`].
    async fn fresh(&mut self, cached: Seen) -> anyhow::Result<Seen> {
        let Seen { machines, peers, .. } = cached;
        let all = ListParams::default();
        let meshes: Api<Mesh> = Api::all(self.client.clone());
        let nodes: Api<MeshNode> = Api::all(self.client.clone());
        let claims: Api<SubnetClaim> = Api::all(self.client.clone());
        let mesh = meshes.get_opt(api::MESH).await.context("reading the Mesh")?;
        let nodes = nodes.list(&all).await.context("listing nodes")?;
        let claims = claims.list(&all).await.context("listing claims")?;
        let (nodes, claims) = (arcs(nodes), arcs(claims));
        let mut seen = Seen { mesh: mesh.map(Arc::new), nodes, claims, peers, machines };
        if let Some(mesh) = seen.mesh.clone()
            && let Some(claim) = self.mark.lost(&seen.claims)
            && !seen.restored()
        {
            // That it was deleted may be on its way: the next look knows.
            let suspected = std::mem::replace(&mut self.suspects, true);
            ensure!(suspected, "the claim {claim} is gone and was not seen to be deleted");
            seen.mesh = Some(self.pause(&mesh, claim).await?);
        }
        self.suspects = false;
        self.mark.begin_at(&seen.claims);
        Ok(seen)
    }

    /// Marks the Mesh as restored from a backup: until somebody takes the mark away, only what nodes
    /// are known to use is claimed.
    async fn pause(&self, mesh: &Mesh, claim: &str) -> anyhow::Result<Arc<Mesh>> {
        warn!(claim, "the API has lost a claim: its store was restored from a backup");
        let since = conditions::rfc3339(Timestamp::now());
        let patch = json!({"metadata": version_of(mesh), "status": {"restored": since}});
        let api: Api<Mesh> = Api::all(self.client.clone());
        let patch = Patch::Merge(&patch);
        let paused = api.patch_status(&mesh.name_any(), &PatchParams::default(), &patch).await;
        Ok(Arc::new(paused.context("pausing allocation after a restore")?))
    }

    /// Tries all writes; those that fail do not keep the others from being made.
    async fn write(&self, writes: &[Write], seen: &Seen) -> anyhow::Result<()> {
        let now = Timestamp::now();
        let tries = writes.iter().map(|one| {
            async move { (one, write::apply(&self.client, one, seen, now).await) }.boxed()
        });
        let answers = in_parallel(tries.collect()).await;
        let mut failed = None;
        for (one, answer) in answers {
            let kind = write::name_of(one);
            match answer {
                Ok(outcome) => {
                    self.metrics.write(kind, outcome.name());
                    note(one, outcome);
                }
                Err(error) => {
                    self.metrics.write(kind, "failed");
                    failed = Some(error);
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }

    async fn report(&mut self, seen: &Seen, plan: &Plan) -> anyhow::Result<()> {
        let faults = admit::judge(&seen.publications(), &seen.mesh_ranges(), &mut self.memory);
        let pools = seen.pools();
        let sight = Sight {
            seen,
            pools: &pools,
            view: &seen.view(&pools, &self.rests, self.born.elapsed()),
            plan,
            faults: &faults,
            announced: &announce::verdicts(seen),
            now: Timestamp::now(),
        };
        let nodes = sight.nodes();
        let claims = sight.claims();
        let mesh = sight.mesh(&nodes);
        let ready = nodes.iter().filter(|node| node.ready).count();
        self.metrics.mesh(&sight.usage(), ready, nodes.len());
        let nodes = nodes.into_iter().filter_map(|node| node.change).collect();
        self.patch_all(nodes).await?;
        self.patch_all(claims).await?;
        self.patch_all(mesh.into_iter().collect()).await
    }

    async fn patch_all<K: Reported>(&self, changes: Vec<Change<K>>) -> anyhow::Result<()> {
        let tries = changes.into_iter().map(|change| self.patch_status(change).boxed());
        let answers = in_parallel(tries.collect()).await;
        answers.into_iter().collect()
    }

    /// Writes one status; whoever loses the race sees the new object and judges again.
    async fn patch_status<K: Reported>(&self, change: Change<K>) -> anyhow::Result<()> {
        let api: Api<K> = Api::all(self.client.clone());
        let object = change.object.as_ref();
        let name = object.name_any();
        let patch = json!({"metadata": version_of(object), "status": change.status});
        let answer =
            api.patch_status(&name, &PatchParams::default(), &Patch::Merge(&patch)).await.map(drop);
        let outcome = write::settle(answer).with_context(|| format!("reporting on {name}"))?;
        self.metrics.write("status", outcome.name());
        if outcome == Outcome::Lost {
            return Ok(());
        }
        for notice in &change.notices {
            let Notice { reason, note, .. } = notice;
            info!(kind = %K::kind(&()), name, reason, note, "condition changed");
            self.events.publish(object, notice).await;
        }
        Ok(())
    }
}

/// A few at a time, in no order.
pub(super) async fn in_parallel<T>(tries: Vec<BoxFuture<'_, T>>) -> Vec<T> {
    stream::iter(tries).buffer_unordered(WIDTH).collect().await
}

fn note(write: &Write, outcome: Outcome) {
    let owner = write.owner();
    match (write, outcome) {
        (_, Outcome::Lost) => debug!(?write, "write lost"),
        (Write::Create { subnet, .. } | Write::Bind { subnet, .. }, Outcome::Done) => {
            info!(node = %owner.node, %subnet, "subnet claimed");
        }
        (Write::Release { subnet, .. }, Outcome::Done) => {
            info!(node = %owner.node, %subnet, "subnet released");
        }
        (Write::Publish { subnets, .. }, Outcome::Done) => {
            info!(node = %owner.node, ?subnets, "subnets published");
        }
    }
}

fn arcs<K: Clone>(list: ObjectList<K>) -> Vec<Arc<K>> {
    list.items.into_iter().map(Arc::new).collect()
}
