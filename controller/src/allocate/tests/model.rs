//! A model of the API server: create-if-absent, versions, stale reads, and the oracles.
//!
//! Every write goes through the checks that the real server makes; [`Fault`] breaks one of them or
//! one rule of the controller, to show that the oracles would notice.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::allocate::{
    Claim, Node, Owner, Pool, REST, Rests, State, View, Write, may_release, overlap,
};

/// What is deliberately broken, if anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    /// A create replaces what is there.
    CreateOverwrites,
    /// Updates ignore the version.
    VersionsIgnored,
    /// Released subnets are taken at once.
    NoRest,
    /// The rest is counted on a wall clock that jumps.
    WallClock,
    /// The spec is written before the claim is made.
    SpecFirst,
    /// Whoever asks gets a block of any pool.
    NamesIgnored,
    /// A release trusts the list of nodes that it was planned on.
    ReleaseUnchecked,
}

#[derive(Clone, Debug)]
pub(super) struct StoredClaim {
    pub(super) version: u64,
    pub(super) generation: i64,
    pub(super) owner: Option<Owner>,
}

#[derive(Clone, Debug)]
pub(super) struct StoredNode {
    pub(super) version: u64,
    pub(super) uid: Arc<str>,
    pub(super) subnets: Vec<IpNet>,
}

pub(super) type Nodes = BTreeMap<Arc<str>, StoredNode>;
pub(super) type Claims = BTreeMap<IpNet, StoredClaim>;

pub(super) struct Server {
    pub(super) fault: Fault,
    pub(super) now: Duration,
    pub(super) nodes: Arc<Nodes>,
    pub(super) claims: Arc<Claims>,
    pub(super) pools: Arc<Vec<Pool>>,
    version: u64,
    uids: u64,
    /// When each block was last in a living node's spec, and whose.
    used: BTreeMap<IpNet, (Arc<str>, Duration)>,
}

/// What a controller remembers of its reads: the versions that its writes depend on.
#[derive(Clone, Default)]
pub(super) struct Read {
    pub(super) nodes: Arc<Nodes>,
    pub(super) claims: Arc<Claims>,
    pub(super) pools: Arc<Vec<Pool>>,
}

impl Server {
    pub(super) fn new(fault: Fault, pools: Vec<Pool>) -> Server {
        Server {
            fault,
            now: Duration::from_secs(1000),
            nodes: Arc::default(),
            claims: Arc::default(),
            pools: Arc::new(pools),
            version: 0,
            uids: 0,
            used: BTreeMap::new(),
        }
    }

    pub(super) fn add_node(&mut self, name: &str) {
        self.uids += 1;
        self.version += 1;
        let node = StoredNode {
            version: self.version,
            uid: format!("u{}", self.uids).into(),
            subnets: Vec::new(),
        };
        Arc::make_mut(&mut self.nodes).insert(name.into(), node);
    }

    pub(super) fn remove_node(&mut self, name: &str) {
        if let Some(node) = Arc::make_mut(&mut self.nodes).remove(name) {
            self.stamp(&node);
        }
    }

    fn stamp(&mut self, node: &StoredNode) {
        for subnet in &node.subnets {
            self.used.insert(*subnet, (node.uid.clone(), self.now));
        }
    }

    /// Does a write as the server would: `Err` is the oracle's complaint, a refusal is no error.
    pub(super) fn apply(&mut self, write: &Write, read: &Read) -> Result<(), String> {
        match write {
            Write::Create { subnet, owner } => {
                self.create(*subnet, owner);
                from_its_pools(subnet, owner, read)
            }
            Write::Bind { subnet, owner, .. } => {
                self.update(*subnet, read, Some(owner));
                from_its_pools(subnet, owner, read)
            }
            Write::Release { subnet, owner, .. } => {
                if self.fault == Fault::ReleaseUnchecked || self.may_release(*subnet, owner) {
                    self.update(*subnet, read, None);
                }
                self.claimed_as_published()
            }
            Write::Publish { owner, subnets } => self.publish(owner, subnets, read),
        }
    }

    fn create(&mut self, subnet: IpNet, owner: &Owner) {
        if self.claims.contains_key(&subnet) && self.fault != Fault::CreateOverwrites {
            return;
        }
        self.version += 1;
        let claim =
            StoredClaim { version: self.version, generation: 1, owner: Some(owner.clone()) };
        Arc::make_mut(&mut self.claims).insert(subnet, claim);
    }

    fn update(&mut self, subnet: IpNet, read: &Read, owner: Option<&Owner>) {
        let Some(seen) = read.claims.get(&subnet) else {
            return;
        };
        let Some(claim) = Arc::make_mut(&mut self.claims).get_mut(&subnet) else {
            return;
        };
        if claim.version != seen.version && self.fault != Fault::VersionsIgnored {
            return;
        }
        self.version += 1;
        *claim = StoredClaim {
            version: self.version,
            generation: seen.generation + i64::from(owner.is_some()),
            owner: owner.cloned(),
        };
    }

    /// The fresh look that goes before a release.
    fn may_release(&self, subnet: IpNet, owner: &Owner) -> bool {
        let now = self.nodes.get(&owner.node);
        may_release(&subnet, owner, now.map(|node| (&*node.uid, node.subnets.as_slice())))
    }

    fn publish(&mut self, owner: &Owner, subnets: &[IpNet], read: &Read) -> Result<(), String> {
        let seen = read.nodes.get(&owner.node).map(|node| node.version);
        let Some(node) = Arc::make_mut(&mut self.nodes).get_mut(&owner.node) else {
            return Ok(());
        };
        if Some(node.version) != seen && self.fault != Fault::VersionsIgnored {
            return Ok(());
        }
        self.version += 1;
        let before = node.clone();
        node.version = self.version;
        node.subnets = subnets.to_vec();
        self.stamp(&before);
        self.one_owner_each()?;
        self.rested_long_enough(owner, subnets)?;
        self.claimed_as_published()
    }

    /// Oracle: no two living nodes have overlapping subnets in their specs.
    fn one_owner_each(&self) -> Result<(), String> {
        let all: Vec<(&Arc<str>, &IpNet)> = (self.nodes.iter())
            .flat_map(|(name, node)| node.subnets.iter().map(move |subnet| (name, subnet)))
            .collect();
        for (i, (name, subnet)) in all.iter().enumerate() {
            for (other, theirs) in &all[..i] {
                if overlap(subnet, theirs) {
                    return Err(format!("{other} has {theirs} and {name} has {subnet}"));
                }
            }
        }
        Ok(())
    }

    /// Oracle: whoever had a part of these addresses before stopped long enough ago.
    fn rested_long_enough(&self, owner: &Owner, subnets: &[IpNet]) -> Result<(), String> {
        for subnet in subnets {
            for (block, (uid, when)) in &self.used {
                let rest = self.now.saturating_sub(*when);
                if overlap(block, subnet) && *uid != owner.uid && rest < REST {
                    return Err(format!("{subnet} of {uid} rested for {rest:?} only"));
                }
            }
        }
        Ok(())
    }

    /// Oracle: what a spec says is claimed by that very node.
    fn claimed_as_published(&self) -> Result<(), String> {
        for (name, node) in self.nodes.iter() {
            for subnet in &node.subnets {
                let owner = self.claims.get(subnet).and_then(|claim| claim.owner.as_ref());
                if owner.map(|owner| &owner.uid) != Some(&node.uid) {
                    return Err(format!("{name} has {subnet}, claimed by {owner:?}"));
                }
            }
        }
        Ok(())
    }
}

/// These pools have a name,
fn name_of(pool: &IpNet) -> Option<Arc<str>> {
    const NAMED: [&str; 4] = ["10.0.0.8/31", "10.0.0.4/30", "10.9.0.4/32", "fd09:0:0:4::/64"];
    NAMED.contains(&pool.to_string().as_str()).then(|| "edge".into())
}

/// and this node gets blocks of them alone.
fn pool_of(node: &str) -> Option<Arc<str>> {
    (node == "d").then(|| "edge".into())
}

/// Oracle: a block comes from a pool that is for its owner, as the controller saw the pools.
fn from_its_pools(subnet: &IpNet, owner: &Owner, read: &Read) -> Result<(), String> {
    let its = |pool: &&Pool| pool.has_block(subnet) && name_of(&pool.cidr) == pool_of(&owner.node);
    let found = read.pools.iter().any(|pool| its(&pool));
    if found { Ok(()) } else { Err(format!("{subnet} is not of {}'s pools", owner.node)) }
}

impl Read {
    /// What the planner gets to see of it.
    pub(super) fn view(&self, rests: &Rests, now: Duration) -> View {
        View {
            pools: self.pools.to_vec(),
            names: (self.pools.iter())
                .filter_map(|pool| Some((pool.cidr, name_of(&pool.cidr)?)))
                .collect(),
            nodes: (self.nodes.iter())
                .map(|(name, node)| Node {
                    name: name.clone(),
                    uid: node.uid.clone(),
                    subnets: node.subnets.clone(),
                    tidy: true,
                    in_force: Vec::new(),
                    underlay: Vec::new(),
                    revoked: false,
                    keys: Vec::new(),
                    pool: pool_of(name),
                    assigned: None,
                })
                .collect(),
            claims: (self.claims.iter())
                .map(|(subnet, claim)| claim.seen(*subnet, rests, now))
                .collect(),
            paused: false,
        }
    }

    pub(super) fn released(&self) -> impl Iterator<Item = (IpNet, i64)> {
        (self.claims.iter())
            .filter(|(_, claim)| claim.owner.is_none())
            .map(|(subnet, claim)| (*subnet, claim.generation))
    }
}

impl StoredClaim {
    fn seen(&self, subnet: IpNet, rests: &Rests, now: Duration) -> Claim {
        Claim {
            subnet,
            generation: self.generation,
            state: match &self.owner {
                Some(owner) => State::Bound(owner.clone()),
                None if rests.is_over(subnet, self.generation, now) => State::Rested,
                None => State::Resting,
            },
            former: None,
        }
    }
}
