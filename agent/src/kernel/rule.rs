//! The routing rules that send marked packets into tables of their own: pods' packets to other
//! machines, which the table `inet hawser` marks, and this agent's probes, which mark themselves.
//!
//! Told from other people's rules by their mark and table.

use std::collections::BTreeSet;

use futures::TryStreamExt;
use netlink_packet_route::{
    AddressFamily,
    rule::{RuleAction, RuleAttribute, RuleHeader, RuleMessage},
};
use rtnetlink::{Handle, IpVersion};

use super::{KernelError, route, sysctl};
use crate::plan::{Family, Rule, SideTable};

/// Before the main table (32766) and after the local one.
const PRIORITY: u32 = 7200;

pub(super) async fn list(handle: &Handle) -> Result<BTreeSet<Rule>, KernelError> {
    let mut found = BTreeSet::new();
    let families = [(Family::V4, IpVersion::V4), (Family::V6, IpVersion::V6)];
    let here = families.iter().filter(|(family, _)| *family == Family::V4 || sysctl::has_ipv6());
    for (family, version) in here.cloned() {
        let listing = handle.rule().get(version).execute().try_collect::<Vec<_>>().await;
        let rules = listing.map_err(KernelError::netlink("listing routing rules"))?;
        let tables = rules.iter().filter_map(table);
        found.extend(tables.map(|table| Rule { family, table }));
    }
    Ok(found)
}

/// Where a rule of ours leads.
fn table(rule: &RuleMessage) -> Option<SideTable> {
    let table = route::side_table(rule.header.table)?;
    let (value, mask) = table.mark();
    let has = |wanted: RuleAttribute| rule.attributes.contains(&wanted);
    (has(RuleAttribute::FwMark(value)) && has(RuleAttribute::FwMask(mask))).then_some(table)
}

/// A rule that is there already counts as added.
pub(super) async fn add(handle: &Handle, rule: Rule) -> Result<(), KernelError> {
    const EEXIST: i32 = 17;
    let mut request = handle.rule().add();
    *request.message_mut() = message(rule);
    match request.execute().await {
        Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -EEXIST => Ok(()),
        result => result.map_err(KernelError::netlink("adding a routing rule")),
    }
}

/// A rule that is gone already counts as removed.
pub(super) async fn remove(handle: &Handle, rule: Rule) -> Result<(), KernelError> {
    const ENOENT: i32 = 2;
    match handle.rule().del(message(rule)).execute().await {
        Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -ENOENT => Ok(()),
        result => result.map_err(KernelError::netlink("removing a routing rule")),
    }
}

fn message(Rule { family, table }: Rule) -> RuleMessage {
    let family = match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    };
    let (value, mask) = table.mark();
    let mut message = RuleMessage::default();
    message.header = RuleHeader {
        family,
        table: route::number(table),
        action: RuleAction::ToTable,
        ..RuleHeader::default()
    };
    message.attributes.extend([
        RuleAttribute::Priority(PRIORITY),
        RuleAttribute::FwMark(value),
        RuleAttribute::FwMask(mask),
    ]);
    message
}
