//! Takes the node's seat in the API, keeps it, or finds that somebody else has it.

use std::time::{Duration, Instant};

use api::{Machine, MeshNode, conditions::rfc3339};
use jiff::Timestamp;
use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;

use super::{LOOK, Reporter};
use crate::{
    seat::{Step, next},
    source::contact::Contact,
};

/// Whose place it is.
pub(super) enum Place {
    Ours,
    /// To be looked at again after this.
    Open(Duration),
    Others(Machine),
}

pub(super) struct Seating {
    /// None where nothing tells machines apart.
    me: Option<Machine>,
    claimed: Option<Instant>,
    contact: Contact,
}

impl Seating {
    pub(super) fn new(reporter: &Reporter) -> Self {
        let snapshot = reporter.snapshot.load();
        let endpoint = super::desired::endpoints(&reporter.identity, &snapshot);
        let me = reporter.identity.boot_id.clone().map(|boot_id| Machine {
            boot_id,
            machine_id: reporter.identity.machine_id.clone(),
            endpoint: endpoint.first().map(ToString::to_string),
            since: rfc3339(Timestamp::now()),
        });
        Self { me, claimed: None, contact: reporter.contact.clone() }
    }

    pub(super) async fn look(&mut self, client: &Client, node: &MeshNode) -> Place {
        let Some(me) = &self.me else {
            self.contact.seated();
            return Place::Ours;
        };
        let told = node.status.clone().unwrap_or_default();
        let status = match next(me, self.claimed, &told, Instant::now()) {
            Step::Run => {
                self.claimed = None;
                self.contact.seated();
                return Place::Ours;
            }
            Step::Wait(left) => return Place::Open(left.min(LOOK / 5)),
            Step::Yield(holder) => return Place::Others(holder),
            Step::Take => json!({"holder": me, "claimant": null, "refused": null}),
            Step::Claim => {
                self.claimed = Some(Instant::now());
                tracing::info!(
                    node = node.name_any(),
                    "asking whether another machine is this node"
                );
                json!({"claimant": me, "refused": null})
            }
            Step::Answer(clone) => {
                let at = clone.endpoint.as_deref().unwrap_or_default();
                tracing::warn!(at, boot = clone.boot_id, "a clone of this machine was refused");
                json!({"claimant": null, "refused": clone})
            }
        };
        let version = json!({"resourceVersion": node.resource_version()});
        let patch = Patch::Merge(json!({"metadata": version, "status": status}));
        let api: Api<MeshNode> = Api::all(client.clone());
        let written = api.patch_status(&node.name_any(), &PatchParams::default(), &patch).await;
        match written {
            Ok(node) => self.notice_an_old_schema(&node),
            Err(error) => tracing::debug!(%error, "not said who speaks for this node"),
        }
        // The watch brings what was written, or what somebody else wrote.
        Place::Open(LOOK / 5)
    }

    /// An API whose definition of a MeshNode is older than this agent drops what it does not know.
    fn notice_an_old_schema(&mut self, written: &MeshNode) {
        let status = written.status.as_ref();
        if status.is_none_or(|status| status.holder.is_none() && status.claimant.is_none()) {
            tracing::warn!(
                "clones are not found: the MeshNode's definition is older than this agent"
            );
            self.me = None;
        }
    }
}
