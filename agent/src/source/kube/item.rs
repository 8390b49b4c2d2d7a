//! An object of any kind as the watch brings it, read once.
//!
//! kube's own `DynamicObject` gathers all fields twice on the way, and each of a hundred nodes reads
//! what each of a hundred nodes writes.

use std::borrow::Cow;

use api::{MeshNode, MeshNodeSpec, MeshNodeStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{
    Resource,
    core::{ApiResource, DynamicResourceScope},
};
use serde::Deserialize;
use serde_json::Value;

/// What every kind of ours has. Whether it makes sense is judged later, one object at a time.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Item {
    #[serde(default)]
    pub(super) metadata: ObjectMeta,
    #[serde(default)]
    pub(super) spec: Value,
    #[serde(default)]
    pub(super) status: Value,
}

impl Item {
    /// The whole MeshNode; none if it can't be read.
    pub(super) fn node(&self) -> Option<MeshNode> {
        let spec = MeshNodeSpec::deserialize(&self.spec).ok()?;
        let status = Option::<MeshNodeStatus>::deserialize(&self.status).ok()?;
        let mut node = MeshNode::new("", spec);
        node.metadata = self.metadata.clone();
        node.status = status;
        Some(node)
    }
}

impl Resource for Item {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(of: &ApiResource) -> Cow<'_, str> {
        of.kind.as_str().into()
    }

    fn group(of: &ApiResource) -> Cow<'_, str> {
        of.group.as_str().into()
    }

    fn version(of: &ApiResource) -> Cow<'_, str> {
        of.version.as_str().into()
    }

    fn api_version(of: &ApiResource) -> Cow<'_, str> {
        of.api_version.as_str().into()
    }

    fn plural(of: &ApiResource) -> Cow<'_, str> {
        of.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
