//! The API's objects as watched so far: an index with apply and reset, no client in sight.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use api::{MeshNode, SecretKeyRef};
use kube::{ResourceExt, runtime::watcher::Event};
use serde_json::Value;

use super::{Kind, item::Item, preshared};
use crate::view::{Complaint, Resources};

#[derive(Default)]
pub(super) struct Mirror {
    /// The agent's state directory, where the keys from Secrets are.
    state: PathBuf,
    /// This node.
    name: String,
    own: Option<MeshNode>,
    resources: Resources,
    /// Something that a view is made of is not what it was.
    changed: bool,
    complaints: BTreeMap<(Kind, String), Complaint>,
    /// The names of the list that is under way.
    listing: BTreeMap<Kind, BTreeSet<String>>,
    listed: BTreeSet<Kind>,
    deleted: BTreeSet<(Kind, String)>,
    /// MeshNodes that were deleted, whether or not they have come back.
    departed: BTreeSet<String>,
    /// The Secret that a MeshPeer names.
    references: BTreeMap<String, SecretKeyRef>,
}

impl Mirror {
    /// For the node `name`, with its agent's state directory.
    pub(super) fn new(name: &str, state: PathBuf) -> Self {
        Self { state, name: name.to_owned(), ..Self::default() }
    }

    pub(super) fn apply(&mut self, kind: Kind, event: Event<Item>) {
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
                self.changed = true;
            }
            Event::Apply(object) => self.put(kind, object),
            Event::Delete(object) => {
                let name = object.name_any();
                self.remove(kind, &name);
                if kind == Kind::Node {
                    self.departed.insert(name.clone());
                }
                self.deleted.insert((kind, name));
            }
        }
    }

    /// What is known stays, and counts again once every kind has been listed anew.
    pub(super) fn list_again(&mut self) {
        self.listed.clear();
        self.listing.clear();
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

    /// Our own MeshNode.
    pub(super) fn own(&self) -> Option<&MeshNode> {
        self.own.as_ref()
    }

    /// Whether a new view may differ from the one before the last call.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// What was seen to be deleted since the last call.
    pub(super) fn take_deleted(&mut self) -> BTreeSet<(Kind, String)> {
        std::mem::take(&mut self.deleted)
    }

    /// The MeshNodes that were deleted since the last call, also if they were made again.
    pub(super) fn take_departed(&mut self) -> BTreeSet<String> {
        std::mem::take(&mut self.departed)
    }

    /// One that can't be decoded leaves the last good one in its place.
    fn put(&mut self, kind: Kind, mut item: Item) {
        let name = item.name_any();
        let key = (kind, name.clone());
        self.deleted.remove(&key);
        if kind == Kind::Node
            && name == self.name
            && let Some(node) = item.node()
        {
            self.own = Some(node);
        }
        let put = match kind {
            Kind::Peer => self.resolve(&name, &mut item.spec),
            Kind::Mesh | Kind::Node => Ok(()),
        };
        let Item { spec, status, .. } = item;
        match put.and_then(|()| self.resources.take(kind.name(), name, spec, status)) {
            Ok(differs) => self.changed |= self.complaints.remove(&key).is_some() || differs,
            Err(complaint) => {
                self.changed = true;
                self.complaints.insert(key, complaint);
            }
        }
    }

    /// A Secret becomes the file that its key is kept in.
    fn resolve(&mut self, peer: &str, spec: &mut Value) -> Result<(), Complaint> {
        self.references.remove(peer);
        let Some(spec) = spec.as_object_mut() else {
            return Ok(());
        };
        let Some(reference) = spec.remove("presharedKeySecretRef") else {
            return Ok(());
        };
        let resolved = serde_json::from_value(reference)
            .map_err(|error| format!("presharedKeySecretRef: {error}"))
            .and_then(|reference| Ok((preshared::path_of(&self.state, &reference)?, reference)));
        let (path, reference) =
            resolved.map_err(|problem| Complaint::new(Kind::Peer.name(), peer, problem))?;
        spec.insert("presharedKeyFile".to_owned(), path.display().to_string().into());
        self.references.insert(peer.to_owned(), reference);
        Ok(())
    }

    /// Every Secret that a MeshPeer names.
    pub(super) fn references(&self) -> preshared::References {
        self.references.values().cloned().collect()
    }

    fn remove(&mut self, kind: Kind, name: &str) {
        self.changed = true;
        match kind {
            Kind::Mesh if name == api::MESH => self.resources.mesh = None,
            Kind::Mesh => {}
            Kind::Node => {
                self.resources.nodes.remove(name);
                self.own.take_if(|_| name == self.name);
            }
            Kind::Peer => {
                self.resources.peers.remove(name);
                self.references.remove(name);
            }
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn peer(secret: Value) -> Event<Item> {
        let mut spec = json!({"publicKey": "k", "addresses": ["10.42.9.9/32"]});
        if !secret.is_null() {
            spec["presharedKeySecretRef"] = secret;
        }
        let object = json!({"metadata": {"name": "laptop"}, "spec": spec});
        Event::Apply(serde_json::from_value(object).unwrap())
    }

    #[test]
    fn a_secret_becomes_the_file_that_its_key_is_kept_in() {
        let mut mirror = Mirror::new("n", "/state".into());
        let secret = json!({"namespace": "hawser", "name": "psk", "key": "laptop"});

        mirror.apply(Kind::Peer, peer(secret));

        let file = mirror.resources().peers["laptop"].preshared_key_file.clone();
        assert_eq!(file.unwrap(), "/state/preshared/hawser:psk:laptop");
        assert_eq!(mirror.references().len(), 1);
        mirror.apply(Kind::Peer, peer(Value::Null));
        assert_eq!(mirror.resources().peers["laptop"].preshared_key_file, None);
        assert!(mirror.references().is_empty());
    }

    #[test]
    fn a_secret_that_cannot_be_named_keeps_its_peer_out() {
        let mut mirror = Mirror::new("n", "/state".into());

        for bad in [json!({"namespace": "a", "name": "../b", "key": "c"}), json!("psk")] {
            mirror.apply(Kind::Peer, peer(bad));
            assert!(mirror.resources().peers.is_empty());
            assert_eq!(mirror.complaints().count(), 1);
            assert!(mirror.references().is_empty());
        }
    }
    #[test]
    fn what_a_node_writes_for_people_makes_no_new_view() {
        let mut mirror = Mirror::new("a", "/state".into());
        let mut put = |name: &str, status: Value| {
            let object = json!({"metadata": {"name": name}, "spec": {}, "status": status});
            mirror.apply(Kind::Node, Event::Apply(serde_json::from_value(object).unwrap()));
            (mirror.take_changed(), mirror.own().is_some())
        };

        assert_eq!(put("b", json!({"endpoints": ["192.0.2.1:1"]})), (true, false));
        assert_eq!(put("b", json!({"endpoints": ["192.0.2.1:1"], "peers": "1/1"})), (false, false));
        assert_eq!(put("b", json!({"endpoints": ["192.0.2.2:1"]})), (true, false));
        assert_eq!(put("b", json!({"endpoints": 7})), (true, false), "a complaint");
        assert_eq!(put("a", json!({})), (true, true));
    }

    #[test]
    fn a_node_of_the_release_before_and_one_of_the_release_after_are_understood() {
        let mut mirror = Mirror::new("a", "/state".into());
        let key = keys::PublicKey::from_bytes([7; 32]).to_string();
        let status = json!({"publicKeys": [{"epoch": 1, "publicKey": key}]});
        let oldest = json!({"spec": {"subnets": ["10.42.1.0/24"]}, "status": status});
        let mut newest = oldest.clone();
        newest["spec"] = json!({"subnets": ["10.42.2.0/24"], "lanes": 4, "keyEpoch": 1});
        newest["status"]["learnedLater"] = json!({"a": 1});
        newest["status"]["publicKeys"][0]["kind"] = json!("hybrid");

        for (name, mut object) in [("old", oldest), ("new", newest)] {
            object["metadata"] = json!({"name": name});
            mirror.apply(Kind::Node, Event::Apply(serde_json::from_value(object).unwrap()));
        }

        assert_eq!(mirror.complaints().count(), 0);
        let known = |name: &str| {
            let (spec, status) = &mirror.resources().nodes[name];
            (spec.subnets.len(), spec.key_epoch, status.public_keys.len())
        };
        assert_eq!((known("old"), known("new")), ((1, 1, 1), (1, 1, 1)));
    }

    #[test]
    fn a_node_that_was_made_again_at_once_was_deleted_all_the_same() {
        let mut mirror = Mirror::new("a", "/state".into());
        let node = || serde_json::from_value(json!({"metadata": {"name": "b"}})).unwrap();
        for event in [Event::Apply(node()), Event::Delete(node()), Event::Apply(node())] {
            mirror.apply(Kind::Node, event);
        }

        assert!(mirror.take_deleted().is_empty());
        assert_eq!(mirror.take_departed(), ["b".to_owned()].into());
        assert!(mirror.take_departed().is_empty());
    }

    #[test]
    fn after_a_resume_nothing_counts_before_all_is_listed_anew() {
        let mut mirror = Mirror::new("a", "/state".into());
        let list = |mirror: &mut Mirror, kind| {
            mirror.apply(kind, Event::Init);
            mirror.apply(kind, Event::InitDone);
        };
        for kind in Kind::ALL {
            list(&mut mirror, kind);
        }
        assert!(mirror.is_complete());

        mirror.list_again();
        list(&mut mirror, Kind::Mesh);
        list(&mut mirror, Kind::Node);
        assert!(!mirror.is_complete());
        list(&mut mirror, Kind::Peer);
        assert!(mirror.is_complete());
    }
}
