//! What a step looks at, and the questions that it asks about it.

use std::collections::BTreeSet;

use api::{ConfirmedStep, RotationOutcome, Wave, digest};
use jiff::Timestamp;
use keys::KeyEpoch;

use super::request::{canaries, max_unavailable, wave_size};
use super::{Next, Node, Progress, Reason, Rotation, Waiting, World};

/// Names in a message; more are counted.
const NAMED: usize = 5;

/// Everything that a step looks at.
pub(super) struct Sight<'a> {
    pub(super) rotation: &'a Rotation,
    pub(super) world: &'a World,
    pub(super) now: Timestamp,
    pub(super) away: BTreeSet<String>,
    pub(super) targets: BTreeSet<String>,
}

impl<'a> Sight<'a> {
    /// Who is left to rotate and there: first the canaries, then the others, in order of name.
    pub(super) fn next_wave(&self, epoch: KeyEpoch, number: u32) -> Option<Wave> {
        let canaries = canaries(&self.rotation.spec, self.world);
        let there = |name: &&String| {
            let node = self.node(name);
            node.has_started() && node.key_epoch != epoch && !self.away.contains(*name)
        };
        let (first, others): (Vec<_>, Vec<_>) =
            self.targets.iter().filter(there).partition(|name| canaries.contains(*name));
        let group = if first.is_empty() { others } else { first };
        let nodes: Vec<String> =
            group.into_iter().take(wave_size(&self.rotation.spec)).cloned().collect();
        (!nodes.is_empty()).then_some(Wave { number, nodes, digest: None })
    }

    /// Targets that have not switched.
    pub(super) fn unswitched(&self, progress: &Progress) -> Vec<&String> {
        let started = |name: &&String| self.node(name).has_started();
        let left = |name: &&String| self.node(name).key_epoch != progress.epoch;
        self.targets.iter().filter(started).filter(left).collect()
    }

    /// Those who are away and may still use the old epoch, and those who know it by heart.
    pub(super) fn pending(&self, progress: &Progress) -> BTreeSet<String> {
        let step = ConfirmedStep::Switched;
        let away = self.away.iter().filter(|name| !self.has_confirmed(name, progress, step));
        let mut pending: BTreeSet<String> = away.cloned().collect();
        if progress.outcome == RotationOutcome::Completed {
            pending.extend(self.unswitched(progress).into_iter().cloned());
            pending.extend(self.left_with_an_old_key(progress.epoch).cloned());
        }
        pending
    }

    /// Plain peers that call a node which has changed its key.
    fn left_with_an_old_key(&self, epoch: KeyEpoch) -> impl Iterator<Item = &'a String> {
        let calls = move |nodes: &BTreeSet<String>| {
            self.on(epoch).any(|node| nodes.is_empty() || nodes.contains(node))
        };
        self.world.plain_peers.iter().filter(move |(_, nodes)| calls(nodes)).map(|(name, _)| name)
    }

    /// Who is there and has not confirmed.
    pub(super) fn unconfirmed(&self, progress: &Progress, step: ConfirmedStep) -> Vec<&'a String> {
        let nodes = self.world.nodes.iter().filter(|(_, node)| node.has_started());
        let there = nodes.map(|(name, _)| name).filter(|name| !self.away.contains(*name));
        there.filter(|name| !self.has_confirmed(name, progress, step)).collect()
    }

    pub(super) fn has_confirmed(
        &self,
        name: &str,
        progress: &Progress,
        step: ConfirmedStep,
    ) -> bool {
        self.node(name).confirmed.as_ref().is_some_and(|confirmed| {
            confirmed.rotation == self.rotation.uid
                && confirmed.wave == progress.wave.number
                && confirmed.step == step
                && Some(&confirmed.digest) == progress.wave.digest.as_ref()
        })
    }

    pub(super) fn members<'s>(
        &'s self,
        progress: &'s Progress,
    ) -> impl Iterator<Item = &'s String> {
        let there = |name: &&String| self.world.nodes.get(*name).is_some_and(|n| !n.revoked);
        progress.wave.nodes.iter().filter(there)
    }

    pub(super) fn node(&self, name: &str) -> &'a Node {
        &self.world.nodes[name]
    }

    pub(super) fn publishes(&self, name: &str, epoch: KeyEpoch) -> bool {
        self.node(name).keys.contains_key(&epoch)
    }

    /// Nodes that peers send to with this epoch.
    pub(super) fn on(&self, epoch: KeyEpoch) -> impl Iterator<Item = &'a String> {
        let nodes = self.world.nodes.iter().filter(|(_, node)| !node.revoked);
        nodes.filter(move |(_, node)| node.key_epoch == epoch).map(|(name, _)| name)
    }

    pub(super) fn digest<'n>(
        &self,
        names: impl IntoIterator<Item = &'n String>,
        epoch: KeyEpoch,
    ) -> String {
        digest(
            names.into_iter().filter_map(|name| {
                Some((name.as_str(), epoch, *self.node(name).keys.get(&epoch)?))
            }),
        )
    }

    pub(super) fn switched_digest(&self, epoch: KeyEpoch) -> String {
        self.digest(self.on(epoch), epoch)
    }

    /// A node whose confirmation is of other keys is named: it sees another mesh.
    pub(super) fn reason(
        &self,
        word: &'static str,
        text: &str,
        waiting: &[&String],
        progress: &Progress,
    ) -> Reason {
        let text = format!("{text} {}", named(waiting.iter().copied()));
        let other = waiting.iter().find(|name| {
            self.node(name).confirmed.as_ref().is_some_and(|confirmed| {
                confirmed.rotation == self.rotation.uid
                    && confirmed.wave == progress.wave.number
                    && Some(&confirmed.digest) != progress.wave.digest.as_ref()
            })
        });
        match other {
            Some(name) => Reason::new(word, format!("{text}; {name} confirms other keys")),
            None => Reason::new(word, text),
        }
    }

    pub(super) fn wait<'n>(
        &self,
        nodes: impl IntoIterator<Item = &'n String>,
        reason: Reason,
    ) -> Next {
        let nodes = nodes.into_iter().cloned().collect();
        let until = self.rotation.progress.as_ref().map(|progress| progress.deadline);
        let until = until.filter(|deadline| *deadline > self.now);
        Next::Wait(Waiting { nodes, reason, until })
    }

    pub(super) fn too_many_away(&self) -> Option<Reason> {
        let most = max_unavailable(&self.rotation.spec, self.world);
        let there_are = self.away.len();
        (there_are > most && !self.rotation.spec.force).then(|| {
            let text =
                format!("{there_are} nodes are away, and {most} may be: {}", named(&self.away));
            Reason::new("TooManyAway", text)
        })
    }

    /// A number that no rotation ever used, and no node ever had a key of. A node's own word counts
    /// only so far: it must not be able to use the numbers up.
    pub(super) fn fresh_epoch(&self) -> KeyEpoch {
        let told = self
            .world
            .nodes
            .values()
            .flat_map(|node| node.epochs.last().copied().into_iter().chain([node.key_epoch]));
        let known = told.chain([self.world.newest]).max().unwrap_or(KeyEpoch::FIRST);
        let said = self.world.nodes.values().filter_map(|node| node.newest).max();
        let limit = KeyEpoch(known.0.saturating_add(1000));
        said.unwrap_or(known).min(limit).max(known).next()
    }
}

pub(super) fn named<'n>(names: impl IntoIterator<Item = &'n String>) -> String {
    let names: Vec<&str> = names.into_iter().map(String::as_str).collect();
    if names.len() > NAMED {
        return format!("{} and {} more", names[..NAMED].join(", "), names.len() - NAMED);
    }
    names.join(", ")
}
