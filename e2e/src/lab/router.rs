//! A NAT router: what is behind it reaches the outside, and is seen as the router.

use std::time::Duration;

use anyhow::Context as _;

use super::nat::{INNER, Nat, Outbound, Rules};
use super::{Namespace, Node, Switch};

/// For how long a router keeps a UDP mapping that nothing uses, unless told otherwise.
const FORGETS: Duration = Duration::from_secs(30);

pub struct NatRouter {
    node: Node,
    inner: Switch,
    rules: Rules,
}

impl NatRouter {
    pub(super) fn new(node: Node, inner: Namespace, number: u32, nat: Nat) -> anyhow::Result<Self> {
        let inner = Switch::bare(inner, number)?;
        inner.plug_gateway(node.namespace(), INNER)?;
        node.namespace().sysctl("net/ipv4/ip_forward", "1")?;
        node.namespace().sysctl("net/ipv6/conf/all/forwarding", "1")?;
        let rules = Rules {
            nat,
            hairpin: false,
            outbound: Outbound::Everything,
            rebinds: 0,
            outside: node.address(),
            inner: number,
        };
        let router = Self { node, inner, rules };
        router.load()?;
        router.forget_after(FORGETS)?;
        Ok(router)
    }

    /// The switch behind the router: give it to `Lab::node_on`.
    pub fn inside(&self) -> &Switch {
        &self.inner
    }

    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Whether machines behind it reach each other by their outside addresses. Only the kinds with one
    /// mapping for everybody can.
    pub fn hairpin(&mut self, hairpin: bool) -> anyhow::Result<()> {
        self.rules.hairpin = hairpin;
        self.load()
    }

    /// What it lets out from now on, of flows under way too.
    pub fn let_out(&mut self, outbound: Outbound) -> anyhow::Result<()> {
        self.rules.outbound = outbound;
        self.load()
    }

    /// For how long it keeps a UDP mapping that nothing uses.
    pub fn forget_after(&self, idle: Duration) -> anyhow::Result<()> {
        for timeout in ["nf_conntrack_udp_timeout", "nf_conntrack_udp_timeout_stream"] {
            let key = format!("net/netfilter/{timeout}");
            self.node.namespace().sysctl(&key, &idle.as_secs().to_string())?;
        }
        Ok(())
    }

    /// Forgets all mappings, as after a restart: the next are others.
    pub fn rebind(&mut self) -> anyhow::Result<()> {
        self.rules.rebinds += 1;
        self.load()?;
        let flush = self.node.command("conntrack").arg("-F");
        flush.stdout().map(drop).context("forgetting the mappings")
    }

    fn load(&self) -> anyhow::Result<()> {
        let load = self.node.command("nft").args(["-f", "-"]).input(self.rules.text());
        load.stdout().map(drop).with_context(|| format!("loading the rules of {:?}", self.rules))
    }
}
