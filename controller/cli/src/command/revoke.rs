//! `hawser revoke NODE`: out of the mesh at once, and for ever.

use api::MeshNode;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;

use crate::{
    args::DryRun,
    cluster::Cluster,
    exit::{Exit, Failure},
    settings::Settings,
    terminal::Terminal,
    view::{nodes, revoke::Plan},
};

pub(super) async fn run(
    name: &str,
    settings: &Settings,
    terminal: &Terminal,
) -> Result<Exit, Failure> {
    let cluster = Cluster::connect(settings).await?;
    let (all, peers) = tokio::try_join!(cluster.nodes(), cluster.peers())?;
    let node = all.iter().find(|node| node.metadata.name.as_deref() == Some(name));
    let Some(node) = node else {
        return Err(nodes::not_found(name, &all));
    };
    let plan = Plan::new(node, &all, &peers);
    if plan.is_done() {
        terminal.print(&plan.output("unchanged: it is revoked already"))?;
        return Ok(Exit::Ok);
    }
    terminal.say(&plan.text());
    if settings.dry_run == Some(DryRun::Client) {
        terminal.print(&plan.output("revoked (client dry run)"))?;
        return Ok(Exit::Ok);
    }
    let dry_run = settings.dry_run.is_some();
    if !dry_run {
        terminal.confirm(&plan.question()).await?;
    }
    // That very node: one of the same name made since is another.
    let patch = json!({"metadata": {"uid": node.metadata.uid}, "spec": {"revoked": true}});
    let parameters = PatchParams { dry_run, ..PatchParams::default() };
    let api: Api<MeshNode> = Api::all(cluster.client.clone());
    let patch = Patch::Merge(&patch);
    cluster.ask("patch meshnodes", api.patch(name, &parameters, &patch)).await?;
    let verb = if dry_run { "revoked (server dry run)" } else { "revoked" };
    terminal.print(&plan.output(verb))?;
    Ok(Exit::Ok)
}
