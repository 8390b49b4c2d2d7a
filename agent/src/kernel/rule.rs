//! The routing rules of ours: those that send marked packets into tables of their own (pods' packets
//! to other machines, which the table `inet hawser` marks, and this agent's probes, which mark
//! themselves), and the guard's, with the lookup of local addresses that they come before.
//!
//! Told from other people's rules by their mark and table, or by their place and our protocol number.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use futures::TryStreamExt;
use ipnet::IpNet;
use netlink_packet_route::{
    AddressFamily,
    route::RouteProtocol,
    rule::{RuleAction, RuleAttribute, RuleHeader, RuleMessage},
};
use rtnetlink::{Handle, IpVersion};

use super::{KernelError, ROUTE_PROTOCOL, route, sysctl};
use crate::plan::{Barred, Family, LocalLookups, Rule, SideTable};

/// Of the guard's rules: before every lookup.
const BARRED: u32 = 1;
/// Of marked packets': before the main table (32766) and after the local one.
const MARKED: u32 = 7200;
/// RT_TABLE_LOCAL (linux/rtnetlink.h).
const LOCAL_TABLE: u8 = 255;

#[derive(Default)]
pub(super) struct Rules {
    pub(super) marked: BTreeSet<Rule>,
    pub(super) barred: BTreeSet<Barred>,
    pub(super) local: LocalLookups,
}

pub(super) async fn list(handle: &Handle) -> Result<Rules, KernelError> {
    let mut found = Rules::default();
    let families = [(Family::V4, IpVersion::V4), (Family::V6, IpVersion::V6)];
    let here = families.iter().filter(|(family, _)| *family == Family::V4 || sysctl::has_ipv6());
    for (family, version) in here.cloned() {
        let listing = handle.rule().get(version).execute().try_collect::<Vec<_>>().await;
        let rules = listing.map_err(KernelError::netlink("listing routing rules"))?;
        found.marked.extend(rules.iter().filter_map(table).map(|table| Rule { family, table }));
        found.barred.extend(rules.iter().filter_map(|rule| barred(rule, family)));
        found.local.insert(family, rules.iter().filter_map(local).collect());
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

fn barred(rule: &RuleMessage, family: Family) -> Option<Barred> {
    let ours = RuleAttribute::Protocol(RouteProtocol::Other(ROUTE_PROTOCOL));
    if rule.header.action != RuleAction::Blackhole || !rule.attributes.contains(&ours) {
        return None;
    }
    let mut address = match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        Family::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let mut device = None;
    for attribute in &rule.attributes {
        match attribute {
            RuleAttribute::Source(source) => address = *source,
            RuleAttribute::Iifname(name) => device = Some(name.clone()),
            _ => {}
        }
    }
    Some(Barred { source: IpNet::new(address, rule.header.src_len).ok()?, device: device? })
}

/// The place of a rule that looks for local addresses, whatever the packet is.
fn local(rule: &RuleMessage) -> Option<u32> {
    let RuleHeader { table, action, src_len: 0, dst_len: 0, .. } = rule.header else {
        return None;
    };
    if table != LOCAL_TABLE || action != RuleAction::ToTable {
        return None;
    }
    let mut place = 0;
    for attribute in &rule.attributes {
        match attribute {
            RuleAttribute::Priority(number) => place = *number,
            RuleAttribute::Iifname(_) | RuleAttribute::Oifname(_) | RuleAttribute::FwMark(_) => {
                return None;
            }
            _ => {}
        }
    }
    Some(place)
}

/// Has local addresses looked for at the second place instead of the first; there is no moment
/// without.
pub(super) async fn move_local(
    handle: &Handle,
    family: Family,
    (from, to): (u32, u32),
) -> Result<(), KernelError> {
    insert(handle, local_at(family, to)).await?;
    let places = list(handle).await?.local;
    if places.get(&family).is_some_and(|places| places.contains(&from)) {
        delete(handle, local_at(family, from)).await
    } else {
        Ok(())
    }
}

pub(super) async fn bar(handle: &Handle, rule: &Barred) -> Result<(), KernelError> {
    insert(handle, barring(rule)).await
}

pub(super) async fn unbar(handle: &Handle, rule: &Barred) -> Result<(), KernelError> {
    delete(handle, barring(rule)).await
}

pub(super) async fn add(handle: &Handle, rule: Rule) -> Result<(), KernelError> {
    insert(handle, marked(rule)).await
}

pub(super) async fn remove(handle: &Handle, rule: Rule) -> Result<(), KernelError> {
    delete(handle, marked(rule)).await
}

/// A rule that is there already counts as added.
async fn insert(handle: &Handle, rule: RuleMessage) -> Result<(), KernelError> {
    const EEXIST: i32 = 17;
    let mut request = handle.rule().add();
    *request.message_mut() = rule;
    match request.execute().await {
        Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -EEXIST => Ok(()),
        result => result.map_err(KernelError::netlink("adding a routing rule")),
    }
}

/// A rule that is gone already counts as removed.
async fn delete(handle: &Handle, rule: RuleMessage) -> Result<(), KernelError> {
    const ENOENT: i32 = 2;
    match handle.rule().del(rule).execute().await {
        Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -ENOENT => Ok(()),
        result => result.map_err(KernelError::netlink("removing a routing rule")),
    }
}

fn marked(Rule { family, table }: Rule) -> RuleMessage {
    let (value, mask) = table.mark();
    let mut rule = message(family, RuleAction::ToTable, MARKED);
    rule.header.table = route::number(table);
    rule.attributes.extend([RuleAttribute::FwMark(value), RuleAttribute::FwMask(mask)]);
    rule
}

fn barring(Barred { source, device }: &Barred) -> RuleMessage {
    let mut rule = message(Family::of(source), RuleAction::Blackhole, BARRED);
    rule.header.src_len = source.prefix_len();
    rule.attributes.extend([
        RuleAttribute::Source(source.addr()),
        RuleAttribute::Iifname(device.clone()),
        RuleAttribute::Protocol(RouteProtocol::Other(ROUTE_PROTOCOL)),
    ]);
    rule
}

/// Like the kernel's own, so that nobody who clears others' rules away takes it for one.
fn local_at(family: Family, place: u32) -> RuleMessage {
    let mut rule = message(family, RuleAction::ToTable, place);
    rule.header.table = LOCAL_TABLE;
    rule.attributes.push(RuleAttribute::Protocol(RouteProtocol::Kernel));
    rule
}

fn message(family: Family, action: RuleAction, place: u32) -> RuleMessage {
    let family = match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    };
    let mut rule = RuleMessage::default();
    rule.header = RuleHeader { family, action, ..RuleHeader::default() };
    rule.attributes.push(RuleAttribute::Priority(place));
    rule
}
