//! Machines with a NAT of some kind before them, alone or as a pair with a machine that everybody
//! reaches.
//!
//! ```text
//!   a.node ── a.router ──┐              ┌── b.router ── b.node
//!                      the first switch
//!                         └── public (and whatever else is put on it: a controller)
//! ```

use super::{Lab, Nat, NatRouter, Node};

/// A machine, and the router before it unless its kind is [`Nat::None`].
pub struct Site {
    pub node: Node,
    pub router: Option<NatRouter>,
}

/// Two machines, each with a NAT of its own before it, and one without.
pub struct NatPair {
    pub a: Site,
    pub b: Site,
    pub public: Node,
}

impl Lab {
    /// A machine named `name`, behind a router of its own on the first switch.
    pub fn site(&self, name: &str, nat: Nat) -> anyhow::Result<Site> {
        if nat == Nat::None {
            return Ok(Site { node: self.node(name)?, router: None });
        }
        let router = self.router(&format!("{name}-nat"), &self.switch()?, nat)?;
        let node = self.node_on(name, router.inside())?;
        Ok(Site { node, router: Some(router) })
    }

    /// `a` and `b` behind such routers, and `public`.
    pub fn nat_pair(&self, a: Nat, b: Nat) -> anyhow::Result<NatPair> {
        Ok(NatPair { a: self.site("a", a)?, b: self.site("b", b)?, public: self.node("public")? })
    }
}
