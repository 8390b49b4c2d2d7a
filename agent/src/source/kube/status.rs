//! This node's own status in the API: what it is reached at, with which keys, and how it fares.
//!
//! Written only when something differs, never on a clock: nothing in it changes by itself. Others
//! write conditions into the same list, so a write carries the resourceVersion that it was made
//! from, and a conflict is answered by reading again.

mod desired;

use std::{sync::Arc, time::Duration};

use api::MeshNode;
use arc_swap::ArcSwap;
use jiff::Timestamp;
use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tokio::{sync::watch, time::sleep};

pub use self::desired::{Identity, Live};
use crate::{datapath::Datapath, snapshot::Snapshot};

/// Between two looks at what has changed here.
const LOOK: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// What the status is made of.
pub struct Reporter {
    pub client: Client,
    pub identity: Identity,
    pub datapath: Arc<Datapath>,
    pub snapshot: Arc<ArcSwap<Snapshot>>,
}

impl Reporter {
    /// Keeps the status of `own` true, for ever.
    pub async fn follow(self, mut own: watch::Receiver<Option<MeshNode>>) {
        let mut wait = LOOK;
        loop {
            let node = own.borrow_and_update().clone();
            wait = match node {
                Some(node) => self.report(node).await.map_or_else(
                    |error| {
                        tracing::warn!(%error, "own status not written");
                        (wait * 2).min(LONGEST_WAIT)
                    },
                    |()| LOOK,
                ),
                None => LOOK,
            };
            tokio::select! {
                changed = own.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    // Somebody writes; let him finish.
                    sleep(jitter(LOOK / 10)).await;
                }
                () = sleep(jitter(wait)) => {}
            }
        }
    }

    async fn report(&self, node: MeshNode) -> Result<(), kube::Error> {
        let live = Live { peers: self.datapath.status(), now: Timestamp::now() };
        let snapshot = self.snapshot.load();
        let Some(status) = desired::status(&node, &self.identity, &snapshot, &live) else {
            return Ok(());
        };
        let patch = json!({
            "metadata": {"resourceVersion": node.resource_version()},
            "status": status,
        });
        let api: Api<MeshNode> = Api::all(self.client.clone());
        let patch = Patch::Merge(&patch);
        let written = api.patch_status(&node.name_any(), &PatchParams::default(), &patch).await;
        match written {
            Ok(_) => Ok(()),
            // Somebody was faster; the watch brings what he wrote.
            Err(kube::Error::Api(error)) if error.code == 409 => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Up to half more, so that a fleet doesn't write at once.
pub(super) fn jitter(wait: Duration) -> Duration {
    let mut random = [0u8; 1];
    getrandom::fill(&mut random).ok();
    wait + wait * u32::from(random[0]) / 512
}
