//! Events (events.k8s.io): one for each change worth telling, never for a repetition.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource, ResourceExt};
use tracing::warn;

/// Something that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Notice {
    pub(super) warning: bool,
    pub(super) reason: String,
    pub(super) note: String,
}

/// The Kubernetes Node that a MeshNode is kept for: `kubectl describe node` tells the same.
fn node_of<K: Resource<DynamicType = ()>>(object: &K) -> Option<ObjectReference> {
    let mut owners = object.owner_references().iter();
    let node = owners.find(|owner| owner.kind == "Node" && owner.api_version == "v1")?;
    Some(ObjectReference {
        api_version: Some(node.api_version.clone()),
        kind: Some(node.kind.clone()),
        name: Some(node.name.clone()),
        uid: Some(node.uid.clone()),
        ..ObjectReference::default()
    })
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
        for about in node_of(object).into_iter().chain([about]) {
            if let Err(error) = self.0.publish(&event, &about).await {
                warn!(%error, reason = notice.reason, "event not written");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use api::{MeshNode, MeshNodeSpec};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

    use super::*;

    #[test]
    fn what_is_told_of_a_mesh_node_is_told_of_its_node_too() {
        let mut node = MeshNode::new("a", MeshNodeSpec::default());
        assert_eq!(node_of(&node), None, "a machine outside of the cluster");

        node.metadata.owner_references = Some(vec![OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Node".to_owned(),
            name: "a".to_owned(),
            uid: "machine".to_owned(),
            ..OwnerReference::default()
        }]);

        let about = node_of(&node).unwrap();
        assert_eq!((about.kind.as_deref(), about.uid.as_deref()), (Some("Node"), Some("machine")));
        assert_eq!(about.namespace, None);
    }
}
