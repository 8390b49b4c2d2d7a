//! `hawser mesh set`: what carries and whether it encrypts, changed for the whole mesh.

use api::Mesh;
use kube::{
    Api,
    api::{Patch, PatchParams},
};

use crate::{
    args::{DryRun, MeshCommand, MeshRisk, MeshSet},
    cluster::Cluster,
    exit::{Exit, Failure},
    settings::Settings,
    terminal::Terminal,
    view::mesh::Change,
};

pub(super) async fn run(
    command: MeshCommand,
    settings: &Settings,
    terminal: &Terminal,
) -> Result<Exit, Failure> {
    match command {
        MeshCommand::Set(args) => set(&args, settings, terminal).await,
    }
}

/// Only for what was shown: a Mesh that somebody else changed meanwhile is a conflict.
async fn set(args: &MeshSet, settings: &Settings, terminal: &Terminal) -> Result<Exit, Failure> {
    if args.is_empty() {
        return Err(Failure::usage("nothing is to be changed").check(
            "give --encryption, --site-encryption, --backend, --fallback, --allow-downgrade, \
                    --vxlan-shaped-port, --relay or --site-gateways",
        ));
    }
    let cluster = Cluster::connect(settings).await?;
    let (mesh, nodes) = tokio::try_join!(cluster.mesh(), cluster.nodes())?;
    let mesh = mesh.ok_or_else(|| {
        Failure::failed("there is no Mesh named default")
            .check("is this the right cluster (--context)? The chart or the controller makes it")
    })?;
    let change = Change::new(&mesh, args, &nodes);
    if let Some(why) = change.impossible() {
        return Err(Failure::usage(why).check(
            "add --encryption Preferred or None, say for which sites with --site-encryption, or keep \
             --backend wireguard --fallback none",
        ));
    }
    if change.is_none() {
        terminal.print(&change.output("unchanged"))?;
        return Ok(Exit::Ok);
    }
    terminal.say(&change.text());
    if settings.dry_run == Some(DryRun::Client) {
        terminal.print(&change.output("configured (client dry run)"))?;
        return Ok(Exit::Ok);
    }
    if change.risks_plaintext() && args.accept_risk != Some(MeshRisk::Plaintext) {
        return Err(Failure::new(Exit::Refused, "packets may go out in clear after this change")
            .check("if the network may read and forge them, add --accept-risk=plaintext"));
    }
    let dry_run = settings.dry_run.is_some();
    let parameters = PatchParams { dry_run, ..PatchParams::default() };
    let api: Api<Mesh> = Api::all(cluster.client.clone());
    let patch = Patch::Merge(change.patch());
    cluster.ask("patch meshes", api.patch(api::MESH, &parameters, &patch)).await?;
    let verb = if dry_run { "configured (server dry run)" } else { "configured" };
    terminal.print(&change.output(verb))?;
    Ok(Exit::Ok)
}
