//! The table, as values of nft's own JSON schema: how it is made, and how one guard follows another.

mod chains;
mod words;

use std::collections::BTreeSet;

use ipnet::IpNet;
use nftables::{
    batch::Batch,
    schema::{FlushObject, NfCmd, NfListObject, NfObject, Nftables},
};

use self::words::{bare, counter, is_v4, set, table};
use super::{Blocked, MARK, TABLE};
use crate::plan::Guard;

pub(super) const OUT: &str = "blocked_out";
pub(super) const INTO: &str = "blocked_in";
pub(super) const FORGED: &str = "forged_source";
/// The set of other plugins' devices.
const DEVICES: &str = "devices";

/// The guard's sets have two names each, used by turns: the next ones are filled before any rule
/// asks them. The kernel puts a transaction's rules in force first and the elements of its interval
/// sets after that (`nf_tables_commit`, net/netfilter/nf_tables_api.c): rules that come with their
/// sets find them empty for some microseconds, and nothing is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    A,
    B,
}

impl Turn {
    /// The one that none of these sets is of.
    pub(super) fn after(sets: &[String]) -> Self {
        if sets.iter().any(|set| set.ends_with("_a")) { Self::B } else { Self::A }
    }

    fn name(self, set: &str) -> String {
        let turn = match self {
            Self::A => "a",
            Self::B => "b",
        };
        format!("{set}_{turn}")
    }
}

/// What a set holds.
enum Elements {
    Nets(BTreeSet<IpNet>),
    Devices(BTreeSet<String>),
}

/// A guard, with the turn of its sets.
#[derive(Clone, Copy)]
struct Turned<'a> {
    guard: &'a Guard,
    turn: Turn,
}

/// Replaces the table as a whole, for where there is none, or not ours; the counters start from
/// `blocked`.
pub(super) fn install(guard: &Guard, blocked: Blocked) -> Nftables<'static> {
    install_of(Turned { guard, turn: Turn::A }, blocked)
}

fn install_of(turned: Turned<'_>, blocked: Blocked) -> Nftables<'static> {
    let mut batch = Batch::new();
    batch.add(table());
    batch.delete(table());
    batch.add(table());
    for (name, packets) in [(OUT, blocked.out), (INTO, blocked.into), (FORGED, blocked.forged)] {
        batch.add(counter(name, packets));
    }
    for (name, elements) in sets(turned) {
        batch.add(set(name, &elements));
    }
    chains::fill(&mut batch, turned);
    batch.to_nftables()
}

/// The first step to another guard: its sets.
pub(super) fn prepare(guard: &Guard, turn: Turn) -> Nftables<'static> {
    let mut batch = Batch::new();
    for (name, elements) in sets(Turned { guard, turn }) {
        // What is left of a step that was not finished goes.
        batch.add(set(name.clone(), &elements));
        batch.delete(set(name.clone(), &elements));
        batch.add(set(name, &elements));
    }
    batch.to_nftables()
}

/// The second: its rules, in the place of all that there are. Chains and counters stay, so that no
/// packet meets two of a kind.
pub(super) fn switch(guard: &Guard, turn: Turn) -> Nftables<'static> {
    let mut batch = Batch::new();
    batch.add_cmd(NfCmd::Flush(FlushObject::Table(bare())));
    let turned = Turned { guard, turn };
    chains::fill(&mut batch, turned);
    for (chain, _) in chains::at_times(turned).into_iter().filter(|(_, stands)| !stands) {
        // It may not be there, and what isn't there can't be deleted.
        batch.add(chain.clone());
        batch.delete(chain);
    }
    batch.to_nftables()
}

/// The last: the sets that nothing asks any more.
pub(super) fn forget(names: Vec<String>) -> Nftables<'static> {
    let mut batch = Batch::new();
    for name in names {
        let devices = name.starts_with(DEVICES);
        let devices = devices.then(|| Elements::Devices(BTreeSet::new()));
        let empty = devices.unwrap_or_else(|| Elements::Nets(BTreeSet::new()));
        batch.delete(set(name, &empty));
    }
    batch.to_nftables()
}

/// Names of the sets of a guard.
pub(super) fn set_names(guard: &Guard, turn: Turn) -> Vec<String> {
    sets(Turned { guard, turn }).into_iter().map(|(name, _)| name).collect()
}

/// Each with its elements, which are of one family and hold none of each other: intervals of a set
/// must not overlap, and on the way from one guard to another a prefix and an address in it may both
/// be let through.
fn sets(Turned { guard, turn }: Turned<'_>) -> Vec<(String, Elements)> {
    let named =
        [("mesh", &guard.ranges), ("pods", &guard.masquerade), ("machines", &guard.machines)];
    let named = named.map(|(name, nets)| (name.to_owned(), nets));
    let open = guard.open.values().enumerate().flat_map(|(at, open)| {
        [(format!("from_{at}_"), &open.from), (format!("to_{at}_"), &open.to)]
    });
    let open = open.filter(|(_, nets)| !nets.is_empty());
    let families = |(name, nets): (String, &BTreeSet<IpNet>)| {
        [("4", true), ("6", false)].map(|(family, v4)| {
            let nets = of_family(nets, v4).into_iter().collect();
            (turn.name(&format!("{name}{family}")), Elements::Nets(nets))
        })
    };
    let others = (!guard.devices.is_empty()).then(|| Elements::Devices(guard.devices.clone()));
    let others = others.map(|devices| (turn.name(DEVICES), devices));
    named.into_iter().chain(open).flat_map(families).chain(others).collect()
}

fn of_family(nets: &BTreeSet<IpNet>, v4: bool) -> Vec<IpNet> {
    let nets: Vec<IpNet> = nets.iter().filter(|net| is_v4(net) == v4).copied().collect();
    IpNet::aggregate(&nets)
}

/// Removes the table, also if it isn't there.
pub(super) fn remove() -> Nftables<'static> {
    let mut batch = Batch::new();
    batch.add(table());
    batch.delete(table());
    batch.to_nftables()
}

/// What nft lists of a guard: how many rules, chains and sets.
pub(super) fn size(guard: &Guard, turn: Turn) -> [usize; 3] {
    let made = install_of(Turned { guard, turn }, Blocked::default());
    let added = |kind: fn(&NfListObject<'_>) -> bool| {
        let objects = made.objects.iter();
        let is = |o: &&NfObject<'_>| matches!(o, NfObject::CmdObject(NfCmd::Add(o)) if kind(o));
        objects.filter(is).count()
    };
    [
        added(|object| matches!(object, NfListObject::Rule(_))),
        added(|object| matches!(object, NfListObject::Chain(_))),
        added(|object| matches!(object, NfListObject::Set(_))),
    ]
}
