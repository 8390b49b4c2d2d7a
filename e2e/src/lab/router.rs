//! A NAT router: what is behind it reaches the outside, and is seen as the router.

use std::borrow::Cow;

use anyhow::Context as _;
use nftables::batch::Batch;
use nftables::expr::{Expression, Meta, MetaKey};
use nftables::schema::{Chain, NfListObject, Rule, Table};
use nftables::stmt::{Match, Operator, Statement};
use nftables::types::{NfChainType, NfFamily, NfHook};

use super::node::DEVICE;
use super::{Namespace, Node, Switch};

pub struct NatRouter {
    node: Node,
    inner: Switch,
}

impl NatRouter {
    pub(super) fn new(node: Node, inner: Namespace, number: u32) -> anyhow::Result<Self> {
        let inner = Switch::bare(inner, number)?;
        inner.plug_gateway(node.namespace(), "lan")?;
        node.namespace().sysctl("net/ipv4/ip_forward", "1")?;
        node.namespace().sysctl("net/ipv6/conf/all/forwarding", "1")?;
        node.namespace().run(masquerade).context("masquerading")?;
        Ok(Self { node, inner })
    }

    /// The switch behind the router: give it to `Lab::node_on`.
    pub fn inside(&self) -> &Switch {
        &self.inner
    }

    pub fn node(&self) -> &Node {
        &self.node
    }
}

fn masquerade() -> anyhow::Result<()> {
    let name = Cow::Borrowed("lab-nat");
    let chain = Cow::Borrowed("postrouting");
    let mut batch = Batch::new();
    batch.add(NfListObject::Table(Table {
        family: NfFamily::INet,
        name: name.clone(),
        ..Table::default()
    }));
    batch.add(NfListObject::Chain(Chain {
        family: NfFamily::INet,
        table: name.clone(),
        name: chain.clone(),
        _type: Some(NfChainType::NAT),
        hook: Some(NfHook::Postrouting),
        prio: Some(100),
        ..Chain::default()
    }));
    let leaves = Match {
        left: Expression::Named(nftables::expr::NamedExpression::Meta(Meta {
            key: MetaKey::Oifname,
        })),
        right: Expression::String(DEVICE.into()),
        op: Operator::EQ,
    };
    batch.add(NfListObject::Rule(Rule {
        family: NfFamily::INet,
        table: name,
        chain,
        expr: vec![Statement::Match(leaves), Statement::Masquerade(None)].into(),
        ..Rule::default()
    }));
    nftables::helper::apply_ruleset(&batch.to_nftables()).context("loading the nft table")
}
