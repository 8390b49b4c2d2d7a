//! This node's own keys: one, or two while a rotation is under way.

use keys::{KeyEpoch, PrivateKey, PublicKey};

use crate::handshake::Identity;

pub(crate) struct Keyring {
    /// By epoch.
    identities: Vec<Identity>,
    sending: KeyEpoch,
}

impl Keyring {
    /// Of two keys of one epoch the first counts.
    pub(crate) fn new(mut keys: Vec<(KeyEpoch, PrivateKey)>, sending: KeyEpoch) -> Self {
        keys.sort_by_key(|(epoch, _)| *epoch);
        keys.dedup_by_key(|(epoch, _)| *epoch);
        let identities = keys.iter().map(|(epoch, key)| Identity::new(*epoch, key)).collect();
        Self { identities, sending }
    }

    pub(crate) fn all(&self) -> &[Identity] {
        &self.identities
    }

    pub(crate) fn public(&self) -> Vec<PublicKey> {
        self.identities.iter().map(Identity::public).collect()
    }

    pub(crate) fn get(&self, epoch: KeyEpoch) -> Option<&Identity> {
        self.identities.iter().find(|identity| identity.epoch() == epoch)
    }

    /// What handshakes are begun with; the newest if that one is not here.
    pub(crate) fn sending(&self) -> Option<&Identity> {
        self.get(self.sending).or(self.identities.last())
    }

    /// The epochs of which both have the same key.
    pub(crate) fn shared_with(&self, other: &Self) -> Vec<KeyEpoch> {
        let same = |ours: &&Identity| {
            other.get(ours.epoch()).is_some_and(|theirs| theirs.public() == ours.public())
        };
        self.identities.iter().filter(same).map(Identity::epoch).collect()
    }
}
