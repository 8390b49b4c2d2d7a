//! What a node says about a whole wave of new keys, in one write: N nodes, N writes, not N².
//!
//! Controller and agents compute the same digest from what each of them sees, so that a node
//! confirms exactly the keys that are meant, and one that saw others confirms nothing.

use keys::{KeyEpoch, PublicKey};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// How far a node is in a rotation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Confirmation {
    /// The KeyRotation's UID: one of the same name is another rotation.
    #[schemars(length(min = 1, max = 64))]
    pub rotation: String,
    /// The wave, counted from 1.
    #[schemars(range(min = 1))]
    pub wave: u32,
    /// What the node has done.
    pub step: ConfirmedStep,
    /// The keys that it did it with, as SHA-256 in hexadecimal.
    #[schemars(length(min = 64, max = 64), regex(pattern = r"^[0-9a-f]{64}$"))]
    pub digest: String,
}

/// The two steps that everybody confirms.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum ConfirmedStep {
    /// The wave's new keys are installed for receiving, and stay so over a restart.
    Accepted,
    /// No session is left that uses a key which is not the one to send with.
    Switched,
}

/// SHA-256 over the keys in order of (node, epoch), in hexadecimal. No two lists give one digest:
/// each field has its length in front.
pub fn digest<'a>(keys: impl IntoIterator<Item = (&'a str, KeyEpoch, PublicKey)>) -> String {
    let mut keys: Vec<_> = keys.into_iter().collect();
    keys.sort_unstable();
    let mut hash = Sha256::new();
    for (node, epoch, key) in keys {
        hash.update((node.len() as u64).to_be_bytes());
        hash.update(node.as_bytes());
        hash.update(epoch.0.to_be_bytes());
        hash.update(key.as_bytes());
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_does_not_matter_and_everything_else_does() {
        let key = |byte| PublicKey::from_bytes([byte; 32]);
        let one = |node, epoch, byte| (node, KeyEpoch(epoch), key(byte));
        let reference = digest([one("a", 2, 1), one("b", 2, 2)]);

        assert_eq!(digest([one("b", 2, 2), one("a", 2, 1)]), reference);
        for other in [
            vec![one("a", 2, 1)],
            vec![one("a", 3, 1), one("b", 2, 2)],
            vec![one("a", 2, 2), one("b", 2, 1)],
            vec![one("ab", 2, 1), one("", 2, 2)],
            vec![],
        ] {
            assert_ne!(digest(other), reference);
        }
        assert_eq!(reference.len(), 64);
    }
}
