//! The next writes, and what to tell each node.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::occupied::Occupied;
use super::pools::{Family, Pool};
use super::{Claim, Node, Owner, State, View};

/// One write. All are safe to try, in any order and from any view; they fail when out of date.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// A claim of this name, if there is none.
    Create { subnet: IpNet, owner: Owner },
    /// The rested claim of `generation`, under the version read.
    Bind { subnet: IpNet, generation: i64, owner: Owner },
    /// The claim of `generation`, under the version read, if [`may_release`] still says so after a
    /// fresh look at the owner.
    Release { subnet: IpNet, generation: i64, owner: Owner },
    /// The node's subnets, under the version read.
    Publish { owner: Owner, subnets: Vec<IpNet> },
}

/// What the controller can say about a node's subnets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeVerdict {
    /// It has all it should have.
    Allocated,
    /// Writes are on their way.
    Pending,
    /// No pool of this family has a free block. `resting`: some will come free by themselves.
    Exhausted { family: Family, resting: bool },
    /// The pool's range holds the node's own address on the underlay.
    PoolCoversNode { pool: IpNet, address: IpAddr },
    /// There is no usable pool, and the node has no subnet.
    NoPools,
    /// There is no usable pool of the name that it is to have subnets of.
    NoSuchPool(Arc<str>),
    /// Nothing new is given out since the restore.
    Paused,
    /// A revoked node gets nothing new.
    Revoked,
    /// It had this subnet before it was made again. Whether it is the same machine, the key that its
    /// agent publishes will say.
    Returning(IpNet),
    /// Its cluster assigns subnets, and that stands in the way.
    Cluster(Assignment),
}

/// Why a node does not have what its cluster assigned, or gets nothing beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Assignment {
    /// The cluster has assigned nothing to it yet.
    Missing,
    /// The block that the cluster assigned to it is no block of a usable pool.
    Outside(IpNet),
    /// That block is held by another node, or rests after one (`resting`).
    Taken { subnet: IpNet, resting: bool },
    /// It has `subnet`, and the cluster assigned another one to it.
    Other { subnet: IpNet, assigned: IpNet },
    /// Every pool of this family holds blocks that the cluster assigns.
    PoolsAssigned(Family),
}

/// The outcome of one look at the API.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub writes: Vec<Write>,
    /// By the node's name.
    pub verdicts: BTreeMap<Arc<str>, NodeVerdict>,
    /// Bound subnets that no usable pool would give out now.
    pub outside: Vec<IpNet>,
}

/// Decides the next writes for a view.
pub fn plan(view: &View) -> Plan {
    let mut planner = Planner::new(view);
    let mut plan =
        Plan { writes: planner.release_the_orphans(), outside: outside(view), ..Plan::default() };
    let mut order: Vec<usize> = (0..view.nodes.len()).collect();
    order.sort_by(|a, b| view.nodes[*a].name.cmp(&view.nodes[*b].name));
    for index in order {
        let verdict = planner.settle(index, &mut plan.writes);
        plan.verdicts.insert(view.nodes[index].name.clone(), verdict);
    }
    plan
}

struct Planner<'a> {
    view: &'a View,
    /// Bound claims by the owner's UID, then by address.
    bound: Vec<(&'a Owner, &'a Claim)>,
    /// Generation of the rested claims.
    rested: BTreeMap<IpNet, i64>,
    resting: Vec<IpNet>,
    /// Claims without a living owner, by the last one's name.
    former: BTreeMap<&'a str, Vec<&'a Claim>>,
    taken: Occupied,
    cursors: Vec<Option<u128>>,
    /// By pool: the cluster assigns its blocks.
    assigned: Vec<bool>,
}

impl<'a> Planner<'a> {
    fn new(view: &'a View) -> Planner<'a> {
        let mut planner = Planner {
            view,
            bound: Vec::new(),
            rested: BTreeMap::new(),
            resting: Vec::new(),
            former: BTreeMap::new(),
            taken: Occupied::default(),
            cursors: vec![None; view.pools.len()],
            assigned: assigned_pools(view),
        };
        let alive: BTreeSet<&str> = view.nodes.iter().map(|node| &*node.uid).collect();
        for claim in &view.claims {
            planner.note(claim);
            let orphan = match &claim.state {
                State::Bound(owner) => !alive.contains(&*owner.uid),
                State::Resting | State::Rested => true,
                State::Reserved => false,
            };
            if let Some(former) = claim.former.as_ref().filter(|_| orphan) {
                planner.former.entry(&former.node).or_default().push(claim);
            }
        }
        for (index, node) in view.nodes.iter().enumerate() {
            for subnet in &node.subnets {
                planner.taken.name(subnet, index);
            }
        }
        planner.bound.sort_unstable_by(|(a, one), (b, other)| {
            (&a.uid, one.subnet).cmp(&(&b.uid, other.subnet))
        });
        planner
    }

    fn note(&mut self, claim: &'a Claim) {
        match &claim.state {
            State::Bound(owner) => self.bound.push((owner, claim)),
            State::Rested => {
                self.rested.insert(claim.subnet, claim.generation);
                return;
            }
            State::Resting => self.resting.push(claim.subnet),
            State::Reserved => {}
        }
        self.taken.claim(&claim.subnet);
    }

    /// The claims of a node, in order of address.
    fn claims_of(&self, uid: &str) -> Vec<&'a Claim> {
        let first = self.bound.partition_point(|(owner, _)| &*owner.uid < uid);
        (self.bound[first..].iter())
            .take_while(|(owner, _)| &*owner.uid == uid)
            .map(|(_, claim)| *claim)
            .collect()
    }

    /// Claims whose owner is not in the view.
    fn release_the_orphans(&self) -> Vec<Write> {
        let mut alive: Vec<&str> = self.view.nodes.iter().map(|n| &*n.uid).collect();
        alive.sort_unstable();
        (self.bound.iter())
            .filter(|(owner, _)| alive.binary_search(&&*owner.uid).is_err())
            .filter_map(|(_, claim)| release(claim))
            .collect()
    }

    /// Brings one node forward by at most one step.
    fn settle(&mut self, index: usize, writes: &mut Vec<Write>) -> NodeVerdict {
        let view = self.view;
        let node = &view.nodes[index];
        let mine = self.claims_of(&node.uid);
        let kept = self.keep(index, &mine);
        let published = node.tidy && node.subnets == kept;
        if published {
            writes.extend(surplus(&mine, &kept));
        }

        let mut verdict = NodeVerdict::Allocated;
        let mut allocating = false;
        let families = self.families_for(node);
        for family in families.clone() {
            if kept.iter().any(|subnet| Family::of(subnet) == family) {
                continue;
            }
            match self.allocate(index, family) {
                Ok(write) => {
                    writes.push(write);
                    allocating = true;
                }
                Err(why) => verdict = why,
            }
        }
        if allocating {
            return NodeVerdict::Pending;
        }
        if !published {
            writes.push(Write::Publish { owner: owner_of(node), subnets: kept });
            return if verdict == NodeVerdict::Allocated { NodeVerdict::Pending } else { verdict };
        }
        if families.is_empty() && kept.is_empty() {
            return node.pool.clone().map_or(NodeVerdict::NoPools, NodeVerdict::NoSuchPool);
        }
        if verdict == NodeVerdict::Allocated { assigned_other(node, &kept) } else { verdict }
    }

    /// One of the node's claims per family: the one in its spec, else the lowest that overlaps no
    /// other held claim and no other node's spec.
    fn keep(&self, index: usize, mine: &[&Claim]) -> Vec<IpNet> {
        let node = &self.view.nodes[index];
        [Family::V4, Family::V6]
            .into_iter()
            .filter_map(|family| {
                let mut subnets = mine
                    .iter()
                    .map(|claim| claim.subnet)
                    .filter(|subnet| Family::of(subnet) == family);
                let published = subnets.clone().find(|s| node.subnets.contains(s));
                published.or_else(|| subnets.find(|subnet| self.taken.stands_alone(subnet, index)))
            })
            .collect()
    }

    fn allocate(&mut self, index: usize, family: Family) -> Result<Write, NodeVerdict> {
        let view = self.view;
        let node = &view.nodes[index];
        if node.revoked {
            return Err(NodeVerdict::Revoked);
        }
        let familiar = self.familiar(index, family);
        let assigned = assigned(node, family)?;
        if let Some(claim) = self.had_before(index, family, assigned)? {
            self.taken.claim(&claim.subnet);
            let (subnet, generation) = (claim.subnet, claim.generation);
            return Ok(Write::Bind { subnet, generation, owner: owner_of(node) });
        }
        let subnet = match (assigned, familiar) {
            (Some(subnet), familiar) => self.take_assigned(index, subnet, familiar)?,
            (None, Some(subnet)) => subnet,
            (None, None) if view.paused => return Err(NodeVerdict::Paused),
            (None, None) => self.next_free(node, family)?,
        };
        self.taken.claim(&subnet);
        let owner = owner_of(node);
        Ok(match self.rested.get(&subnet) {
            Some(generation) => Write::Bind { subnet, generation: *generation, owner },
            None => Write::Create { subnet, owner },
        })
    }

    /// The claim that a machine had before its node was made again: the same machine, if it has one
    /// of the keys. An error while it has not said which it has, and until the claim is released.
    fn had_before(
        &self,
        index: usize,
        family: Family,
        assigned: Option<IpNet>,
    ) -> Result<Option<&'a Claim>, NodeVerdict> {
        let node = &self.view.nodes[index];
        let claims = self.former.get(&*node.name).into_iter().flatten().copied();
        let mut claims = claims
            .filter(|claim| Family::of(&claim.subnet) == family)
            .filter(|claim| assigned.is_none_or(|subnet| subnet == claim.subnet))
            .filter(|claim| !self.view.paused || node.in_force.contains(&claim.subnet))
            .filter(|claim| self.pools_for(node, family).any(|(_, p)| p.has_block(&claim.subnet)))
            .filter(|claim| match claim.state {
                State::Bound(_) | State::Resting => self.taken.stands_alone(&claim.subnet, index),
                State::Rested => self.taken.is_free_for(&claim.subnet, index),
                State::Reserved => false,
            });
        let silent = node.keys.is_empty();
        let may_be_its = |claim: &&Claim| match claim.state {
            State::Rested => claim.was_held_with(&node.keys),
            State::Bound(_) | State::Resting | State::Reserved => {
                claim.was_held_with(&node.keys) || (silent && claim.had_keys())
            }
        };
        match claims.find(may_be_its) {
            Some(claim) if silent || matches!(claim.state, State::Bound(_)) => {
                Err(NodeVerdict::Returning(claim.subnet))
            }
            found => Ok(found),
        }
    }

    /// The block that the cluster assigned to the node, if it can be had.
    fn take_assigned(
        &self,
        index: usize,
        subnet: IpNet,
        familiar: Option<IpNet>,
    ) -> Result<IpNet, NodeVerdict> {
        let (node, family) = (&self.view.nodes[index], Family::of(&subnet));
        if !self.pools_for(node, family).any(|(_, pool)| pool.has_block(&subnet)) {
            return Err(NodeVerdict::Cluster(Assignment::Outside(subnet)));
        }
        if !self.taken.is_free_for(&subnet, index) {
            let resting = self.resting.contains(&subnet);
            return Err(NodeVerdict::Cluster(Assignment::Taken { subnet, resting }));
        }
        if self.view.paused && familiar != Some(subnet) {
            return Err(NodeVerdict::Paused);
        }
        Ok(subnet)
    }

    /// A free block that the node's spec names already (its claim was lost), or after a restore one
    /// that its agent uses.
    fn familiar(&self, index: usize, family: Family) -> Option<IpNet> {
        let node = &self.view.nodes[index];
        let in_force = node.in_force.iter().filter(|_| self.view.paused);
        (node.subnets.iter().chain(in_force))
            .filter(|subnet| Family::of(subnet) == family)
            .filter(|subnet| self.pools_for(node, family).any(|(_, p)| p.has_block(subnet)))
            .find(|subnet| self.taken.is_free_for(subnet, index))
            .copied()
    }

    fn next_free(&mut self, node: &Node, family: Family) -> Result<IpNet, NodeVerdict> {
        let (assigned, candidates): (Vec<_>, Vec<(usize, &Pool)>) =
            self.pools_for(node, family).partition(|(index, _)| self.assigned[*index]);
        if candidates.is_empty() && !assigned.is_empty() {
            return Err(NodeVerdict::Cluster(Assignment::PoolsAssigned(family)));
        }
        for (index, pool) in &candidates {
            if let Some(subnet) = self.taken.next_free(pool, &mut self.cursors[*index]) {
                return Ok(subnet);
            }
        }
        if candidates.is_empty()
            && let Some((pool, address)) = self.covered(node, family)
        {
            return Err(NodeVerdict::PoolCoversNode { pool, address });
        }
        let resting = (self.resting.iter())
            .any(|subnet| candidates.iter().any(|(_, pool)| pool.has_block(subnet)));
        Err(NodeVerdict::Exhausted { family, resting })
    }

    /// Those that the pools cover whose name `node` has.
    fn families_for(&self, node: &Node) -> BTreeSet<Family> {
        let its = self.view.pools.iter().filter(|pool| self.view.is_for(pool, node));
        its.map(Pool::family).collect()
    }

    /// The pools that `node` may have a block of.
    fn pools_for(&self, node: &'a Node, family: Family) -> impl Iterator<Item = (usize, &'a Pool)> {
        (self.view.pools.iter().enumerate())
            .filter(move |(_, pool)| pool.family() == family && self.view.is_for(pool, node))
            .filter(|(_, pool)| !node.underlay.iter().any(|address| pool.covers(address)))
    }

    fn covered(&self, node: &Node, family: Family) -> Option<(IpNet, IpAddr)> {
        let its = |pool: &&Pool| pool.family() == family && self.view.is_for(pool, node);
        self.view.pools.iter().filter(its).find_map(|pool| {
            let address = node.underlay.iter().find(|address| pool.covers(address))?;
            Some((pool.cidr, *address))
        })
    }
}

impl View {
    /// Whether `node` is one of those that `pool` is for.
    pub fn is_for(&self, pool: &Pool, node: &Node) -> bool {
        self.names.get(&pool.cidr) == node.pool.as_ref()
    }
}

impl Claim {
    fn had_keys(&self) -> bool {
        self.former.as_ref().is_some_and(|former| !former.keys.is_empty())
    }

    fn was_held_with(&self, keys: &[Arc<str>]) -> bool {
        let former = self.former.as_ref();
        former.is_some_and(|former| former.keys.iter().any(|key| keys.contains(key)))
    }
}

impl Write {
    /// The subnet whose claim is written; none for a node's spec.
    pub fn subnet(&self) -> Option<IpNet> {
        match self {
            Write::Create { subnet, .. }
            | Write::Bind { subnet, .. }
            | Write::Release { subnet, .. } => Some(*subnet),
            Write::Publish { .. } => None,
        }
    }

    pub fn owner(&self) -> &Owner {
        match self {
            Write::Create { owner, .. }
            | Write::Bind { owner, .. }
            | Write::Release { owner, .. }
            | Write::Publish { owner, .. } => owner,
        }
    }
}

fn owner_of(node: &Node) -> Owner {
    Owner { node: node.name.clone(), uid: node.uid.clone() }
}

/// The block of this family that the cluster assigned. A cluster of one family leaves the other one's
/// pools to us.
fn assigned(node: &Node, family: Family) -> Result<Option<IpNet>, NodeVerdict> {
    match node.assigned.as_deref() {
        None => Ok(None),
        Some([]) => Err(NodeVerdict::Cluster(Assignment::Missing)),
        Some(all) => Ok(all.iter().find(|subnet| Family::of(subnet) == family).copied()),
    }
}

/// The pools from which the cluster assigns, which machines outside of it must leave alone.
fn assigned_pools(view: &View) -> Vec<bool> {
    let assigned: Vec<&IpNet> = view.nodes.iter().flat_map(|n| &n.assigned).flatten().collect();
    let holds = |pool: &Pool| assigned.iter().any(|subnet| pool.cidr.contains(*subnet));
    view.pools.iter().map(holds).collect()
}

/// What is published stays in force; that the cluster says otherwise is somebody's to mend.
fn assigned_other(node: &Node, kept: &[IpNet]) -> NodeVerdict {
    let assigned = node.assigned.iter().flatten().copied();
    let other = assigned.into_iter().find_map(|assigned| {
        let family = Family::of(&assigned);
        let subnet = *kept.iter().find(|subnet| Family::of(subnet) == family)?;
        (subnet != assigned).then_some(NodeVerdict::Cluster(Assignment::Other { subnet, assigned }))
    });
    other.unwrap_or(NodeVerdict::Allocated)
}

fn release(claim: &Claim) -> Option<Write> {
    let State::Bound(owner) = &claim.state else {
        return None;
    };
    Some(Write::Release {
        subnet: claim.subnet,
        generation: claim.generation,
        owner: owner.clone(),
    })
}

/// Claims that a node holds beside the published one of the same family. Without a published one
/// another controller may be about to publish this very claim, under the version we have read too.
fn surplus<'a>(mine: &'a [&Claim], kept: &'a [IpNet]) -> impl Iterator<Item = Write> + 'a {
    (mine.iter())
        .filter(|claim| !kept.contains(&claim.subnet))
        .filter(|claim| kept.iter().any(|k| Family::of(k) == Family::of(&claim.subnet)))
        .filter_map(|claim| release(claim))
}

/// The fresh look before a release: `now` is the UID and the spec of the node of the owner's name,
/// read after the plan was made. The owner must be gone, or stand with another subnet of this
/// family: a living node without one may be about to get this very subnet.
pub fn may_release(subnet: &IpNet, owner: &Owner, now: Option<(&str, &[IpNet])>) -> bool {
    let Some((uid, subnets)) = now else {
        return true;
    };
    *uid != *owner.uid
        || (!subnets.contains(subnet)
            && subnets.iter().any(|other| Family::of(other) == Family::of(subnet)))
}

fn outside(view: &View) -> Vec<IpNet> {
    let mut out: Vec<IpNet> = (view.claims.iter())
        .filter(|claim| matches!(claim.state, State::Bound(_)))
        .map(|claim| claim.subnet)
        .filter(|subnet| !view.pools.iter().any(|pool| pool.has_block(subnet)))
        .collect();
    out.sort();
    out
}
