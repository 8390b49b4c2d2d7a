//! Tells the mesh where the gateway is and what tokens pin, and keeps the tokens' columns true.

use std::sync::Arc;
use std::time::Duration;

use api::{Gateway, JoinToken, Mesh, MeshNode};
use jiff::Timestamp;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::time::sleep;
use tracing::warn;

use super::admission;
use super::entry::write_status;
use super::follow::{Feeds, Kind};

/// A token that ends by time says so within this.
const LOOK: Duration = Duration::from_secs(15);

/// For ever.
pub(super) async fn announce(client: Client, feeds: Arc<Feeds>, gateway: Gateway) {
    let mut meshes = feeds.of(Kind::Mesh).head();
    loop {
        if let Err(error) = look(&client, &feeds, &gateway).await {
            warn!(%error, "gateway not announced");
        }
        // The feed outlives this.
        tokio::select! {
            _ = meshes.changed() => sleep(Duration::from_millis(100)).await,
            () = sleep(LOOK) => {}
        }
    }
}

async fn look(client: &Client, feeds: &Feeds, gateway: &Gateway) -> kube::Result<()> {
    let mesh = feeds.of(Kind::Mesh).get(api::MESH);
    let mesh = mesh.and_then(|json| serde_json::from_slice::<Mesh>(&json).ok());
    if let Some(mesh) = mesh
        && mesh.status.and_then(|status| status.gateway).as_ref() != Some(gateway)
    {
        let api: Api<Mesh> = Api::all(client.clone());
        let patch = json!({"status": {"gateway": gateway}});
        api.patch_status(api::MESH, &PatchParams::default(), &Patch::Merge(&patch)).await?;
    }
    let tokens: Api<JoinToken> = Api::all(client.clone());
    for token in tokens.list(&ListParams::default()).await? {
        let node = |name: &str| {
            let json = feeds.of(Kind::Node).get(name)?;
            serde_json::from_slice::<MeshNode>(&json).ok()
        };
        let arrived = admission::with_arrivals(token.clone(), node);
        let status = admission::judged(arrived, Timestamp::now());
        if token.status.as_ref() != Some(&status) {
            write_status(client, &token, &status).await?;
        }
    }
    Ok(())
}
