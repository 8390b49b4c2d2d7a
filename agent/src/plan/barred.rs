//! The routing layer of the guard on the way in: rules that drop what comes from the mesh's ranges
//! by a device that is not ours, before anybody asks whom it is for.
//!
//! ```text
//!   0  local                1  from RANGE iif DEVICE blackhole     one a range and device
//!              ─ becomes ─▶ 2  local
//!   …  others'              …  others'
//! ```
//! The kernel looks for local addresses first of all, so that lookup moves behind ours, and in front
//! of everybody else's rules as before. Where somebody has moved it already it stays where it is. A
//! device that is open for some of the ranges is left to the table: a rule knows one prefix and is
//! one more step for every packet.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::{Actual, Change, Family, Guard, Plan};

/// Where the kernel looks for local addresses from the start.
pub const FIRST: u32 = 0;
/// Where it does so behind our rules.
pub const BEHIND: u32 = 2;

/// Drops what comes by this device and says that it is from this range.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Barred {
    pub source: IpNet,
    pub device: String,
}

/// Places of the rules that look for local addresses, by family.
pub type LocalLookups = BTreeMap<Family, BTreeSet<u32>>;

/// `foreign`: devices that are neither the tunnel's, nor a pod's, nor a port of a bridge.
pub fn of(guard: &Guard, foreign: &BTreeSet<String>, ipv6: bool) -> BTreeSet<Barred> {
    let closed = foreign.iter().filter(|device| !is_open(guard, device));
    let ranges = guard.ranges.iter().filter(|range| ipv6 || range.addr().is_ipv4());
    let ranges: Vec<&IpNet> = ranges.collect();
    let on = |device: &String| {
        let barred = |source: &&IpNet| Barred { source: **source, device: device.clone() };
        ranges.iter().map(barred).collect::<Vec<_>>()
    };
    closed.flat_map(on).collect()
}

/// Also where others' pods are behind it.
fn is_open(guard: &Guard, device: &str) -> bool {
    guard.devices.contains(device)
        || guard.open.get(device).is_some_and(|open| !open.from.is_empty())
}

/// With the table that is in force on the way: what either guard lets in meets no rule.
pub(super) fn grows(plan: &Plan, actual: &Actual, between: &Guard) -> Vec<Change> {
    let opened = actual.barred.iter().filter(|rule| is_open(between, &rule.device));
    let mut changes: Vec<_> = opened.cloned().map(Change::Unbar).collect();
    let missing = plan.barred.difference(&actual.barred);
    let missing = missing.filter(|rule| !is_open(between, &rule.device));
    changes.extend(missing.cloned().map(Change::Bar));
    let families: BTreeSet<Family> =
        plan.barred.iter().map(|rule| Family::of(&rule.source)).collect();
    let stands = |family: &Family| stands(&actual.local, *family);
    changes.extend(families.into_iter().filter(|family| !stands(family)).map(Change::LocalBehind));
    changes
}

/// Once the guard's table is the plan's.
pub(super) fn shrinks(plan: &Plan, actual: &Actual, between: &Guard) -> Vec<Change> {
    let missing = plan.barred.difference(&actual.barred);
    let missing = missing.filter(|rule| is_open(between, &rule.device));
    let mut changes: Vec<_> = missing.cloned().map(Change::Bar).collect();
    let stale = actual.barred.difference(&plan.barred);
    let stale = stale.filter(|rule| !is_open(between, &rule.device));
    changes.extend(stale.cloned().map(Change::Unbar));
    changes
}

/// True if local addresses are looked for, and not before our rules are asked.
pub fn stands(local: &LocalLookups, family: Family) -> bool {
    local.get(&family).is_some_and(|places| !places.is_empty() && !places.contains(&FIRST))
}
