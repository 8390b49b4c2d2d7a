//! The node's keys in use: on disk, in the data path, and what is published of them.
//!
//! ```text
//! own MeshNode's spec ─▶ KeyChanges ─▶ make (0600, fsync) ─▶ data path ─▶ wipe ─▶ status
//! ```
//! A key is on disk before the data path has it, and in the data path before anybody hears of it;
//! one that goes leaves the data path first, then the disk, then the status.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use keys::{KeyEpoch, PrivateKey, PublicKey};

use crate::{
    datapath::{Datapath, Engine},
    identity::{Identity, IdentityError},
    rotation::{Held, KeyChanges, Told, sending},
};

/// The keys of a running agent.
pub(crate) struct Keyring {
    directory: PathBuf,
    datapath: Arc<Datapath>,
    engine: Engine,
    inside: Mutex<Inside>,
}

struct Inside {
    identity: Identity,
    sending: KeyEpoch,
    lost: BTreeSet<KeyEpoch>,
}

/// What others may know of the keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicFace {
    pub keys: Vec<(KeyEpoch, PublicKey)>,
    pub newest: KeyEpoch,
    /// What handshakes are begun with.
    pub sending: KeyEpoch,
    /// Epochs that this node is told to hold and whose keys it lost.
    pub lost: BTreeSet<KeyEpoch>,
    /// False if the engine has one key for life.
    pub rotates: bool,
}

impl Keyring {
    /// Of what the data path was started with.
    pub(crate) fn new(
        directory: &Path,
        datapath: Arc<Datapath>,
        engine: Engine,
        (identity, sending): (Identity, KeyEpoch),
    ) -> Self {
        let inside = Inside { identity, sending, lost: BTreeSet::new() };
        Self { directory: directory.to_owned(), datapath, engine, inside: Mutex::new(inside) }
    }

    /// Brings keys and data path to what the node is told. `remembered`: the newest epoch that its
    /// status in the API speaks of. True if anything changed.
    pub(crate) fn turn(
        &self,
        told: &Told,
        remembered: Option<KeyEpoch>,
    ) -> Result<bool, IdentityError> {
        let mut inside = self.inside();
        let held = inside.held(remembered);
        let mut changes = KeyChanges::decide(told, &held);
        if !self.rotates() {
            changes.make.clear();
            changes.wipe.clear();
            changes.send = inside.sending;
        }
        inside.lost.clone_from(&changes.lost);
        for epoch in &changes.make {
            inside.identity.make(&self.directory, *epoch)?;
            tracing::info!(%epoch, "key made");
        }
        let differs = changes.send != inside.sending;
        if !changes.make.is_empty() || !changes.wipe.is_empty() || differs {
            let kept = inside.identity.private_keys();
            let kept = kept.into_iter().filter(|(epoch, _)| !changes.wipe.contains(epoch));
            self.datapath.set_identities(kept.collect(), changes.send);
            inside.sending = changes.send;
        }
        for epoch in &changes.wipe {
            inside.identity.wipe(&self.directory, *epoch)?;
            tracing::info!(%epoch, "key wiped");
        }
        Ok(!changes.make.is_empty() || !changes.wipe.is_empty() || differs)
    }

    pub(crate) fn face(&self) -> PublicFace {
        let inside = self.inside();
        PublicFace {
            keys: inside.identity.public_keys(),
            newest: inside.identity.newest(),
            sending: inside.sending,
            lost: inside.lost.clone(),
            rotates: self.rotates(),
        }
    }

    /// boringtun has one key for life.
    pub(crate) fn rotates(&self) -> bool {
        match self.engine {
            Engine::Native => true,
            Engine::Boringtun => false,
        }
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inside {
    fn held(&self, remembered: Option<KeyEpoch>) -> Held {
        let epochs = self.identity.public_keys().into_iter().map(|(epoch, _)| epoch).collect();
        let newest = self.identity.newest();
        Held { epochs, newest: remembered.map_or(newest, |epoch| epoch.max(newest)) }
    }
}

/// What a data path is started with: all keys, and the one to send with as last told.
pub(crate) fn at_start(
    identity: &Identity,
    told: Option<KeyEpoch>,
) -> (Vec<(KeyEpoch, PrivateKey)>, KeyEpoch) {
    let keys = identity.private_keys();
    let held = keys.iter().map(|(epoch, _)| *epoch).collect();
    let send = told.map_or(identity.current_epoch(), |told| sending(told, &held));
    (keys, send)
}
