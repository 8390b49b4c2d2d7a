//! What nodes publish, judged over the whole mesh: who is at fault, and why.
//!
//! Each text alone is judged by [`api::published`], which the agents apply too. Here the nodes are
//! seen together: a key belongs to one node, and whoever had it first keeps it, so that a copied
//! key (a cloned machine) cannot push the first one out.

use std::collections::BTreeMap;

use api::PublishedKey;
use api::published::{self, BadEndpoint, BadKey};
use ipnet::IpNet;
use keys::{KeyEpoch, PublicKey};
use thiserror::Error;

/// One node's publication.
#[derive(Clone, Debug, Default)]
pub struct Publication {
    pub name: String,
    pub uid: String,
    pub keys: Vec<PublishedKey>,
    pub endpoints: Vec<String>,
    /// The epoch that its peers send with.
    pub epoch: u32,
    /// The epochs that it is told to hold; empty: it was never told.
    pub epochs: Vec<u32>,
    /// It was found faultless before (the condition says so).
    pub admitted: bool,
}

/// Something a node publishes that its peers do not use.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    #[error(transparent)]
    Key(#[from] BadKey),
    #[error(transparent)]
    Endpoint(#[from] BadEndpoint),
    #[error("its public key of epoch {epoch} is {with}'s too; is this machine a clone?")]
    SharedKey { epoch: KeyEpoch, with: String },
    #[error("it publishes no key of epoch {0}, which its peers send with")]
    EpochMissing(u32),
    #[error("it publishes a key of epoch {0}, which nobody asked it to make")]
    EpochUnasked(KeyEpoch),
    #[error("its newest key was of epoch {before} and is of epoch {now}; epochs only grow")]
    EpochShrank { before: KeyEpoch, now: KeyEpoch },
}

impl Fault {
    /// One CamelCase word for the condition.
    pub fn reason(&self) -> &'static str {
        match self {
            Fault::Key(_) => "KeyRefused",
            Fault::Endpoint(_) => "EndpointRefused",
            Fault::SharedKey { .. } => "KeyShared",
            Fault::EpochMissing(_) => "KeyMissing",
            Fault::EpochUnasked(_) => "EpochUnasked",
            Fault::EpochShrank { .. } => "EpochShrank",
        }
    }
}

/// Who had which key, and the newest epoch of each node (by UID).
#[derive(Clone, Debug, Default)]
pub struct Memory {
    holders: BTreeMap<PublicKey, String>,
    newest: BTreeMap<String, KeyEpoch>,
}

/// The faults by node name; a node without faults has an empty list. `mesh` holds the pools and
/// service ranges. What was learnt goes into `memory`.
pub fn judge(
    nodes: &[Publication],
    mesh: &[IpNet],
    memory: &mut Memory,
) -> BTreeMap<String, Vec<Fault>> {
    let mut faults: BTreeMap<String, Vec<Fault>> = BTreeMap::new();
    let mut holders: BTreeMap<PublicKey, Vec<(&Publication, KeyEpoch)>> = BTreeMap::new();
    let mut newest = BTreeMap::new();
    for node in nodes {
        let found = faults.entry(node.name.clone()).or_default();
        let (keys, bad) = published::public_keys(&node.keys);
        found.extend(bad.into_iter().map(Fault::from));
        let bad = node.endpoints.iter().filter_map(|e| published::endpoint(e, mesh).err());
        found.extend(bad.map(Fault::from));
        found.extend(epoch_fault(node, &keys, memory));
        if let Some(now) = keys.iter().map(|(epoch, _)| *epoch).max() {
            let before = memory.newest.get(&node.uid).copied().unwrap_or(now);
            newest.insert(node.uid.clone(), now.max(before));
        }
        for (epoch, key) in keys {
            holders.entry(key).or_default().push((node, epoch));
        }
    }
    memory.newest = newest;
    let before = std::mem::take(&mut memory.holders);
    for (key, nodes) in holders {
        let rightful = rightful(&nodes, before.get(&key));
        if let Some(uid) = rightful {
            memory.holders.insert(key, uid.to_owned());
        }
        for (node, epoch) in &nodes {
            if rightful == Some(&node.uid) {
                continue;
            }
            let Some((with, _)) = nodes.iter().find(|(other, _)| other.uid != node.uid) else {
                continue;
            };
            let found = faults.entry(node.name.clone()).or_default();
            found.push(Fault::SharedKey { epoch: *epoch, with: with.name.clone() });
        }
    }
    faults
}

/// Who may keep a key: the only one, whoever had it, or the only one found faultless before.
fn rightful<'a>(
    nodes: &[(&'a Publication, KeyEpoch)],
    before: Option<&String>,
) -> Option<&'a String> {
    let mut uids: Vec<&String> = nodes.iter().map(|(node, _)| &node.uid).collect();
    uids.dedup();
    if let [only] = uids[..] {
        return Some(only);
    }
    if let Some(uid) = uids.iter().find(|uid| Some(**uid) == before) {
        return Some(uid);
    }
    let mut admitted = nodes.iter().filter(|(node, _)| node.admitted);
    match (admitted.next(), admitted.next()) {
        (Some((node, _)), None) => Some(&node.uid),
        _ => None,
    }
}

fn epoch_fault(
    node: &Publication,
    keys: &[(KeyEpoch, PublicKey)],
    memory: &Memory,
) -> Option<Fault> {
    let now = keys.iter().map(|(epoch, _)| *epoch).max()?;
    let asked = |epoch: &KeyEpoch| node.epochs.is_empty() || node.epochs.contains(&epoch.0);
    let newer = |epoch: &KeyEpoch| node.epochs.iter().all(|told| *told < epoch.0);
    // An older one that it shall wipe may still be there for a moment.
    if let Some(epoch) = keys.iter().map(|(epoch, _)| epoch).find(|e| !asked(e) && newer(e)) {
        let wiping = memory.newest.get(&node.uid).is_some_and(|newest| newest >= epoch);
        return (!wiping).then_some(Fault::EpochUnasked(*epoch));
    }
    // A rotation that was taken back takes its key along.
    let lost = |before: &&KeyEpoch| **before > now && asked(before);
    if let Some(before) = memory.newest.get(&node.uid).filter(lost) {
        return Some(Fault::EpochShrank { before: *before, now });
    }
    let missing = !keys.iter().any(|(epoch, _)| epoch.0 == node.epoch);
    missing.then_some(Fault::EpochMissing(node.epoch))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, keys: &[(u32, u8)]) -> Publication {
        Publication {
            name: name.to_owned(),
            uid: format!("uid-{name}"),
            keys: keys
                .iter()
                .map(|(epoch, byte)| PublishedKey {
                    epoch: *epoch,
                    public_key: PublicKey::from_bytes([*byte; 32]).to_string(),
                })
                .collect(),
            endpoints: vec!["192.0.2.1:51820".to_owned()],
            epoch: 1,
            epochs: Vec::new(),
            admitted: false,
        }
    }

    fn reasons(nodes: &[Publication], memory: &mut Memory) -> Vec<(String, Vec<&'static str>)> {
        let mesh = ["10.42.0.0/16".parse().unwrap()];
        judge(nodes, &mesh, memory)
            .into_iter()
            .map(|(name, faults)| (name, faults.iter().map(Fault::reason).collect()))
            .collect()
    }

    fn expect(name: &str, reasons: &[&'static str]) -> (String, Vec<&'static str>) {
        (name.to_owned(), reasons.to_vec())
    }

    #[test]
    fn honest_nodes_and_silent_ones_have_no_faults() {
        let nodes = [node("a", &[(1, 7), (2, 8)]), node("b", &[])];

        let found = reasons(&nodes, &mut Memory::default());

        assert_eq!(found, [expect("a", &[]), expect("b", &[])]);
    }

    #[test]
    fn whoever_had_a_key_first_keeps_it() {
        let mut memory = Memory::default();
        reasons(&[node("b", &[(1, 7)])], &mut memory);

        let found = reasons(&[node("a", &[(1, 7)]), node("b", &[(1, 7)])], &mut memory);

        assert_eq!(found, [expect("a", &["KeyShared"]), expect("b", &[])]);
    }

    #[test]
    fn without_a_memory_the_admitted_one_keeps_the_key_and_else_nobody() {
        let mut nodes = [node("a", &[(1, 7)]), node("b", &[(1, 7)])];

        let nobody = reasons(&nodes, &mut Memory::default());
        nodes[1].admitted = true;
        let admitted = reasons(&nodes, &mut Memory::default());

        assert_eq!(nobody, [expect("a", &["KeyShared"]), expect("b", &["KeyShared"])]);
        assert_eq!(admitted, [expect("a", &["KeyShared"]), expect("b", &[])]);
    }

    #[test]
    fn epochs_only_grow_and_the_one_in_use_is_there() {
        let mut memory = Memory::default();
        reasons(&[node("a", &[(1, 7), (3, 8)])], &mut memory);

        let shrank = reasons(&[node("a", &[(1, 7)])], &mut memory);
        let missing = reasons(&[node("b", &[(2, 9)])], &mut memory);

        assert_eq!(shrank, [expect("a", &["EpochShrank"])]);
        assert_eq!(missing, [expect("b", &["KeyMissing"])]);
    }

    #[test]
    fn a_key_that_nobody_asked_for_is_named_and_one_taken_back_is_not() {
        let mut unasked = node("a", &[(1, 7), (9, 8)]);
        unasked.epochs = vec![1, 2];
        assert_eq!(reasons(&[unasked], &mut Memory::default()), [expect("a", &["EpochUnasked"])]);

        let mut memory = Memory::default();
        let mut node = node("a", &[(1, 7), (2, 8)]);
        node.epochs = vec![1, 2];
        reasons(std::slice::from_ref(&node), &mut memory);
        node.epochs = vec![1];
        assert_eq!(reasons(std::slice::from_ref(&node), &mut memory), [expect("a", &[])]);
        node.keys.pop();
        assert_eq!(reasons(&[node], &mut memory), [expect("a", &[])]);
    }

    #[test]
    fn a_bad_key_or_endpoint_is_named() {
        let mut bad = node("a", &[(1, 0)]);
        bad.endpoints.push("10.42.0.9:51820".to_owned());

        let found = reasons(&[bad], &mut Memory::default());

        assert_eq!(found, [expect("a", &["KeyRefused", "EndpointRefused"])]);
    }
}
