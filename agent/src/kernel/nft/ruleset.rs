//! The table's rules, as values of nft's own JSON schema.

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashSet},
    net::Ipv6Addr,
};

use cni::POD_DEVICE_PREFIX;
use ipnet::{IpNet, Ipv6Net};
use nftables::{
    batch::Batch,
    expr::{
        BinaryOperation, CT, Expression, Fib, FibFlag, FibResult, Meta, MetaKey, NamedExpression,
        Payload, PayloadField, Prefix, SetItem,
    },
    schema::{
        Chain, Counter as NamedCounter, NfListObject, Nftables, Rule, Set, SetFlag, SetType,
        SetTypeValue, Table,
    },
    stmt::{Counter, Mangle, Match, Operator, Statement},
    types::{NfChainPolicy, NfChainType, NfFamily, NfHook},
};

use super::{Blocked, MARK, TABLE};
use crate::plan::Guard;

pub(super) const OUT: &str = "blocked_out";
pub(super) const INTO: &str = "blocked_in";
pub(super) const FORGED: &str = "forged_source";
/// Three devices and four matches in each filter, two families of the mark in one of them and two
/// more for what pods send in the other, two devices and two families to masquerade, two families to
/// mark and what is left unmarked; and one in each filter for what may cross a device in clear.
pub(super) fn rules(guard: &Guard) -> usize {
    let families = |nets: &BTreeSet<IpNet>| {
        [true, false].iter().filter(|v4| nets.iter().any(|net| is_v4(net) == **v4)).count()
    };
    let open = guard.open.values().map(|open| families(&open.to) + families(&open.from));
    2 * (3 + 4) + 2 + 2 + 2 + 2 + 3 + open.sum::<usize>()
}

const INGRESS: &str = "ingress";
const EGRESS: &str = "egress";
/// fe80::/10 (RFC 4291, section 2.4).
const LINK_LOCAL: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10);
/// Before connection tracking, so nothing from the mesh is ever tracked on a foreign device.
const RAW: i32 = -300;
/// After destinations have been rewritten (-100), before routing.
const REWRITTEN: i32 = -50;
const SRCNAT: i32 = 100;
/// After masquerading, so a pod's packet to the world has the node's address by now.
const LAST: i32 = 300;

type Words = Statement<'static>;

/// Replaces the table as a whole; the counters start from `blocked`.
pub(super) fn install(guard: &Guard, blocked: Blocked) -> Nftables<'static> {
    let mut batch = Batch::new();
    batch.add(table());
    batch.delete(table());
    batch.add(table());
    for (name, packets) in [(OUT, blocked.out), (INTO, blocked.into), (FORGED, blocked.forged)] {
        batch.add(counter(name, packets));
    }
    batch.add(set("mesh4", SetType::Ipv4Addr, guard.ranges.iter().filter(|net| is_v4(net))));
    batch.add(set("mesh6", SetType::Ipv6Addr, guard.ranges.iter().filter(|net| !is_v4(net))));
    batch.add(set("pods4", SetType::Ipv4Addr, guard.masquerade.iter().filter(|net| is_v4(net))));
    batch.add(set("pods6", SetType::Ipv6Addr, guard.masquerade.iter().filter(|net| !is_v4(net))));
    for (name, kind, v4) in
        [("machines4", SetType::Ipv4Addr, true), ("machines6", SetType::Ipv6Addr, false)]
    {
        batch.add(set(name, kind, guard.machines.iter().filter(|net| is_v4(net) == v4)));
    }
    mark(&mut batch);
    batch.add(chain(INGRESS, NfChainType::Filter, NfHook::Prerouting, RAW));
    pods_are_who_they_say(&mut batch);
    filter(&mut batch, INGRESS, MetaKey::Iifname, (guard, INTO));
    masquerade(&mut batch, guard);
    batch.add(chain(EGRESS, NfChainType::Filter, NfHook::Postrouting, LAST));
    filter(&mut batch, EGRESS, MetaKey::Oifname, (guard, OUT));
    marked_is_lost(&mut batch);
    batch.to_nftables()
}

/// Removes the table, also if it isn't there.
pub(super) fn remove() -> Nftables<'static> {
    let mut batch = Batch::new();
    batch.add(table());
    batch.delete(table());
    batch.to_nftables()
}

/// A pod sends from an address that is routed to its device, in both families: IPv6 has no
/// rp_filter. Neighbour discovery and multicast reports come from link-local addresses or none.
/// The route is asked instead of a list, so a pod is judged right from its first packet on, also
/// while no agent runs.
fn pods_are_who_they_say(batch: &mut Batch<'static>) {
    let from_pod = || on(MetaKey::Iifname, &pod_devices());
    let nobody = Expression::String("::".into());
    let own_link = among(field("ip6", "saddr"), [nobody, element(&LINK_LOCAL.into())]);
    batch.add(rule(INGRESS, vec![from_pod(), own_link, Statement::Accept(None)]));
    let back = Fib { result: FibResult::Oif, flags: [FibFlag::Saddr, FibFlag::Iif].into() };
    let elsewhere = Statement::Match(Match {
        left: Expression::Named(NamedExpression::Fib(back)),
        right: Expression::Number(0),
        op: Operator::EQ,
    });
    let count = Statement::Counter(Counter::Named(FORGED.into()));
    batch.add(rule(INGRESS, vec![from_pod(), elsewhere, count, Statement::Drop(None)]));
}

fn filter(
    batch: &mut Batch<'static>,
    name: &'static str,
    device: MetaKey,
    (guard, counter): (&Guard, &'static str),
) {
    for ours in [&guard.tun, &pod_devices(), "lo"] {
        batch.add(rule(name, vec![on(device, ours), Statement::Accept(None)]));
    }
    for (plain, open) in &guard.open {
        let (far_end, prefixes) =
            if device == MetaKey::Iifname { ("saddr", &open.from) } else { ("daddr", &open.to) };
        for (protocol, v4) in [("ip", true), ("ip6", false)] {
            let permitted: Vec<_> = prefixes.iter().filter(|net| is_v4(net) == v4).collect();
            if !permitted.is_empty() {
                let far_end = among(field(protocol, far_end), permitted.into_iter().map(element));
                batch.add(rule(name, vec![on(device, plain), far_end, Statement::Accept(None)]));
            }
        }
    }
    for (protocol, mesh) in [("ip", "@mesh4"), ("ip6", "@mesh6")] {
        for field in ["daddr", "saddr"] {
            let count = Statement::Counter(Counter::Named(counter.into()));
            let drop = Statement::Drop(None);
            batch.add(rule(name, vec![address(protocol, field, Operator::EQ, mesh), count, drop]));
        }
    }
}

/// Pods' packets to other machines. Not the answers of a pod that was reached by a machine's port:
/// they go back the way the question came.
fn mark(batch: &mut Batch<'static>) {
    const NAME: &str = "machines";
    batch.add(chain(NAME, NfChainType::Filter, NfHook::Prerouting, REWRITTEN));
    let from_pod = || on(MetaKey::Iifname, &pod_devices());
    let answer = tracked("direction", Operator::EQ, "reply");
    let of_a_port = tracked("status", Operator::IN, "dnat");
    batch.add(rule(NAME, vec![from_pod(), answer, of_a_port, Statement::Accept(None)]));
    for (protocol, machines) in [("ip", "@machines4"), ("ip6", "@machines6")] {
        let there = address(protocol, "daddr", Operator::EQ, machines);
        let marked = Statement::Mangle(Mangle {
            key: fwmark(),
            value: Expression::BinaryOperation(Box::new(BinaryOperation::OR(vec![
                fwmark(),
                Expression::Number(MARK),
            ]))),
        });
        batch.add(rule(NAME, vec![from_pod(), there, marked]));
    }
}

/// What was meant for the tunnel and comes out elsewhere. The kernel's own multicast reports have a
/// random mark (`sk_buff` keeps `reserved_tailroom` in its place), so the mark alone says nothing.
fn marked_is_lost(batch: &mut Batch<'static>) {
    for (protocol, machines) in [("ip", "@machines4"), ("ip6", "@machines6")] {
        let there = address(protocol, "daddr", Operator::EQ, machines);
        let count = Statement::Counter(Counter::Named(OUT.into()));
        batch.add(rule(EGRESS, vec![there, is_marked(), count, Statement::Drop(None)]));
    }
}

fn tracked(key: &'static str, op: Operator, value: &'static str) -> Words {
    Statement::Match(Match {
        left: Expression::Named(NamedExpression::CT(CT {
            key: key.into(),
            family: None,
            dir: None,
        })),
        right: Expression::String(value.into()),
        op,
    })
}

fn fwmark() -> Expression<'static> {
    Expression::Named(NamedExpression::Meta(Meta { key: MetaKey::Mark }))
}

fn is_marked() -> Words {
    Statement::Match(Match {
        left: Expression::BinaryOperation(Box::new(BinaryOperation::AND(
            fwmark(),
            Expression::Number(MARK),
        ))),
        right: Expression::Number(0),
        op: Operator::NEQ,
    })
}

fn masquerade(batch: &mut Batch<'static>, guard: &Guard) {
    const NAME: &str = "source_nat"; // a keyword of nft could not be read back from a saved ruleset
    batch.add(chain(NAME, NfChainType::NAT, NfHook::Postrouting, SRCNAT));
    for ours in [&guard.tun, &pod_devices()] {
        batch.add(rule(NAME, vec![on(MetaKey::Oifname, ours), Statement::Accept(None)]));
    }
    for (protocol, pods, mesh) in [("ip", "@pods4", "@mesh4"), ("ip6", "@pods6", "@mesh6")] {
        let from = address(protocol, "saddr", Operator::EQ, pods);
        let outside = address(protocol, "daddr", Operator::NEQ, mesh);
        batch.add(rule(NAME, vec![from, outside, Statement::Masquerade(None)]));
    }
}

fn pod_devices() -> String {
    format!("{POD_DEVICE_PREFIX}*")
}

fn on(key: MetaKey, device: &str) -> Words {
    Statement::Match(Match {
        left: Expression::Named(NamedExpression::Meta(Meta { key })),
        right: Expression::String(device.to_owned().into()),
        op: Operator::EQ,
    })
}

fn address(protocol: &'static str, field: &'static str, op: Operator, set: &'static str) -> Words {
    Statement::Match(Match {
        left: self::field(protocol, field),
        right: Expression::String(set.into()),
        op,
    })
}

fn among(
    left: Expression<'static>,
    elements: impl IntoIterator<Item = Expression<'static>>,
) -> Words {
    let set = elements.into_iter().map(SetItem::Element).collect();
    let right = Expression::Named(NamedExpression::Set(set));
    Statement::Match(Match { left, right, op: Operator::EQ })
}

fn field(protocol: &'static str, field: &'static str) -> Expression<'static> {
    let payload = PayloadField { protocol: protocol.into(), field: field.into() };
    Expression::Named(NamedExpression::Payload(Payload::PayloadField(payload)))
}

fn table() -> NfListObject<'static> {
    NfListObject::Table(Table { family: NfFamily::INet, name: TABLE.into(), handle: None })
}

fn chain(
    name: &'static str,
    kind: NfChainType,
    hook: NfHook,
    priority: i32,
) -> NfListObject<'static> {
    NfListObject::Chain(Chain {
        family: NfFamily::INet,
        table: TABLE.into(),
        name: name.into(),
        _type: Some(kind),
        hook: Some(hook),
        prio: Some(priority),
        policy: Some(NfChainPolicy::Accept),
        ..Chain::default()
    })
}

fn rule(chain: &'static str, expr: Vec<Words>) -> NfListObject<'static> {
    NfListObject::Rule(Rule {
        family: NfFamily::INet,
        table: TABLE.into(),
        chain: chain.into(),
        expr: expr.into(),
        ..Rule::default()
    })
}

fn counter(name: &'static str, packets: u64) -> NfListObject<'static> {
    NfListObject::Counter(NamedCounter {
        family: NfFamily::INet,
        table: TABLE.into(),
        name: name.into(),
        handle: None,
        packets: Some(u32::try_from(packets).unwrap_or(u32::MAX)),
        bytes: Some(0),
    })
}

fn set<'a>(
    name: &'static str,
    kind: SetType,
    nets: impl Iterator<Item = &'a IpNet>,
) -> NfListObject<'static> {
    let elements: Vec<_> = nets.map(element).collect();
    NfListObject::Set(Box::new(Set {
        family: NfFamily::INet,
        table: TABLE.into(),
        name: name.into(),
        set_type: SetTypeValue::Single(kind),
        flags: Some(HashSet::from([SetFlag::Interval])),
        elem: (!elements.is_empty()).then(|| Cow::Owned(elements)),
        ..Set::default()
    }))
}

fn element(net: &IpNet) -> Expression<'static> {
    let address = Expression::String(net.addr().to_string().into());
    let longest = net.prefix_len() == net.max_prefix_len();
    if longest {
        return address;
    }
    Expression::Named(NamedExpression::Prefix(Prefix {
        addr: Box::new(address),
        len: u32::from(net.prefix_len()),
    }))
}

fn is_v4(net: &IpNet) -> bool {
    net.addr().is_ipv4()
}
