//! The steps from what is to what should be, in the order that never opens a gap.
//!
//! ```text
//! guard grows ─▶ forwarding ─▶ device ─▶ stale routes go ─▶ addresses ─▶ VXLAN, peers ─▶ routes come
//!                                                                          guard shrinks ◀─┘
//! ```
//! A prefix is guarded before anything may route it, and unguarded after the last route is gone.

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::{Actual, Barred, Family, Guard, Peers, Plan, Route, Rule, Target, Vxlan, barred};

#[derive(Clone, Debug)]
pub enum Change {
    /// Replaces the whole table in one transaction.
    Table(Guard),
    /// Drops what a rule of the guard is about.
    Bar(Barred),
    Unbar(Barred),
    /// Has local addresses looked for behind the guard's rules.
    LocalBehind(Family),
    AddRoute(Route),
    RemoveRoute(Route),
    /// Sends marked packets into their table.
    AddRule(Rule),
    RemoveRule(Rule),
    Sysctl {
        path: &'static str,
        value: &'static str,
    },
    /// Makes the tunnel device.
    Attach,
    Mtu(u16),
    Up,
    AddAddress(IpNet),
    RemoveAddress(IpNet),
    /// Makes the VXLAN device and its entries like this, or takes it away.
    Vxlan(Option<Vxlan>),
    /// Tells the data path whom it speaks to, and which prefixes nobody else may send from.
    Peers(Peers),
}

impl Plan {
    /// What to do, in order. Empty if nothing differs.
    pub fn changes_from(&self, actual: &Actual) -> Vec<Change> {
        let mut changes = self.guard_grows(actual);
        changes.extend(self.switches(actual));
        if self.takes_part() {
            changes.extend(self.device(actual));
        }
        changes.extend(self.traffic(actual));
        changes.extend(self.guard_shrinks(actual));
        changes
    }

    fn guard_routes(&self) -> BTreeSet<Route> {
        let unreachable = |prefix: &IpNet| Route { prefix: *prefix, target: Target::Unreachable };
        self.guard.ranges.iter().map(unreachable).collect()
    }

    fn guard_grows(&self, actual: &Actual) -> Vec<Change> {
        let missing = self.guard_routes().into_iter().filter(|r| !actual.routes.contains(r));
        let mut changes: Vec<_> = missing.map(Change::AddRoute).collect();
        let between = self.guard_between(actual);
        changes.extend(barred::grows(self, actual, &between));
        if actual.table.as_ref() != Some(&between) {
            changes.push(Change::Table(between));
        }
        changes
    }

    fn guard_between(&self, actual: &Actual) -> Guard {
        match &actual.table {
            Some(installed) => self.guard.joined(installed),
            None => self.guard.clone(),
        }
    }

    fn guard_shrinks(&self, actual: &Actual) -> Vec<Change> {
        let wanted = self.guard_routes();
        let unwanted = |r: &&Route| r.target == Target::Unreachable && !wanted.contains(*r);
        let mut changes = Vec::new();
        if actual.table.as_ref().is_some_and(|table| self.guard.joined(table) != self.guard) {
            changes.push(Change::Table(self.guard.clone()));
        }
        changes.extend(barred::shrinks(self, actual, &self.guard_between(actual)));
        let stale = actual.routes.iter().filter(unwanted).cloned();
        changes.extend(stale.map(Change::RemoveRoute));
        changes
    }

    fn switches(&self, actual: &Actual) -> Vec<Change> {
        let differs = |(path, value): &(&&'static str, &&'static str)| {
            actual.sysctls.get(**path).map(String::as_str) != Some(**value)
        };
        let wanted = self.sysctls.iter().filter(differs);
        wanted.map(|(path, value)| Change::Sysctl { path, value }).collect()
    }

    fn device(&self, actual: &Actual) -> Vec<Change> {
        let mut changes = Vec::new();
        let device = actual.device.as_ref();
        if device.is_none_or(|device| !device.attached) {
            changes.push(Change::Attach);
        }
        if device.is_none_or(|device| device.mtu != self.mtu) {
            changes.push(Change::Mtu(self.mtu));
        }
        if device.is_none_or(|device| !device.up) {
            changes.push(Change::Up);
        }
        changes
    }

    /// A route's source is always among the plan's addresses, so a route whose source leaves is
    /// stale, and gone before its address. One whose place another takes is replaced by it: no
    /// packet finds none. A device that carried goes when nothing leads to it any more.
    fn traffic(&self, actual: &Actual) -> Vec<Change> {
        let has = actual.device.as_ref().map(|d| d.addresses.clone()).unwrap_or_default();
        let stale = actual.routes.iter().filter(|route| self.is_stale(route)).cloned();
        let mut changes: Vec<_> = stale.map(Change::RemoveRoute).collect();
        changes.extend(has.difference(&self.addresses).copied().map(Change::RemoveAddress));
        changes.extend(self.addresses.difference(&has).copied().map(Change::AddAddress));
        if self.vxlan.is_some() && self.vxlan != actual.vxlan {
            changes.push(Change::Vxlan(self.vxlan.clone()));
        }
        if self.peers != actual.peers {
            changes.push(Change::Peers(self.peers.clone()));
        }
        changes.extend(self.routes.difference(&actual.routes).cloned().map(Change::AddRoute));
        changes.extend(self.rules.difference(&actual.rules).copied().map(Change::AddRule));
        changes.extend(actual.rules.difference(&self.rules).copied().map(Change::RemoveRule));
        if self.vxlan.is_none() && actual.vxlan.is_some() {
            changes.push(Change::Vxlan(None));
        }
        changes
    }

    fn is_stale(&self, route: &Route) -> bool {
        let source = match &route.target {
            Target::Unreachable => return false,
            Target::Device { source, .. }
            | Target::Via { source, .. }
            | Target::Probe { source, .. } => *source,
            Target::Machine { .. } => None,
        };
        if self.routes.contains(route) {
            return false;
        }
        let first = Route { prefix: route.prefix, target: Target::Unreachable };
        let mut there = self.routes.range(first..).take_while(|r| r.prefix == route.prefix);
        let replaced = there.any(|other| other.table() == route.table());
        let mut own = self.addresses.iter().map(IpNet::addr);
        !replaced || source.is_some_and(|source| own.all(|address| address != source))
    }
}
