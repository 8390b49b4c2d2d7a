//! This node's part in a rotation, pure: which keys to make and wipe, and what to confirm.
//!
//! ```text
//! spec {keyEpoch, epochs} ─▶ KeyChanges::decide ─▶ make, wipe, send
//! KeyRotation {wave, digest}, what is installed, sessions ─▶ confirm ─▶ status.confirmed
//! ```
//! A number is used once: no key is made of an epoch that this node ever had one of. The key to
//! send with is never wiped, whatever is asked.

use std::collections::{BTreeMap, BTreeSet};

use api::{Confirmation, ConfirmedStep, KeyRotation, RotationPhase, Wave, digest};
use keys::{KeyEpoch, PublicKey};

/// What the node's spec says about its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// What peers send with, and so do we.
    pub key_epoch: KeyEpoch,
    /// What to hold; empty: what there is.
    pub epochs: BTreeSet<KeyEpoch>,
}

/// The keys on this node's disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    pub epochs: BTreeSet<KeyEpoch>,
    /// The newest that it ever had, here or as its status in the API remembers.
    pub newest: KeyEpoch,
}

/// From what is held to what should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyChanges {
    pub make: BTreeSet<KeyEpoch>,
    pub wipe: BTreeSet<KeyEpoch>,
    /// The epoch to send with, afterwards.
    pub send: KeyEpoch,
    /// Asked for, but used before: these keys are lost.
    pub lost: BTreeSet<KeyEpoch>,
}

impl KeyChanges {
    pub fn decide(told: &Told, held: &Held) -> Self {
        let missing = told.epochs.difference(&held.epochs).copied();
        let (make, lost): (BTreeSet<_>, BTreeSet<_>) =
            missing.partition(|epoch| *epoch > held.newest);
        let after: BTreeSet<_> = held.epochs.union(&make).copied().collect();
        let wipe = if told.epochs.contains(&told.key_epoch) && after.contains(&told.key_epoch) {
            held.epochs.difference(&told.epochs).copied().collect()
        } else {
            BTreeSet::new()
        };
        Self { send: sending(told.key_epoch, &after), make, wipe, lost }
    }
}

/// The epoch to send with: as told, else the newest before it, else the oldest of all.
pub fn sending(told: KeyEpoch, held: &BTreeSet<KeyEpoch>) -> KeyEpoch {
    let before = held.range(..=told).next_back();
    before.or(held.first()).copied().unwrap_or(told)
}

/// A rotation that is under way, as the API tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotation {
    pub uid: String,
    pub epoch: KeyEpoch,
    pub phase: RotationPhase,
    pub wave: Wave,
}

impl Rotation {
    /// None if it has not begun, is over, or says too little.
    pub fn read(object: &KeyRotation) -> Option<Self> {
        let status = object.status.clone()?;
        let phase = status.phase.filter(|phase| !phase.is_over())?;
        let (epoch, wave) = (KeyEpoch(status.epoch?), status.wave?);
        Some(Self { uid: object.metadata.uid.clone()?, epoch, phase, wave })
    }
}

impl Rotation {
    /// It waits for sessions to change, which nobody announces.
    pub fn wants_sessions_settled(&self) -> bool {
        matches!(self.phase, RotationPhase::Switching | RotationPhase::Draining)
    }
}

/// What is in force here: every node's keys that we listen to, and the epoch that we send with.
pub type Installed = BTreeMap<String, (KeyEpoch, BTreeMap<KeyEpoch, PublicKey>)>;

/// What this node can confirm now; none: nothing new. `settled`: every session has used the keys
/// to send with, and only them, for long enough that nothing older is on its way.
pub fn confirm(rotation: &Rotation, installed: &Installed, settled: bool) -> Option<Confirmation> {
    let Rotation { uid, epoch, phase, wave } = rotation;
    let wanted = wave.digest.as_ref()?;
    let key = |name: &str| installed.get(name).and_then(|(_, keys)| keys.get(epoch)).copied();
    let (step, seen) = match phase {
        RotationPhase::Accepting => {
            let names = wave.nodes.iter().map(String::as_str);
            let keys = names.map(|name| Some((name, *epoch, key(name)?)));
            (ConfirmedStep::Accepted, digest(keys.collect::<Option<Vec<_>>>()?))
        }
        RotationPhase::Switching | RotationPhase::Draining if settled => {
            let on_it = installed.iter().filter(|(_, (sending, _))| sending == epoch);
            let keys = on_it.filter_map(|(name, _)| Some((name.as_str(), *epoch, key(name)?)));
            (ConfirmedStep::Switched, digest(keys))
        }
        RotationPhase::Switching
        | RotationPhase::Draining
        | RotationPhase::Pending
        | RotationPhase::Publishing
        | RotationPhase::Forgetting
        | RotationPhase::Completed
        | RotationPhase::Aborted
        | RotationPhase::RolledBack
        | RotationPhase::Refused => return None,
    };
    (seen == *wanted).then(|| Confirmation {
        rotation: uid.clone(),
        wave: wave.number,
        step,
        digest: seen,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(epochs: &[u32]) -> BTreeSet<KeyEpoch> {
        epochs.iter().copied().map(KeyEpoch).collect()
    }

    fn decide(told: (u32, &[u32]), held: &[u32], newest: u32) -> KeyChanges {
        let told = Told { key_epoch: KeyEpoch(told.0), epochs: set(told.1) };
        KeyChanges::decide(&told, &Held { epochs: set(held), newest: KeyEpoch(newest) })
    }

    fn changes(make: &[u32], wipe: &[u32], send: u32, lost: &[u32]) -> KeyChanges {
        KeyChanges { make: set(make), wipe: set(wipe), send: KeyEpoch(send), lost: set(lost) }
    }

    #[test]
    fn a_rotation_makes_one_key_sends_with_it_and_wipes_the_other() {
        assert_eq!(decide((1, &[]), &[1], 1), changes(&[], &[], 1, &[]));
        assert_eq!(decide((1, &[1, 2]), &[1], 1), changes(&[2], &[], 1, &[]));
        assert_eq!(decide((2, &[1, 2]), &[1, 2], 2), changes(&[], &[], 2, &[]));
        assert_eq!(decide((2, &[2]), &[1, 2], 2), changes(&[], &[1], 2, &[]));
        assert_eq!(decide((1, &[1]), &[1, 2], 2), changes(&[], &[2], 1, &[]));
    }

    #[test]
    fn a_number_is_never_used_twice() {
        assert_eq!(decide((1, &[1, 2]), &[1], 2), changes(&[], &[], 1, &[2]));
        assert_eq!(decide((7, &[7]), &[1], 7), changes(&[], &[], 1, &[7]));
    }

    #[test]
    fn the_key_to_send_with_is_never_wiped() {
        assert_eq!(decide((2, &[3]), &[2], 2), changes(&[3], &[], 2, &[]));
        assert_eq!(decide((5, &[5]), &[1], 1), changes(&[5], &[1], 5, &[]));
    }

    fn rotation(phase: RotationPhase, digest: String) -> Rotation {
        let wave = Wave { number: 3, nodes: vec!["a".into()], digest: Some(digest) };
        Rotation { uid: "u".into(), epoch: KeyEpoch(2), phase, wave }
    }

    fn installed(sending: u32) -> Installed {
        let keys = |byte| {
            let key = |epoch: u32| (KeyEpoch(epoch), PublicKey::from_bytes([byte; 32]));
            BTreeMap::from([key(1), key(2)])
        };
        let node = |name: &str, byte, sending| (name.to_owned(), (KeyEpoch(sending), keys(byte)));
        Installed::from([node("a", 1, sending), node("b", 2, 1)])
    }

    fn of_a() -> String {
        digest([("a", KeyEpoch(2), PublicKey::from_bytes([1; 32]))])
    }

    #[test]
    fn only_the_very_keys_that_are_meant_are_confirmed() {
        let accepting = rotation(RotationPhase::Accepting, of_a());

        let confirmed = confirm(&accepting, &installed(1), false).unwrap();
        assert_eq!((confirmed.wave, confirmed.step), (3, ConfirmedStep::Accepted));
        assert_eq!(confirmed.digest, of_a());

        let other = rotation(RotationPhase::Accepting, digest([]));
        assert_eq!(confirm(&other, &installed(1), false), None);
        assert_eq!(confirm(&accepting, &Installed::new(), false), None);
    }

    #[test]
    fn a_switch_is_confirmed_once_it_is_made_and_settled() {
        let switching = rotation(RotationPhase::Switching, of_a());

        assert_eq!(confirm(&switching, &installed(2), false), None);
        assert_eq!(confirm(&switching, &installed(1), true), None);
        let confirmed = confirm(&switching, &installed(2), true).unwrap();
        assert_eq!(confirmed.step, ConfirmedStep::Switched);
    }
}
