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
        Payload, PayloadField, Prefix,
    },
    schema::{
        Chain, Counter as NamedCounter, FlushObject, NfCmd, NfListObject, Nftables, Rule, Set,
        SetFlag, SetType, SetTypeValue, Table,
    },
    stmt::{Counter, Mangle, Match, Operator, Statement},
    types::{NfChainPolicy, NfChainType, NfFamily, NfHook},
};

use super::{Blocked, MARK, TABLE};
use crate::plan::Guard;

pub(super) const OUT: &str = "blocked_out";
pub(super) const INTO: &str = "blocked_in";
pub(super) const FORGED: &str = "forged_source";
/// Three devices and four matches in each filter, two families of the mark in one of them and three
/// more for what pods send in the other, two devices and two families to masquerade, two families to
/// mark and what is left unmarked; one in each filter for what may cross a device in clear; and nine
/// for other plugins' pods: what ours have, once more.
pub(super) fn rules(guard: &Guard) -> usize {
    let families = |nets: &BTreeSet<IpNet>| {
        [true, false].iter().filter(|v4| nets.iter().any(|net| is_v4(net) == **v4)).count()
    };
    let open = guard.open.values().map(|open| families(&open.to) + families(&open.from));
    let others = if guard.devices.is_empty() { 0 } else { 3 + 2 + 3 + 1 };
    2 * (3 + 4) + 2 + 3 + 2 + 2 + 3 + open.sum::<usize>() + others
}

/// The set of other plugins' devices.
const DEVICES: &str = "devices";
const INGRESS: &str = "ingress";
const EGRESS: &str = "egress";
const MACHINES: &str = "machines";
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

/// Base chains of every guard.
pub(super) const CHAINS: usize = 4;

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

impl Turned<'_> {
    /// How packets of pods are told by their device: ours by its name, others' by a set.
    fn pod_devices(&self) -> Vec<String> {
        let ours = format!("{POD_DEVICE_PREFIX}*");
        let others = (!self.guard.devices.is_empty()).then(|| self.turn.name("@devices"));
        [ours].into_iter().chain(others).collect()
    }
}

/// Replaces the table as a whole, for where there is none, or not ours; the counters start from
/// `blocked`.
pub(super) fn install(guard: &Guard, blocked: Blocked) -> Nftables<'static> {
    let mut batch = Batch::new();
    batch.add(table());
    batch.delete(table());
    batch.add(table());
    for (name, packets) in [(OUT, blocked.out), (INTO, blocked.into), (FORGED, blocked.forged)] {
        batch.add(counter(name, packets));
    }
    let turned = Turned { guard, turn: Turn::A };
    for (name, elements) in sets(turned) {
        batch.add(set(name, &elements));
    }
    fill(&mut batch, turned);
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
    fill(&mut batch, Turned { guard, turn });
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

fn fill(batch: &mut Batch<'static>, turned: Turned<'_>) {
    mark(batch, turned);
    batch.add(chain(INGRESS, NfChainType::Filter, NfHook::Prerouting, RAW));
    pods_are_who_they_say(batch, turned);
    filter(batch, INGRESS, MetaKey::Iifname, turned);
    masquerade(batch, turned);
    batch.add(chain(EGRESS, NfChainType::Filter, NfHook::Postrouting, LAST));
    filter(batch, EGRESS, MetaKey::Oifname, turned);
    marked_is_lost(batch, turned.turn);
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
            let nets: Vec<IpNet> = nets.iter().filter(|net| is_v4(net) == v4).copied().collect();
            let nets = IpNet::aggregate(&nets).into_iter().collect();
            (turn.name(&format!("{name}{family}")), Elements::Nets(nets))
        })
    };
    let others = (!guard.devices.is_empty()).then(|| Elements::Devices(guard.devices.clone()));
    let others = others.map(|devices| (turn.name(DEVICES), devices));
    named.into_iter().chain(open).flat_map(families).chain(others).collect()
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
///
/// On a bridge that says which of its pods' addresses may be used, and not by which of them.
fn pods_are_who_they_say(batch: &mut Batch<'static>, turned: Turned<'_>) {
    for device in turned.pod_devices() {
        for own_link in [Expression::String("::".into()), element(&LINK_LOCAL.into())] {
            let from = equals(field("ip6", "saddr"), own_link);
            let from_pod = on(MetaKey::Iifname, &device);
            batch.add(rule(INGRESS, vec![from_pod, from, Statement::Accept(None)]));
        }
    }
    let back = Fib { result: FibResult::Oif, flags: [FibFlag::Saddr, FibFlag::Iif].into() };
    let elsewhere = Statement::Match(Match {
        left: Expression::Named(NamedExpression::Fib(back)),
        right: Expression::Number(0),
        op: Operator::EQ,
    });
    let count = Statement::Counter(Counter::Named(FORGED.into()));
    for device in turned.pod_devices() {
        let words = [on(MetaKey::Iifname, &device), elsewhere.clone(), count.clone()];
        batch.add(rule(INGRESS, [&words[..], &[Statement::Drop(None)]].concat()));
    }
}

fn filter(batch: &mut Batch<'static>, name: &'static str, device: MetaKey, turned: Turned<'_>) {
    let Turned { guard, turn } = turned;
    let comes_in = device == MetaKey::Iifname;
    let tun = [guard.tun.clone()].into_iter();
    for ours in tun.chain(turned.pod_devices()).chain(["lo".to_owned()]) {
        batch.add(rule(name, vec![on(device, &ours), Statement::Accept(None)]));
    }
    for (at, (plain, open)) in guard.open.iter().enumerate() {
        let (far_end, set, prefixes) =
            if comes_in { ("saddr", "from", &open.from) } else { ("daddr", "to", &open.to) };
        for (protocol, family, v4) in [("ip", 4, true), ("ip6", 6, false)] {
            if prefixes.iter().any(|net| is_v4(net) == v4) {
                let permitted = turn.name(&format!("@{set}_{at}_{family}"));
                let far_end = address(protocol, far_end, Operator::EQ, permitted);
                batch.add(rule(name, vec![on(device, plain), far_end, Statement::Accept(None)]));
            }
        }
    }
    let counter = if comes_in { INTO } else { OUT };
    for (protocol, mesh) in [("ip", "@mesh4"), ("ip6", "@mesh6")] {
        for field in ["daddr", "saddr"] {
            let count = Statement::Counter(Counter::Named(counter.into()));
            let there = address(protocol, field, Operator::EQ, turn.name(mesh));
            batch.add(rule(name, vec![there, count, Statement::Drop(None)]));
        }
    }
}

/// Pods' packets to other machines. Not the answers of a pod that was reached by a machine's port:
/// they go back the way the question came.
fn mark(batch: &mut Batch<'static>, turned: Turned<'_>) {
    batch.add(chain(MACHINES, NfChainType::Filter, NfHook::Prerouting, REWRITTEN));
    for device in turned.pod_devices() {
        let from_pod = on(MetaKey::Iifname, &device);
        let answer = tracked("direction", Operator::EQ, "reply");
        let of_a_port = tracked("status", Operator::IN, "dnat");
        batch.add(rule(MACHINES, vec![from_pod, answer, of_a_port, Statement::Accept(None)]));
        mark_from(batch, &device, turned.turn);
    }
}

fn mark_from(batch: &mut Batch<'static>, device: &str, turn: Turn) {
    for (protocol, machines) in [("ip", "@machines4"), ("ip6", "@machines6")] {
        let there = address(protocol, "daddr", Operator::EQ, turn.name(machines));
        let marked = Statement::Mangle(Mangle {
            key: fwmark(),
            value: Expression::BinaryOperation(Box::new(BinaryOperation::OR(vec![
                fwmark(),
                Expression::Number(MARK),
            ]))),
        });
        let from_pod = on(MetaKey::Iifname, device);
        batch.add(rule(MACHINES, vec![from_pod, there, marked]));
    }
}

/// What was meant for the tunnel and comes out elsewhere. The kernel's own multicast reports have a
/// random mark (`sk_buff` keeps `reserved_tailroom` in its place), so the mark alone says nothing.
fn marked_is_lost(batch: &mut Batch<'static>, turn: Turn) {
    for (protocol, machines) in [("ip", "@machines4"), ("ip6", "@machines6")] {
        let there = address(protocol, "daddr", Operator::EQ, turn.name(machines));
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

fn masquerade(batch: &mut Batch<'static>, turned: Turned<'_>) {
    const NAME: &str = "source_nat"; // a keyword of nft could not be read back from a saved ruleset
    batch.add(chain(NAME, NfChainType::NAT, NfHook::Postrouting, SRCNAT));
    let Turned { guard, turn } = turned;
    for ours in [guard.tun.clone()].into_iter().chain(turned.pod_devices()) {
        batch.add(rule(NAME, vec![on(MetaKey::Oifname, &ours), Statement::Accept(None)]));
    }
    for (protocol, pods, mesh) in [("ip", "@pods4", "@mesh4"), ("ip6", "@pods6", "@mesh6")] {
        let from = address(protocol, "saddr", Operator::EQ, turn.name(pods));
        let outside = address(protocol, "daddr", Operator::NEQ, turn.name(mesh));
        batch.add(rule(NAME, vec![from, outside, Statement::Masquerade(None)]));
    }
}

fn on(key: MetaKey, device: &str) -> Words {
    Statement::Match(Match {
        left: Expression::Named(NamedExpression::Meta(Meta { key })),
        right: Expression::String(device.to_owned().into()),
        op: Operator::EQ,
    })
}

fn address(protocol: &'static str, field: &'static str, op: Operator, set: String) -> Words {
    Statement::Match(Match {
        left: self::field(protocol, field),
        right: Expression::String(set.into()),
        op,
    })
}

fn equals(left: Expression<'static>, right: Expression<'static>) -> Words {
    Statement::Match(Match { left, right, op: Operator::EQ })
}

fn field(protocol: &'static str, field: &'static str) -> Expression<'static> {
    let payload = PayloadField { protocol: protocol.into(), field: field.into() };
    Expression::Named(NamedExpression::Payload(Payload::PayloadField(payload)))
}

fn table() -> NfListObject<'static> {
    NfListObject::Table(bare())
}

fn bare() -> Table<'static> {
    Table { family: NfFamily::INet, name: TABLE.into(), handle: None }
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

/// The family of one of nets is in its name.
fn set(name: String, elements: &Elements) -> NfListObject<'static> {
    let v6 = name.trim_end_matches(['a', 'b', '_']).ends_with('6');
    let (kind, interval, elements): (_, _, Vec<_>) = match elements {
        Elements::Nets(nets) => {
            let kind = if v6 { SetType::Ipv6Addr } else { SetType::Ipv4Addr };
            (kind, true, nets.iter().map(element).collect())
        }
        Elements::Devices(names) => {
            let name = |name: &String| Expression::String(name.clone().into());
            (SetType::Ifname, false, names.iter().map(name).collect())
        }
    };
    NfListObject::Set(Box::new(Set {
        family: NfFamily::INet,
        table: TABLE.into(),
        name: name.into(),
        set_type: SetTypeValue::Single(kind),
        flags: interval.then(|| HashSet::from([SetFlag::Interval])),
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
