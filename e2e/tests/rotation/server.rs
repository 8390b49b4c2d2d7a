//! The API: objects with versions, and the rules that the schema enforces.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ::controller::rotate::{Next, Node, Progress, Refusal, Rotation, Running, World, Write};
use api::{Confirmation, KeyRotationSpec};
use keys::{KeyEpoch, PublicKey};

#[derive(Clone, Debug)]
pub(crate) struct StoredNode {
    pub(crate) version: u64,
    pub(crate) node: Node,
}

#[derive(Clone, Debug)]
pub(crate) struct StoredRotation {
    pub(crate) version: u64,
    pub(crate) rotation: Rotation,
    pub(crate) refused: Option<Refusal>,
}

/// Everything at one moment. Cheap to copy.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) nodes: BTreeMap<String, Arc<StoredNode>>,
    pub(crate) rotations: Vec<StoredRotation>,
    pub(crate) running: Option<Running>,
    pub(crate) newest: KeyEpoch,
    pub(crate) mesh_version: u64,
    pub(crate) plain_peers: BTreeMap<String, BTreeSet<String>>,
    revision: u64,
}

/// The write was refused: somebody else was faster.
#[derive(Debug)]
pub(crate) struct Conflict;

impl Server {
    pub(crate) fn new(nodes: usize) -> Self {
        let mut this = Self {
            nodes: BTreeMap::new(),
            rotations: Vec::new(),
            running: None,
            newest: KeyEpoch::FIRST,
            mesh_version: 0,
            plain_peers: BTreeMap::new(),
            revision: 0,
        };
        for number in 0..nodes {
            this.add(number);
        }
        this
    }

    pub(crate) fn add(&mut self, number: usize) {
        let node = Node {
            site: Some(format!("site-{}", number % 2)),
            revoked: false,
            key_epoch: KeyEpoch::FIRST,
            epochs: BTreeSet::new(),
            keys: BTreeMap::new(),
            newest: None,
            confirmed: None,
            unreachable: BTreeSet::new(),
        };
        let version = self.next();
        self.nodes.insert(name(number), Arc::new(StoredNode { version, node }));
    }

    pub(crate) fn create(&mut self, name: &str, spec: KeyRotationSpec) {
        let version = self.next();
        let (name, uid) = (name.to_owned(), format!("uid-{version}"));
        let rotation = Rotation { name, uid, spec, deleted: false, progress: None };
        self.rotations.push(StoredRotation { version, rotation, refused: None });
    }

    /// The operator changes a rotation, or a node.
    pub(crate) fn edit(&mut self, uid: &str, change: impl FnOnce(&mut Rotation)) {
        let version = self.next();
        if let Some(stored) = self.rotations.iter_mut().find(|r| r.rotation.uid == uid) {
            change(&mut stored.rotation);
            stored.version = version;
        }
    }

    pub(crate) fn edit_node(&mut self, name: &str, change: impl FnOnce(&mut Node)) {
        let version = self.next();
        if let Some(stored) = self.nodes.get_mut(name) {
            let stored = Arc::make_mut(stored);
            change(&mut stored.node);
            stored.version = version;
        }
    }

    pub(crate) fn report(
        &mut self,
        name: &str,
        keys: BTreeMap<KeyEpoch, PublicKey>,
        (newest, confirmed): (KeyEpoch, Option<Confirmation>),
        unreachable: BTreeSet<String>,
    ) {
        let before = &self.nodes[name].node;
        let confirmed = confirmed.or(before.confirmed.clone());
        let same = before.keys == keys
            && before.newest == Some(newest)
            && before.confirmed == confirmed
            && before.unreachable == unreachable;
        if !same {
            self.edit_node(name, |node| {
                (node.keys, node.newest) = (keys, Some(newest));
                (node.confirmed, node.unreachable) = (confirmed, unreachable);
            });
        }
    }

    /// What a controller may do, under the versions in `read`.
    pub(crate) fn write(&mut self, write: &Write, read: &Self) -> Result<(), Conflict> {
        let now = self.nodes.get(&write.node).ok_or(Conflict)?;
        let then = read.nodes.get(&write.node).ok_or(Conflict)?;
        if now.version != then.version {
            return Err(Conflict);
        }
        let held = write.epochs.contains(&write.key_epoch);
        let back = write.key_epoch < now.node.key_epoch;
        let may_go_back = now.node.epochs.contains(&write.key_epoch);
        assert!(held && (!back || may_go_back), "the schema refuses {write:?}");
        assert!(write.epochs.len() <= 4, "the schema refuses {write:?}");
        self.edit_node(&write.node, |node| {
            (node.key_epoch, node.epochs) = (write.key_epoch, write.epochs.clone());
        });
        Ok(())
    }

    pub(crate) fn claim(
        &mut self,
        uid: &str,
        epoch: KeyEpoch,
        read: &Self,
    ) -> Result<(), Conflict> {
        if self.mesh_version != read.mesh_version {
            return Err(Conflict);
        }
        let rotation = self.rotations.iter().find(|r| r.rotation.uid == uid).ok_or(Conflict)?;
        let name = rotation.rotation.name.clone();
        self.running = Some(Running { uid: uid.to_owned(), name });
        self.newest = epoch;
        self.mesh_version = self.next();
        Ok(())
    }

    pub(crate) fn release(&mut self, read: &Self) -> Result<(), Conflict> {
        if self.mesh_version != read.mesh_version {
            return Err(Conflict);
        }
        self.running = None;
        self.mesh_version = self.next();
        Ok(())
    }

    pub(crate) fn keep(
        &mut self,
        uid: &str,
        progress: Progress,
        read: &Self,
    ) -> Result<(), Conflict> {
        self.under_version(uid, read, |stored| stored.rotation.progress = Some(progress))
    }

    pub(crate) fn refuse(
        &mut self,
        uid: &str,
        refusal: Refusal,
        read: &Self,
    ) -> Result<(), Conflict> {
        self.under_version(uid, read, |stored| stored.refused = Some(refusal))
    }

    fn under_version(
        &mut self,
        uid: &str,
        read: &Self,
        change: impl FnOnce(&mut StoredRotation),
    ) -> Result<(), Conflict> {
        let then = read.rotations.iter().find(|r| r.rotation.uid == uid).ok_or(Conflict)?.version;
        let version = self.next();
        let now = self.rotations.iter_mut().find(|r| r.rotation.uid == uid).ok_or(Conflict)?;
        if now.version != then {
            return Err(Conflict);
        }
        change(now);
        now.version = version;
        Ok(())
    }

    pub(crate) fn world(&self) -> World {
        let nodes = self.nodes.iter().map(|(name, stored)| (name.clone(), stored.node.clone()));
        World {
            nodes: nodes.collect(),
            plain_peers: self.plain_peers.clone(),
            degraded: None,
            running: self.running.clone(),
            newest: self.newest,
        }
    }

    /// Rotations that may still do something.
    pub(crate) fn open(&self) -> impl Iterator<Item = &StoredRotation> {
        self.rotations.iter().filter(|stored| {
            let over = stored.rotation.progress.as_ref().is_some_and(|p| p.phase.is_over());
            stored.refused.is_none() && !over
        })
    }

    fn next(&mut self) -> u64 {
        self.revision += 1;
        self.revision
    }
}

pub(crate) fn name(number: usize) -> String {
    format!("node-{number:04}")
}

/// Whether a step changes anything.
pub(crate) fn is_idle(next: &Next) -> bool {
    match next {
        Next::Pend(_) | Next::Wait(_) | Next::Rest => true,
        Next::Refuse(_) | Next::Begin(_) | Next::Write(_) | Next::Move(_) => false,
    }
}
