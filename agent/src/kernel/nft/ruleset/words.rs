//! Objects and expressions of nft's JSON schema, as the rules need them.

use std::{borrow::Cow, collections::HashSet, net::Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};
use nftables::{
    expr::{
        BinaryOperation, CT, Expression, Meta, MetaKey, NamedExpression, Payload, PayloadField,
        Prefix,
    },
    schema::{
        Chain, Counter as NamedCounter, NfListObject, Rule, Set, SetFlag, SetType, SetTypeValue,
        Table,
    },
    stmt::{Counter, JumpTarget, Match, Operator, Statement},
    types::{NfChainPolicy, NfChainType, NfFamily, NfHook},
};

use super::{Elements, MARK, TABLE};

pub(super) type Words = Statement<'static>;

/// fe80::/10 (RFC 4291, section 2.4).
pub(super) const LINK_LOCAL: Ipv6Net =
    Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10);

pub(super) fn tracked(key: &'static str, op: Operator, value: &'static str) -> Words {
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

pub(super) fn fwmark() -> Expression<'static> {
    Expression::Named(NamedExpression::Meta(Meta { key: MetaKey::Mark }))
}

pub(super) fn is_marked() -> Words {
    Statement::Match(Match {
        left: Expression::BinaryOperation(Box::new(BinaryOperation::AND(
            fwmark(),
            Expression::Number(MARK),
        ))),
        right: Expression::Number(0),
        op: Operator::NEQ,
    })
}

pub(super) fn on(key: MetaKey, device: &str) -> Words {
    Statement::Match(Match {
        left: Expression::Named(NamedExpression::Meta(Meta { key })),
        right: Expression::String(device.to_owned().into()),
        op: Operator::EQ,
    })
}

pub(super) fn address(
    protocol: &'static str,
    field: &'static str,
    op: Operator,
    set: String,
) -> Words {
    Statement::Match(Match {
        left: self::field(protocol, field),
        right: Expression::String(set.into()),
        op,
    })
}

pub(super) fn equals(left: Expression<'static>, right: Expression<'static>) -> Words {
    Statement::Match(Match { left, right, op: Operator::EQ })
}

pub(super) fn field(protocol: &'static str, field: &'static str) -> Expression<'static> {
    let payload = PayloadField { protocol: protocol.into(), field: field.into() };
    Expression::Named(NamedExpression::Payload(Payload::PayloadField(payload)))
}

pub(super) fn goto(chain: &'static str) -> Words {
    Statement::Goto(JumpTarget { target: chain.into() })
}

pub(super) fn jump(chain: &'static str) -> Words {
    Statement::Jump(JumpTarget { target: chain.into() })
}

pub(super) fn count(counter: &'static str) -> Words {
    Statement::Counter(Counter::Named(counter.into()))
}

/// A chain that others lead to.
pub(super) fn side_chain(name: &'static str) -> NfListObject<'static> {
    NfListObject::Chain(Chain {
        family: NfFamily::INet,
        table: TABLE.into(),
        name: name.into(),
        ..Chain::default()
    })
}

pub(super) fn table() -> NfListObject<'static> {
    NfListObject::Table(bare())
}

pub(super) fn bare() -> Table<'static> {
    Table { family: NfFamily::INet, name: TABLE.into(), handle: None }
}

pub(super) fn chain(
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

pub(super) fn rule(chain: &'static str, expr: Vec<Words>) -> NfListObject<'static> {
    NfListObject::Rule(Rule {
        family: NfFamily::INet,
        table: TABLE.into(),
        chain: chain.into(),
        expr: expr.into(),
        ..Rule::default()
    })
}

pub(super) fn counter(name: &'static str, packets: u64) -> NfListObject<'static> {
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
pub(super) fn set(name: String, elements: &Elements) -> NfListObject<'static> {
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

pub(super) fn element(net: &IpNet) -> Expression<'static> {
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

pub(super) fn is_v4(net: &IpNet) -> bool {
    net.addr().is_ipv4()
}
