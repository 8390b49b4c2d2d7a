//! What came of each attempt to join: as Events, and on the token.
//!
//! The one who asks learns nothing from a refusal; the operator learns all of it here. A flood of
//! attempts is a few Events, never as many as attempts.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use api::{JoinToken, Mesh, Refused, conditions};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use keys::Fingerprint;
use kube::api::{Patch, PatchParams};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::json;
use tokio::time::Instant;
use tracing::{info, warn};

use super::admission::Refusal;
use super::limits::{Buckets, Rate};

/// Of refusals; what is let in is always told.
const TOLD: Rate = Rate { burst: 25, each: Duration::from_secs(10) };

pub(super) struct Audit {
    client: Client,
    recorder: Recorder,
    pace: Mutex<Buckets<()>>,
}

impl Audit {
    pub(super) fn new(client: Client, identity: &str) -> Audit {
        let reporter = Reporter {
            controller: "hawser.dev/gateway".to_owned(),
            instance: Some(identity.to_owned()),
        };
        let recorder = Recorder::new(client.clone(), reporter);
        Audit { client, recorder, pace: Mutex::new(Buckets::new(TOLD)) }
    }

    /// `token`: as it was before.
    pub(super) async fn joined(&self, token: &JoinToken, node: &str, from: IpAddr) {
        info!(node, %from, token = token.name_any(), "machine joined");
        let mut waiting = token.status.iter().flat_map(|status| &status.waiting);
        let by = waiting.find(|one| one.node == node).and_then(|one| one.decided_by.as_ref());
        let by = by.map(|by| format!(", approved by {by}")).unwrap_or_default();
        let note = format!("{node} joined from {from}{by}");
        self.tell("JoinTokenUsed", "Join", note, &token.object_ref(&())).await;
    }

    pub(super) async fn waits(
        &self,
        token: &JoinToken,
        (node, key): (&str, Fingerprint),
        from: IpAddr,
    ) {
        info!(node, %key, %from, token = token.name_any(), "machine waits for an approval");
        let note =
            format!("{node} at {from} with the key {key} waits: hawser token approve {node}");
        self.tell("JoinWaits", "Ask", note, &token.object_ref(&())).await;
    }

    /// `token`: the one that was named, if there is one.
    pub(super) async fn refused(&self, token: Option<&JoinToken>, refusal: &Refusal, from: IpAddr) {
        if !self.pace.lock().unwrap_or_else(PoisonError::into_inner).allows((), Instant::now()) {
            return;
        }
        let named = token.map(ResourceExt::name_any);
        info!(%from, token = ?named, reason = refusal.reason(), %refusal, "machine refused");
        let about = match token {
            Some(token) => {
                self.note_on(token, refusal, from).await;
                token.object_ref(&())
            }
            None => mesh_reference(),
        };
        let note = format!("a machine at {from} was refused: {refusal}");
        // Events of one action become a series: each reason is one of its own.
        self.tell("JoinRejected", refusal.reason(), note, &about).await;
    }

    /// The last refusal, on the token itself.
    async fn note_on(&self, token: &JoinToken, refusal: &Refusal, from: IpAddr) {
        let last = Refused {
            reason: refusal.reason().to_owned(),
            from: from.to_string(),
            at: conditions::rfc3339(Timestamp::now()),
        };
        let patch = json!({"metadata": {"uid": token.uid()}, "status": {"lastRefusal": last}});
        let api: Api<JoinToken> = Api::all(self.client.clone());
        let parameters = PatchParams::default();
        let patch = Patch::Merge(&patch);
        if let Err(error) = api.patch_status(&token.name_any(), &parameters, &patch).await {
            warn!(%error, "refusal not written to its token");
        }
    }

    async fn tell(&self, reason: &str, action: &str, note: String, about: &ObjectReference) {
        let event = Event {
            type_: if reason == "JoinRejected" { EventType::Warning } else { EventType::Normal },
            reason: reason.to_owned(),
            note: Some(note),
            action: action.to_owned(),
            secondary: None,
        };
        if let Err(error) = self.recorder.publish(&event, about).await {
            warn!(%error, reason, "event not written");
        }
    }
}

fn mesh_reference() -> ObjectReference {
    ObjectReference {
        api_version: Some(Mesh::api_version(&()).into_owned()),
        kind: Some(Mesh::kind(&()).into_owned()),
        name: Some(api::MESH.to_owned()),
        ..ObjectReference::default()
    }
}
