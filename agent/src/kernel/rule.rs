//! The routing rule that sends pods' packets to other machines into the tunnel: they are marked by
//! the table `inet hawser`, and looked up in a table of their own.
//!
//! Told from other people's rules by its mark and table.

use std::collections::BTreeSet;

use futures::TryStreamExt;
use netlink_packet_route::{
    AddressFamily,
    rule::{RuleAction, RuleAttribute, RuleHeader, RuleMessage},
};
use rtnetlink::{Handle, IpVersion};

use super::{KernelError, nft::MARK, route::MACHINES, sysctl};
use crate::plan::Family;

/// Before the main table (32766) and after the local one.
const PRIORITY: u32 = 7200;

pub(super) async fn list(handle: &Handle) -> Result<BTreeSet<Family>, KernelError> {
    let mut found = BTreeSet::new();
    let families = [(Family::V4, IpVersion::V4), (Family::V6, IpVersion::V6)];
    let here = families.iter().filter(|(family, _)| *family == Family::V4 || sysctl::has_ipv6());
    for (family, version) in here.cloned() {
        let listing = handle.rule().get(version).execute().try_collect::<Vec<_>>().await;
        let rules = listing.map_err(KernelError::netlink("listing routing rules"))?;
        if rules.iter().any(is_ours) {
            found.insert(family);
        }
    }
    Ok(found)
}

fn is_ours(rule: &RuleMessage) -> bool {
    let has = |wanted: RuleAttribute| rule.attributes.contains(&wanted);
    rule.header.table == MACHINES
        && has(RuleAttribute::FwMark(MARK))
        && has(RuleAttribute::FwMask(MARK))
}

/// A rule that is there already counts as added.
pub(super) async fn add(handle: &Handle, family: Family) -> Result<(), KernelError> {
    const EEXIST: i32 = 17;
    let mut request = handle.rule().add();
    *request.message_mut() = message(family);
    match request.execute().await {
        Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -EEXIST => Ok(()),
        result => result.map_err(KernelError::netlink("adding the routing rule of pods")),
    }
}

/// A rule that is gone already counts as removed.
pub(super) async fn remove(handle: &Handle, family: Family) -> Result<(), KernelError> {
    const ENOENT: i32 = 2;
    match handle.rule().del(message(family)).execute().await {
        Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -ENOENT => Ok(()),
        result => result.map_err(KernelError::netlink("removing the routing rule of pods")),
    }
}

fn message(family: Family) -> RuleMessage {
    let family = match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    };
    let mut message = RuleMessage::default();
    message.header = RuleHeader {
        family,
        table: MACHINES,
        action: RuleAction::ToTable,
        ..RuleHeader::default()
    };
    message.attributes.extend([
        RuleAttribute::Priority(PRIORITY),
        RuleAttribute::FwMark(MARK),
        RuleAttribute::FwMask(MARK),
    ]);
    message
}
