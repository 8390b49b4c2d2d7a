//! What a namespace holds, to compare before an installation and after an uninstall.

use std::collections::BTreeSet;

use anyhow::Context as _;
use futures::TryStreamExt as _;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::AddressAttribute;
use netlink_packet_route::route::{RouteAttribute, RouteMessage, RouteType};
use rtnetlink::IpVersion;

use crate::lab::{Namespace, Net, Node};

/// Links, addresses, routes, rules and nft tables, one line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Baseline {
    lines: BTreeSet<String>,
}

impl Baseline {
    pub fn of(node: &Node) -> anyhow::Result<Self> {
        let mut lines = kernel(node.namespace())?;
        let rules = node.command("nft").args(["-s", "list", "ruleset"]).stdout()?;
        lines.extend(rules.lines().map(|line| format!("nft {line}")));
        Ok(Self { lines })
    }

    /// What was added (`+`) and what is missing (`-`) in `later`.
    pub fn difference(&self, later: &Self) -> Vec<String> {
        let added = later.lines.difference(&self.lines).map(|line| format!("+ {line}"));
        let missing = self.lines.difference(&later.lines).map(|line| format!("- {line}"));
        added.chain(missing).collect()
    }
}

fn kernel(namespace: &Namespace) -> anyhow::Result<BTreeSet<String>> {
    namespace.netlink(async |net| {
        let mut lines = BTreeSet::new();
        lines.extend(net.devices().await?.into_iter().map(|name| format!("link {name}")));
        addresses(net, &mut lines).await?;
        routes(net, &mut lines).await?;
        rules(net, &mut lines).await?;
        Ok(lines)
    })
}

async fn addresses(net: &Net, lines: &mut BTreeSet<String>) -> anyhow::Result<()> {
    let mut all = net.handle.address().get().execute();
    while let Some(mut address) = all.try_next().await.context("listing addresses")? {
        // times and DAD flags change by themselves
        let changes = |attribute: &AddressAttribute| {
            matches!(attribute, AddressAttribute::CacheInfo(_) | AddressAttribute::Flags(_))
        };
        address.attributes.retain(|attribute| !changes(attribute));
        let header = &address.header;
        lines.insert(format!(
            "address {}/{} {:?}",
            header.index, header.prefix_len, address.attributes
        ));
    }
    Ok(())
}

async fn routes(net: &Net, lines: &mut BTreeSet<String>) -> anyhow::Result<()> {
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut wanted = RouteMessage::default();
        wanted.header.address_family = family;
        let mut all = net.handle.route().get(wanted).execute();
        while let Some(mut route) = all.try_next().await.context("listing routes")? {
            let changes = |attribute: &RouteAttribute| {
                matches!(attribute, RouteAttribute::CacheInfo(_) | RouteAttribute::Expires(_))
            };
            if route.header.kind == RouteType::Anycast {
                continue; // the kernel's, with forwarding, which stays on: others may need it too
            }
            route.attributes.retain(|attribute| !changes(attribute));
            let header = &route.header;
            lines.insert(format!(
                "route {:?} /{} {:?}",
                header.kind, header.destination_prefix_length, route.attributes
            ));
        }
    }
    Ok(())
}

async fn rules(net: &Net, lines: &mut BTreeSet<String>) -> anyhow::Result<()> {
    for family in [IpVersion::V4, IpVersion::V6] {
        let mut all = net.handle.rule().get(family).execute();
        while let Some(rule) = all.try_next().await.context("listing rules")? {
            lines.insert(format!("rule {:?} {:?}", rule.header, rule.attributes));
        }
    }
    Ok(())
}
