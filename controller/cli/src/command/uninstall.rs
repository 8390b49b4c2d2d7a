//! `hawser uninstall`: tells the agents that the mesh goes, waits until they are out of it, and
//! names those that are not; then Helm deletes the release. The chart's hook runs the first half.

use std::time::{Duration, Instant};

use api::Mesh;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;

use crate::{
    args::{DryRun, Place},
    cluster::Cluster,
    exit::{Exit, Failure},
    helm::{Chart, Helm},
    settings::Settings,
    terminal::Terminal,
    view::uninstall::Removal,
};

const PAUSE: Duration = Duration::from_millis(500);

/// `place`: where the release is; none: only the agents are told.
pub(super) async fn run(
    place: Option<&Place>,
    wait: Duration,
    settings: &Settings,
    terminal: &Terminal,
) -> Result<Exit, Failure> {
    let out = agents(wait, settings, terminal).await?;
    let Some(place) = place else { return Ok(out) };
    let helm = Helm::new(settings)?;
    let Place { release, namespace } = place;
    match helm.knows(Chart::AddOn, place).await {
        Ok(true) if settings.dry_run.is_some() => {
            terminal.say(&format!("release/{release} uninstalled (dry run)"));
        }
        Ok(true) => terminal.say(&helm.uninstall(place, wait).await?),
        Ok(false) => terminal.say(&format!(
            "Helm knows no release {release} in namespace {namespace}: what was made by other means \
             stays until they delete it"
        )),
        Err(failure) => terminal.say(&format!("nothing was deleted from the cluster: {failure}")),
    }
    Ok(out)
}

async fn agents(wait: Duration, settings: &Settings, terminal: &Terminal) -> Result<Exit, Failure> {
    let cluster = Cluster::connect(settings).await?;
    let (mesh, nodes) = tokio::try_join!(cluster.mesh(), cluster.nodes())?;
    let Some(mesh) = mesh else {
        terminal.say("there is no Mesh: no agent has anything to take down");
        return Ok(Exit::Ok);
    };
    let removal = Removal::of(&nodes);
    if settings.dry_run.is_none() && !mesh.spec.removing {
        terminal.confirm(&removal.question()).await?;
    }
    if settings.dry_run != Some(DryRun::Client) {
        begin(&cluster, &mesh, settings.dry_run.is_some()).await?;
    }
    if settings.dry_run.is_some() {
        terminal.print(&removal.output())?;
        return Ok(Exit::Ok);
    }
    terminal.now_half_done(Some("the mesh is being removed; run it again to see by whom".into()));
    let removal = follow(&cluster, wait, terminal).await?;
    terminal.print(&removal.output())?;
    if removal.is_complete() {
        return Ok(Exit::Ok);
    }
    Err(Failure::new(Exit::TimedOut, removal.complaint()).check(
        "their agents' logs; on a node without one: hawser-agent uninstall --bin-dir \
         /opt/cni/bin --conf-dir /etc/cni/net.d. To go on without them: helm uninstall --no-hooks",
    ))
}

/// That very Mesh: one that was made since is another.
async fn begin(cluster: &Cluster, mesh: &Mesh, dry_run: bool) -> Result<(), Failure> {
    let patch = json!({"metadata": {"uid": mesh.metadata.uid}, "spec": {"removing": true}});
    let parameters = PatchParams { dry_run, ..PatchParams::default() };
    let api: Api<Mesh> = Api::all(cluster.client.clone());
    let patch = Patch::Merge(&patch);
    cluster.ask("patch meshes", api.patch(api::MESH, &parameters, &patch)).await.map(drop)
}

/// Until all are out, or time is up. An API that is away for a moment is asked again.
async fn follow(
    cluster: &Cluster,
    wait: Duration,
    terminal: &Terminal,
) -> Result<Removal, Failure> {
    let began = Instant::now();
    let mut told = String::new();
    loop {
        let late = began.elapsed() + PAUSE > wait;
        match cluster.nodes().await.map(|nodes| Removal::of(&nodes)) {
            Ok(removal) => {
                terminal.progress("", &removal.line(), began.elapsed(), &mut told);
                if removal.is_complete() || late {
                    terminal.progress_ends();
                    return Ok(removal);
                }
            }
            Err(failure) if late || failure.exit != Exit::Unreachable => return Err(failure),
            Err(_) => {}
        }
        tokio::time::sleep(PAUSE).await;
    }
}
