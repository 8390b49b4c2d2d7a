//! The rules of a guard, chain by chain.
//!
//! ```text
//! ingress (prerouting, raw)    pod's device ─▶ from_pods      addressed from or to the mesh ─▶ arrives
//! machines (prerouting, -50)   pod ─▶ another machine: marked
//! source_nat (postrouting)     pod ─▶ outside the mesh, and not behind this node: masqueraded
//! egress (postrouting, last)   addressed from or to the mesh ─▶ leaves     marked ─▶ marked
//! ```
//! A packet that has nothing to do with the mesh meets one comparison for each end of each range, and
//! no list of devices: with a backend in clear each packet crosses these hooks twice, and the second
//! time as the outer one. Masks written into a rule take the kernel a fifth of the time of a set.
//! Masquerading, and marking what pods send, have the kernel track every connection of the node, so
//! that is there only where pods are; a node's first pod is not started before.

use std::collections::BTreeSet;

use cni::POD_DEVICE_PREFIX;
use ipnet::IpNet;
use nftables::{
    batch::Batch,
    expr::{BinaryOperation, Expression, Fib, FibFlag, FibResult, MetaKey, NamedExpression},
    schema::NfListObject,
    stmt::{Mangle, Match, Operator, Statement},
    types::{NfChainType, NfHook},
};

use super::{
    FORGED, INTO, MARK, OUT, Turned, of_family,
    words::{
        LINK_LOCAL, address, chain, count, element, equals, field, fwmark, goto, is_marked, is_v4,
        jump, on, rule, side_chain, tracked,
    },
};

const INGRESS: &str = "ingress";
const FROM_PODS: &str = "from_pods";
const ARRIVES: &str = "arrives";
const EGRESS: &str = "egress";
const LEAVES: &str = "leaves";
const MARKED: &str = "marked";
const MACHINES: &str = "machines";
const SOURCE_NAT: &str = cni::SOURCE_NAT_CHAIN;

/// Before connection tracking, so nothing from the mesh is ever tracked on a foreign device.
const RAW: i32 = -300;
/// After destinations have been rewritten (-100), before routing.
const REWRITTEN: i32 = -50;
const SRCNAT: i32 = 100;
/// After masquerading, so a pod's packet to the world has the node's address by now.
const LAST: i32 = 300;

/// Ranges of a family that are compared one by one; where there are more, a set is asked.
const FEW: usize = 4;

type Rules = Batch<'static>;

pub(super) fn fill(batch: &mut Rules, turned: Turned<'_>) {
    for name in [ARRIVES, LEAVES] {
        batch.add(side_chain(name));
    }
    batch.add(chain(INGRESS, NfChainType::Filter, NfHook::Prerouting, RAW));
    for (chain, _) in at_times(turned).into_iter().filter(|(_, stands)| *stands) {
        batch.add(chain);
    }
    if turned.has_pods() {
        pods_are_who_they_say(batch, turned);
        masquerade(batch, turned);
    }
    judge_the_meshs(batch, INGRESS, ARRIVES, turned);
    on_its_way(batch, ARRIVES, MetaKey::Iifname, turned);
    batch.add(chain(EGRESS, NfChainType::Filter, NfHook::Postrouting, LAST));
    judge_the_meshs(batch, EGRESS, LEAVES, turned);
    on_its_way(batch, LEAVES, MetaKey::Oifname, turned);
    if turned.marks() {
        mark(batch, turned);
        marked_is_lost(batch, turned);
    }
}

/// The chains that stand only where pods are, or a gateway is, and whether they do.
pub(super) fn at_times(turned: Turned<'_>) -> [(NfListObject<'static>, bool); 4] {
    let (pods, marks) = (turned.has_pods(), turned.marks());
    [
        (side_chain(FROM_PODS), pods),
        (side_chain(MARKED), marks),
        (chain(MACHINES, NfChainType::Filter, NfHook::Prerouting, REWRITTEN), marks),
        // A keyword of nft as a name could not be read back from a saved ruleset.
        (chain(SOURCE_NAT, NfChainType::NAT, NfHook::Postrouting, SRCNAT), pods),
    ]
}

/// A pod sends from an address that is routed to its device, in both families: IPv6 has no
/// rp_filter. Neighbour discovery and multicast reports come from link-local addresses or none.
/// The route is asked instead of a list, so a pod is judged right from its first packet on, also
/// while no agent runs.
///
/// On a bridge that says which of its pods' addresses may be used, and not by which of them.
fn pods_are_who_they_say(batch: &mut Rules, turned: Turned<'_>) {
    for device in turned.pod_devices() {
        batch.add(rule(INGRESS, vec![on(MetaKey::Iifname, &device), jump(FROM_PODS)]));
    }
    for own_link in [Expression::String("::".into()), element(&LINK_LOCAL.into())] {
        let from = equals(field("ip6", "saddr"), own_link);
        batch.add(rule(FROM_PODS, vec![from, Statement::Return(None)]));
    }
    let back = Fib { result: FibResult::Oif, flags: [FibFlag::Saddr, FibFlag::Iif].into() };
    let elsewhere = Statement::Match(Match {
        left: Expression::Named(NamedExpression::Fib(back)),
        right: Expression::Number(0),
        op: Operator::EQ,
    });
    batch.add(rule(FROM_PODS, vec![elsewhere, count(FORGED), Statement::Drop(None)]));
}

/// Whatever has an address of the mesh at either end is judged in `judge`.
fn judge_the_meshs(batch: &mut Rules, name: &'static str, judge: &'static str, turned: Turned<'_>) {
    for (protocol, v4, set) in [("ip", true, "@mesh4"), ("ip6", false, "@mesh6")] {
        let ranges = each_or_set(&turned.guard.ranges, v4, turned.turn.name(set));
        for range in ranges {
            for end in ["saddr", "daddr"] {
                let there = equals(field(protocol, end), range.clone());
                batch.add(rule(name, vec![there, goto(judge)]));
            }
        }
    }
}

/// What a packet's address is compared with: a few ranges of a family, or the set that holds them.
fn each_or_set(nets: &BTreeSet<IpNet>, v4: bool, set: String) -> Vec<Expression<'static>> {
    let ranges = of_family(nets, v4);
    if ranges.len() > FEW {
        return vec![Expression::String(set.into())];
    }
    ranges.iter().map(element).collect()
}

/// Nothing of the mesh on a device that is not ours, but what a backend in clear may carry there.
fn on_its_way(batch: &mut Rules, name: &'static str, device: MetaKey, turned: Turned<'_>) {
    let comes_in = device == MetaKey::Iifname;
    for (at, (plain, open)) in turned.guard.open.iter().enumerate() {
        let (far_end, set, prefixes) =
            if comes_in { ("saddr", "from", &open.from) } else { ("daddr", "to", &open.to) };
        for (protocol, family, v4) in [("ip", 4, true), ("ip6", 6, false)] {
            let permitted = turned.turn.name(&format!("@{set}_{at}_{family}"));
            for net in each_or_set(prefixes, v4, permitted) {
                let far_end = equals(field(protocol, far_end), net);
                batch.add(rule(name, vec![on(device, plain), far_end, Statement::Accept(None)]));
            }
        }
    }
    accept_on_ours(batch, name, device, turned);
    let counter = if comes_in { INTO } else { OUT };
    batch.add(rule(name, vec![count(counter), Statement::Drop(None)]));
}

fn accept_on_ours(batch: &mut Rules, name: &'static str, device: MetaKey, turned: Turned<'_>) {
    let tun = [turned.guard.tun.clone()].into_iter();
    for ours in tun.chain(turned.pod_devices()).chain(["lo".to_owned()]) {
        batch.add(rule(name, vec![on(device, &ours), Statement::Accept(None)]));
    }
}

/// Pods' packets to other machines, and those that a gateway hands on. Not the answers of a pod that was reached by a machine's port:
/// they go back the way the question came.
fn mark(batch: &mut Rules, turned: Turned<'_>) {
    if turned.guard.forwards {
        mark_from(batch, &turned.guard.tun, turned);
    }
    let devices = if turned.has_pods() { turned.pod_devices() } else { Vec::new() };
    for device in devices {
        let from_pod = on(MetaKey::Iifname, &device);
        let answer = tracked("direction", Operator::EQ, "reply");
        let of_a_port = tracked("status", Operator::IN, "dnat");
        batch.add(rule(MACHINES, vec![from_pod, answer, of_a_port, Statement::Accept(None)]));
        mark_from(batch, &device, turned);
    }
}

fn mark_from(batch: &mut Rules, device: &str, turned: Turned<'_>) {
    for (protocol, machines) in [("ip", "@machines4"), ("ip6", "@machines6")] {
        let there = address(protocol, "daddr", Operator::EQ, turned.turn.name(machines));
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
fn marked_is_lost(batch: &mut Rules, turned: Turned<'_>) {
    batch.add(rule(EGRESS, vec![is_marked(), goto(MARKED)]));
    accept_on_ours(batch, MARKED, MetaKey::Oifname, turned);
    for (protocol, machines) in [("ip", "@machines4"), ("ip6", "@machines6")] {
        let there = address(protocol, "daddr", Operator::EQ, turned.turn.name(machines));
        batch.add(rule(MARKED, vec![there, count(OUT), Statement::Drop(None)]));
    }
}

/// Not inside of the mesh, nor to a network behind this node: where no device leads there, the default
/// route would take that outside.
fn masquerade(batch: &mut Rules, turned: Turned<'_>) {
    let Turned { guard, turn } = turned;
    for ours in [guard.tun.clone()].into_iter().chain(turned.pod_devices()) {
        batch.add(rule(SOURCE_NAT, vec![on(MetaKey::Oifname, &ours), Statement::Accept(None)]));
    }
    for (at, (device, open)) in guard.open.iter().enumerate() {
        for (protocol, family, v4) in [("ip", 4, true), ("ip6", 6, false)] {
            let permitted = turn.name(&format!("@to_{at}_{family}"));
            for net in each_or_set(&open.to, v4, permitted) {
                let there = equals(field(protocol, "daddr"), net);
                let known = vec![on(MetaKey::Oifname, device), there, Statement::Accept(None)];
                batch.add(rule(SOURCE_NAT, known));
            }
        }
    }
    if !guard.behind.is_empty() {
        batch.add(rule(SOURCE_NAT, vec![on(MetaKey::Oifname, "lo"), Statement::Accept(None)]));
    }
    for net in &guard.behind {
        let there = equals(field(if is_v4(net) { "ip" } else { "ip6" }, "daddr"), element(net));
        batch.add(rule(SOURCE_NAT, vec![there, count(OUT), Statement::Drop(None)]));
    }
    for (protocol, pods, mesh) in [("ip", "@pods4", "@mesh4"), ("ip6", "@pods6", "@mesh6")] {
        let from = address(protocol, "saddr", Operator::EQ, turn.name(pods));
        let outside = address(protocol, "daddr", Operator::NEQ, turn.name(mesh));
        batch.add(rule(SOURCE_NAT, vec![from, outside, Statement::Masquerade(None)]));
    }
}

impl Turned<'_> {
    /// How packets of pods are told by their device: ours by its name, others' by a set.
    fn pod_devices(&self) -> Vec<String> {
        let ours = format!("{POD_DEVICE_PREFIX}*");
        let others = (!self.guard.devices.is_empty()).then(|| self.turn.name("@devices"));
        [ours].into_iter().chain(others).collect()
    }

    fn has_pods(&self) -> bool {
        !self.guard.masquerade.is_empty()
    }

    /// Pods' packets to machines begin here, or pass.
    fn marks(&self) -> bool {
        self.has_pods() || self.guard.forwards
    }
}
