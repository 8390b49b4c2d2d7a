//! The list of peers, and how it becomes another one.
//!
//! Two lists by name are laid side by side: whoever is in both and the same is not touched, whoever
//! changed changes, and the routes change with them, all at once. So a call costs what is new, and
//! a comparison for the rest.

use std::{collections::HashMap, sync::Arc, time::Instant};

use ipnet::IpNet;
use keys::PublicKey;

use crate::{
    Mesh, Outbox, PeerConfig, Problem, Routes,
    admission::{Own, admit},
    core::Core,
    moment::Moment,
    peer::Peer,
    slots::{Indices, slot},
    source::Owner,
};

/// So many peers that shall always be connected begin at once, the others one by one after them.
const AT_ONCE: u64 = 32;

#[derive(Default)]
pub(crate) struct Roster {
    slots: Vec<Option<Box<Peer>>>,
    ids: Indices,
    /// Slots by name.
    order: Vec<u32>,
    by_key: HashMap<PublicKey, u32>,
    own: Vec<IpNet>,
    /// The list was usable as it came.
    clean: bool,
}

/// How the list becomes another.
#[derive(Default)]
struct Change {
    gone: Vec<u32>,
    changed: Vec<(u32, PeerConfig)>,
    new: Vec<PeerConfig>,
}

impl Mesh {
    /// Makes `peers` the peers. Whoever stays keeps its sessions and its learned endpoint.
    /// `own` are this node's prefixes: no peer may send from them.
    pub fn set_peers(
        &mut self,
        peers: Vec<PeerConfig>,
        own: &[IpNet],
        out: &mut impl Outbox,
        now: Instant,
    ) -> Vec<Problem> {
        if self.roster.is(&peers, own) {
            return Vec::new();
        }
        let us = Own { keys: &self.core.keyring.public(), prefixes: own };
        let (configs, problems) = admit(peers, &us);
        let change = self.roster.compare(configs);
        let at = self.core.paths.origin.moment(now);
        let beginning = self.roster.apply(change, own, &mut self.core, at);
        self.roster.clean = problems.is_empty();
        self.tick_peers(beginning, out, now);
        problems
    }
}

impl Roster {
    pub(crate) fn get(&self, slot: u32) -> Option<&Peer> {
        self.slots.get(slot as usize)?.as_deref()
    }

    pub(crate) fn get_mut(&mut self, slot: u32) -> Option<&mut Peer> {
        self.slots.get_mut(slot as usize)?.as_deref_mut()
    }

    pub(crate) fn slot_of(&self, key: &PublicKey) -> Option<u32> {
        self.by_key.get(key).copied()
    }

    /// By name.
    pub(crate) fn peers(&self) -> impl Iterator<Item = &Peer> {
        self.order.iter().filter_map(|slot| self.get(*slot))
    }

    pub(crate) fn peers_mut(&mut self) -> impl Iterator<Item = &mut Peer> {
        self.slots.iter_mut().filter_map(|peer| peer.as_deref_mut())
    }

    pub(crate) fn slot_named(&self, name: &str) -> Option<u32> {
        let named = |slot: &u32| self.get(*slot).map_or("", |peer| &peer.config.name);
        let place = self.order.binary_search_by(|slot| named(slot).cmp(name)).ok()?;
        Some(self.order[place])
    }

    /// By name.
    pub(crate) fn slots(&self) -> impl Iterator<Item = u32> {
        self.order.iter().copied()
    }

    /// The next list is judged anew, even if it is the same.
    pub(crate) fn doubt(&mut self) {
        self.clean = false;
    }

    /// True if this list, which is usable as it is, came the last time.
    fn is(&self, peers: &[PeerConfig], own: &[IpNet]) -> bool {
        if !self.clean || self.own != own || self.order.len() != peers.len() {
            return false;
        }
        let mut sorted: Vec<&PeerConfig> = peers.iter().collect();
        sorted.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        self.peers().zip(sorted).all(|(peer, config)| peer.config == *config)
    }

    /// Lays `configs`, which are by name, beside what is.
    fn compare(&self, configs: Vec<PeerConfig>) -> Change {
        let mut change = Change::default();
        let mut order = self.order.iter().copied().peekable();
        for config in configs {
            let name = |slot: u32| self.get(slot).map(|peer| peer.config.name.as_str());
            while let Some(gone) = order.next_if(|slot| name(*slot) < Some(&config.name)) {
                change.gone.push(gone);
            }
            match order.next_if(|slot| name(*slot) == Some(&config.name)) {
                None => change.new.push(config),
                Some(slot) if self.get(slot).is_some_and(|peer| peer.config == config) => {}
                Some(slot) => change.changed.push((slot, config)),
            }
        }
        change.gone.extend(order);
        change
    }

    /// Makes the change. The routes change at once, after whom they lead to has come and before
    /// who is gone goes.
    /// Gives whoever should begin a handshake at once.
    fn apply(&mut self, change: Change, own: &[IpNet], core: &mut Core, at: Moment) -> Vec<u32> {
        let Change { gone, changed, new } = change;
        let sorted = gone.is_empty() && new.is_empty();
        let new: Vec<u32> = new.into_iter().filter_map(|config| self.add(config, core)).collect();
        self.route((&gone, &changed, &new), own, core);
        for slot in gone.iter().chain(changed.iter().map(|(slot, _)| slot)) {
            self.forget_keys(*slot);
        }
        for slot in gone {
            self.remove(slot, core);
        }
        let mut starters = new;
        for (slot, config) in changed {
            if let Some(peer) = self.get_mut(slot) {
                core.paths.call(&peer.path, config.relayed);
                peer.reconfigure(config, core, at);
            }
            starters.push(slot);
        }
        if !sorted {
            self.sort();
        }
        self.begin(&starters, core, at);
        starters.retain(|slot| self.get(*slot).is_some_and(|peer| peer.wishes(at)));
        starters
    }

    fn add(&mut self, config: PeerConfig, core: &mut Core) -> Option<u32> {
        let id = self.ids.take(0, core.random_number())?;
        let slot = slot(id);
        if self.slots.len() <= slot as usize {
            self.slots.resize_with(slot as usize + 1, || None);
        }
        let peer = Peer::new(id, config, core);
        core.paths.marks.prepare(id);
        core.paths.peers.put(id, Some(Arc::clone(&peer.path)));
        core.paths.call(&peer.path, peer.config.relayed);
        self.slots[slot as usize] = Some(Box::new(peer));
        Some(slot)
    }

    fn remove(&mut self, slot: u32, core: &mut Core) {
        if let Some(peer) = self.slots.get_mut(slot as usize).and_then(Option::take) {
            core.paths.peers.put(peer.path.id, None);
            core.paths.call(&peer.path, false);
            self.ids.release(peer.path.id);
            peer.leave(core);
        }
    }

    /// Swaps the routes for those of the change; its lists are who goes, changes and comes.
    fn route(
        &mut self,
        (gone, changed, new): (&[u32], &[(u32, PeerConfig)], &[u32]),
        own: &[IpNet],
        core: &Core,
    ) {
        let moved: Vec<_> = changed
            .iter()
            .filter_map(|(slot, config)| Some((self.get(*slot)?, config)))
            .filter(|(peer, config)| peer.config.allowed != config.allowed)
            .collect();
        if gone.is_empty() && new.is_empty() && moved.is_empty() && self.own == own {
            return;
        }
        let mut routes = Routes::clone(&core.paths.routes.load());
        let leaving = gone.iter().filter_map(|slot| self.get(*slot));
        for peer in leaving.chain(moved.iter().map(|(peer, _)| *peer)) {
            peer.config.allowed.iter().for_each(|prefix| routes.remove(*prefix));
        }
        self.own.iter().for_each(|prefix| routes.remove(*prefix));
        for prefix in own {
            routes.insert(*prefix, Owner::Us);
        }
        let coming = new.iter().filter_map(|slot| self.get(*slot)).map(|peer| (peer, &peer.config));
        for (peer, config) in coming.chain(moved) {
            for prefix in &config.allowed {
                routes.insert(*prefix, Owner::Peer(peer.path.id));
            }
        }
        core.paths.routes.store(Arc::new(routes));
        self.own = own.to_vec();
    }

    fn forget_keys(&mut self, slot: u32) {
        let Some(peer) = self.slots.get(slot as usize).and_then(Option::as_deref) else {
            return;
        };
        for (_, key) in &peer.config.keys {
            self.by_key.remove(key);
        }
    }

    /// Makes those who came or changed known by their keys, and begins what shall always be.
    fn begin(&mut self, slots: &[u32], core: &mut Core, at: Moment) {
        let mut waiting = 0_u64;
        for slot in slots {
            let Some(peer) = self.slots[*slot as usize].as_deref_mut() else {
                continue;
            };
            for (_, key) in &peer.config.keys {
                self.by_key.insert(*key, *slot);
            }
            if peer.start(Moment(at.0 + waiting.saturating_sub(AT_ONCE))) {
                waiting += 1;
            }
            peer.schedule(core, at);
        }
    }

    fn sort(&mut self) {
        let slots = &self.slots;
        let name = |slot: &u32| slots[*slot as usize].as_ref().map(|peer| &peer.config.name);
        let used = 0..slots.len() as u32;
        self.order = used.filter(|slot| name(slot).is_some()).collect();
        self.order.sort_unstable_by(|a, b| name(a).cmp(&name(b)));
    }
}
