//! The API's objects as watched so far: an index with apply and reset, no client in sight.

use std::collections::{BTreeMap, BTreeSet};

use api::MeshNode;
use kube::{ResourceExt, api::DynamicObject, runtime::watcher::Event};

use super::Kind;
use crate::view::{Complaint, Resources};

#[derive(Default)]
pub(super) struct Mirror {
    resources: Resources,
    nodes: BTreeMap<String, MeshNode>,
    complaints: BTreeMap<(Kind, String), Complaint>,
    /// The names of the list that is under way.
    listing: BTreeMap<Kind, BTreeSet<String>>,
    listed: BTreeSet<Kind>,
    deleted: BTreeSet<(Kind, String)>,
}

impl Mirror {
    pub(super) fn apply(&mut self, kind: Kind, event: Event<DynamicObject>) {
        match event {
            Event::Init => drop(self.listing.insert(kind, BTreeSet::new())),
            Event::InitApply(object) => {
                if let Some(names) = self.listing.get_mut(&kind) {
                    names.insert(object.name_any());
                }
                self.put(kind, object);
            }
            Event::InitDone => {
                let seen = self.listing.remove(&kind).unwrap_or_default();
                self.retain(kind, &seen);
                self.listed.insert(kind);
            }
            Event::Apply(object) => self.put(kind, object),
            Event::Delete(object) => {
                let name = object.name_any();
                self.remove(kind, &name);
                self.deleted.insert((kind, name));
            }
        }
    }

    /// True once every kind has been listed.
    pub(super) fn is_complete(&self) -> bool {
        self.listed.len() == Kind::ALL.len()
    }

    pub(super) fn resources(&self) -> &Resources {
        &self.resources
    }

    pub(super) fn complaints(&self) -> impl Iterator<Item = Complaint> {
        self.complaints.values().cloned()
    }

    pub(super) fn node(&self, name: &str) -> Option<&MeshNode> {
        self.nodes.get(name)
    }

    /// What was seen to be deleted since the last call.
    pub(super) fn take_deleted(&mut self) -> BTreeSet<(Kind, String)> {
        std::mem::take(&mut self.deleted)
    }

    /// One that can't be decoded leaves the last good one in its place.
    fn put(&mut self, kind: Kind, object: DynamicObject) {
        let name = object.name_any();
        self.deleted.remove(&(kind, name.clone()));
        let Ok(mut value) = serde_json::to_value(&object) else {
            return;
        };
        // Items of a list don't say their kind.
        value["kind"] = kind.name().into();
        if kind == Kind::Node
            && let Ok(node) = object.try_parse()
        {
            self.nodes.insert(name.clone(), node);
        }
        match self.resources.put(value) {
            Ok(()) => drop(self.complaints.remove(&(kind, name))),
            Err(complaint) => drop(self.complaints.insert((kind, name), complaint)),
        }
    }

    fn remove(&mut self, kind: Kind, name: &str) {
        match kind {
            Kind::Mesh if name == api::MESH => self.resources.mesh = None,
            Kind::Mesh => {}
            Kind::Node => {
                self.resources.nodes.remove(name);
                self.nodes.remove(name);
            }
            Kind::Peer => drop(self.resources.peers.remove(name)),
        }
        self.complaints.remove(&(kind, name.to_owned()));
    }

    fn retain(&mut self, kind: Kind, seen: &BTreeSet<String>) {
        let known: Vec<String> = match kind {
            Kind::Mesh => vec![api::MESH.to_owned()],
            Kind::Node => self.resources.nodes.keys().cloned().collect(),
            Kind::Peer => self.resources.peers.keys().cloned().collect(),
        };
        for gone in known.iter().filter(|name| !seen.contains(*name)) {
            self.remove(kind, gone);
        }
        self.complaints.retain(|(of, name), _| *of != kind || seen.contains(name));
    }
}
