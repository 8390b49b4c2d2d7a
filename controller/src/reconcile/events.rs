//! Events (events.k8s.io): one for each change worth telling, never for a repetition.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource};
use tracing::warn;

/// Something that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Notice {
    pub(super) warning: bool,
    pub(super) reason: String,
    pub(super) note: String,
}

pub(super) struct Events(Recorder);

impl Events {
    pub(super) fn new(client: Client, identity: &str) -> Events {
        let reporter = Reporter {
            controller: "hawser.dev/controller".to_owned(),
            instance: Some(identity.to_owned()),
        };
        Events(Recorder::new(client, reporter))
    }

    /// An event that cannot be written is no reason to stop.
    pub(super) async fn publish<K>(&self, object: &K, notice: &Notice)
    where
        K: Resource<DynamicType = ()>,
    {
        let event = Event {
            type_: if notice.warning { EventType::Warning } else { EventType::Normal },
            reason: notice.reason.clone(),
            note: Some(notice.note.clone()),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        let about: ObjectReference = object.object_ref(&());
        if let Err(error) = self.0.publish(&event, &about).await {
            warn!(%error, reason = notice.reason, "event not written");
        }
    }
}
