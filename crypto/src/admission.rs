//! Judges a list of peers before it is used: two peers never share a name, a key or a prefix.
//!
//! The list is sorted by name first, so that of two rivals the same one wins on every node and
//! after every restart.

use std::collections::{BTreeMap, HashMap, HashSet};

use ipnet::IpNet;
use keys::PublicKey;

use crate::{PeerConfig, Problem};

/// This node, as far as peers can collide with it.
#[derive(Debug, Clone)]
pub(crate) struct Own<'a> {
    pub(crate) key: PublicKey,
    pub(crate) prefixes: &'a [IpNet],
}

/// The usable part of a list, by name, and what is wrong with the rest.
pub(crate) fn admit(peers: Vec<PeerConfig>, own: &Own<'_>) -> (Vec<PeerConfig>, Vec<Problem>) {
    let mut problems = Vec::new();
    let mut named = BTreeMap::new();
    for peer in peers {
        if named.contains_key(&peer.name) {
            problems.push(Problem::SameName(peer.name));
        } else {
            named.insert(peer.name.clone(), peer);
        }
    }
    let mut peers: Vec<_> = named.into_values().collect();
    admit_keys(&mut peers, own.key, &mut problems);
    admit_prefixes(&mut peers, own.prefixes, &mut problems);
    (peers, problems)
}

fn admit_keys(peers: &mut [PeerConfig], own: PublicKey, problems: &mut Vec<Problem>) {
    let mut owners: HashMap<PublicKey, String> = HashMap::new();
    for peer in peers {
        peer.keys.sort_unstable();
        let mut epochs = HashSet::new();
        let name = &peer.name;
        peer.keys.retain(|&(epoch, key)| {
            let problem = if key == own {
                Problem::OwnKey(name.clone())
            } else if key.is_low_order() {
                Problem::LowOrderKey(name.clone())
            } else if !epochs.insert(epoch) {
                Problem::SameEpoch(name.clone(), epoch)
            } else if let Some(first) = owners.get(&key) {
                Problem::SameKey(first.clone(), name.clone())
            } else {
                owners.insert(key, name.clone());
                return true;
            };
            problems.push(problem);
            false
        });
    }
}

fn admit_prefixes(peers: &mut [PeerConfig], own: &[IpNet], problems: &mut Vec<Problem>) {
    let mut owners: HashMap<IpNet, String> = HashMap::new();
    let own: HashSet<IpNet> = own.iter().map(IpNet::trunc).collect();
    for peer in peers {
        let name = &peer.name;
        peer.allowed.retain(|prefix| {
            let problem = if own.contains(&prefix.trunc()) {
                Problem::OwnPrefix(name.clone(), *prefix)
            } else {
                match owners.insert(prefix.trunc(), name.clone()) {
                    None => return true,
                    Some(first) if first == *name => return false,
                    Some(first) => {
                        owners.insert(prefix.trunc(), first.clone());
                        Problem::SamePrefix(first, name.clone(), *prefix)
                    }
                }
            };
            problems.push(problem);
            false
        });
    }
}

#[cfg(test)]
mod tests;
