//! Judges a list of peers before it is used: two peers never share a name, a key or a prefix.
//!
//! The list is sorted by name first, so that of two rivals the same one wins on every node and
//! after every restart.

use std::collections::{BTreeMap, HashMap, HashSet};

use ipnet::IpNet;
use keys::{KeyEpoch, PublicKey};

use crate::PeerConfig;

/// Something in a list of peers that cannot be honoured; the rest of the list is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("two peers are named {0}; the second is ignored")]
    SameName(String),
    #[error("peer {0} publishes two keys of epoch {1}; the second is ignored")]
    SameEpoch(String, KeyEpoch),
    #[error("peers {0} and {1} publish the same public key; the second's is ignored")]
    SameKey(String, String),
    #[error("peers {0} and {1} both claim {2}; the second's claim is ignored")]
    SamePrefix(String, String, IpNet),
    #[error("peer {0} claims {1}, which is this node's own; the claim is ignored")]
    OwnPrefix(String, IpNet),
    #[error("peer {0} publishes this node's own public key; was a key file copied?")]
    OwnKey(String),
    #[error("peer {0} publishes a low-order key that belongs to nobody; it is ignored")]
    LowOrderKey(String),
}

/// This node, as far as peers can collide with it.
#[derive(Debug, Clone)]
pub(crate) struct Own<'a> {
    pub(crate) keys: &'a [PublicKey],
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
    admit_keys(&mut peers, own.keys, &mut problems);
    admit_prefixes(&mut peers, own.prefixes, &mut problems);
    (peers, problems)
}

fn admit_keys(peers: &mut [PeerConfig], own: &[PublicKey], problems: &mut Vec<Problem>) {
    let mut owners: HashMap<PublicKey, String> = HashMap::new();
    for peer in peers {
        peer.keys.sort_unstable();
        let mut epochs = HashSet::new();
        let name = &peer.name;
        peer.keys.retain(|&(epoch, key)| {
            let problem = if own.contains(&key) {
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
