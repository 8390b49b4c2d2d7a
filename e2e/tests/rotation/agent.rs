//! An agent: what is on its disk and in its memory, and what it does with what it reads.

use std::collections::{BTreeMap, BTreeSet};

use ::agent::rotation::{Held, Installed, KeyChanges, Rotation, Told, confirm, sending};
use keys::{KeyEpoch, PublicKey};

use crate::server::{Server, name};

#[derive(Clone, Debug)]
pub(crate) struct Agent {
    pub(crate) number: usize,
    pub(crate) name: String,
    /// It runs.
    pub(crate) up: bool,
    /// It reaches the API.
    pub(crate) api: bool,
    /// A version that knows nothing of rotations: it listens to nothing newer than what is sent.
    pub(crate) old: bool,
    disk: BTreeMap<KeyEpoch, PublicKey>,
    newest: KeyEpoch,
    /// On disk too: a restart begins with it.
    installed: Installed,
    told: Told,
    rotation: Option<Rotation>,
    /// Looks since every session was as it should be.
    pub(crate) settled: u32,
}

impl Agent {
    pub(crate) fn new(number: usize) -> Self {
        let first = KeyEpoch::FIRST;
        Self {
            number,
            name: name(number),
            up: true,
            api: true,
            old: false,
            disk: BTreeMap::from([(first, key(number, first))]),
            newest: first,
            installed: Installed::new(),
            told: Told { key_epoch: first, epochs: BTreeSet::new() },
            rotation: None,
            settled: 0,
        }
    }

    /// Reads the API. What it learns is on disk before anybody hears of it.
    pub(crate) fn read(&mut self, server: &Server) {
        if !self.up || !self.api {
            return;
        }
        let Some(own) = server.nodes.get(&self.name) else { return };
        self.told = Told { key_epoch: own.node.key_epoch, epochs: own.node.epochs.clone() };
        let open = server.open().find(|stored| {
            server.running.as_ref().is_some_and(|running| running.uid == stored.rotation.uid)
        });
        self.rotation = open.and_then(|stored| {
            let progress = stored.rotation.progress.clone()?;
            let (uid, wave) = (stored.rotation.uid.clone(), progress.wave);
            Some(Rotation { uid, epoch: progress.epoch, phase: progress.phase, wave })
        });
        let nodes = server.nodes.iter().filter(|(_, stored)| !stored.node.revoked);
        self.installed = nodes
            .filter_map(|(name, stored)| {
                let node = &stored.node;
                let asked = |epoch: &KeyEpoch| {
                    let known = node.epochs.is_empty() || node.epochs.contains(epoch);
                    known && (!self.old || *epoch <= node.key_epoch)
                };
                let keys: BTreeMap<KeyEpoch, PublicKey> =
                    node.keys.iter().filter(|(e, _)| asked(e)).map(|(e, k)| (*e, *k)).collect();
                let send = sending(node.key_epoch, &keys.keys().copied().collect());
                (!keys.is_empty()).then(|| (name.clone(), (send, keys)))
            })
            .collect();
    }

    /// Makes and wipes keys. `cut`: it dies between the two.
    pub(crate) fn turn_keys(&mut self, cut: bool) -> Result<(), String> {
        if !self.up || self.old {
            return Ok(());
        }
        let held = Held { epochs: self.disk.keys().copied().collect(), newest: self.newest };
        let changes = KeyChanges::decide(&self.told, &held);
        for epoch in changes.make {
            if epoch <= self.newest {
                return Err(format!("{} makes a key of epoch {epoch} again", self.name));
            }
            self.newest = epoch;
            self.disk.insert(epoch, key(self.number, epoch));
        }
        if !cut {
            self.disk.retain(|epoch, _| !changes.wipe.contains(epoch));
        }
        Ok(())
    }

    pub(crate) fn report(&mut self, server: &mut Server, peers: &Peers) {
        if !self.up || !self.api || !server.nodes.contains_key(&self.name) {
            return;
        }
        self.settled = if peers.settled { self.settled + 1 } else { 0 };
        let settled = self.settled >= 2;
        let confirmed = match &self.rotation {
            Some(rotation) if !self.old => confirm(rotation, &self.installed, settled),
            _ => None,
        };
        let newest = (self.newest, confirmed);
        server.report(&self.name, self.disk.clone(), newest, peers.unreachable.clone());
    }

    /// A restart: sessions are gone, disk and view are not.
    pub(crate) fn restart(&mut self) {
        self.rotation = None;
        self.settled = 0;
    }

    pub(crate) fn knows(&self, other: &Self) -> bool {
        self.installed.contains_key(&other.name)
    }

    /// The epoch of its own key that it begins handshakes with.
    pub(crate) fn own(&self) -> KeyEpoch {
        sending(self.told.key_epoch, &self.disk.keys().copied().collect())
    }

    /// The epoch of the other's key that it sends with.
    pub(crate) fn towards(&self, other: &Self) -> Option<KeyEpoch> {
        self.installed.get(&other.name).map(|(epoch, _)| *epoch)
    }

    /// Whether a handshake that this node begins is answered: the labels of the session.
    pub(crate) fn handshake(&self, other: &Self) -> Option<(KeyEpoch, KeyEpoch)> {
        let (ours, theirs) = (self.own(), self.towards(other)?);
        let answers = other.disk.get(&theirs) == Some(&key(other.number, theirs));
        (answers && other.listens_to(self, ours)).then_some((ours, theirs))
    }

    pub(crate) fn holds(&self, epoch: KeyEpoch) -> bool {
        self.disk.contains_key(&epoch)
    }

    pub(crate) fn listens_to(&self, other: &Self, epoch: KeyEpoch) -> bool {
        self.installed.get(&other.name).is_some_and(|(_, keys)| keys.contains_key(&epoch))
    }

    pub(crate) fn held(&self) -> Vec<KeyEpoch> {
        self.disk.keys().copied().collect()
    }
}

/// What an agent sees of its sessions.
pub(crate) struct Peers {
    pub(crate) settled: bool,
    pub(crate) unreachable: BTreeSet<String>,
}

fn key(number: usize, epoch: KeyEpoch) -> PublicKey {
    let mut bytes = [9; 32];
    bytes[..8].copy_from_slice(&(number as u64).to_be_bytes());
    bytes[8..12].copy_from_slice(&epoch.0.to_be_bytes());
    PublicKey::from_bytes(bytes)
}
