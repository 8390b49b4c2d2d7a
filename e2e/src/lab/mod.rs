//! A laboratory of machines in network namespaces, on one kernel, that cleans up after itself.
//!
//! ```text
//!   lab.switch()                 lab.node("n1")            lab.pod(&n1, "a")
//!   namespace with a bridge ──── namespace, eth0 ───────── empty namespace for the CNI plugin
//!   10.99.1.254 fd99:0:0:1::fe   10.99.1.1 fd99:0:0:1::1
//!        │
//!   lab.nat_router("r") ──── an inner switch, masqueraded
//! ```
//!
//! Nothing is made in the machine's own namespace, so parallel labs cannot collide: namespaces
//! carry the pid and a number, links live inside namespaces. A lab goes away on drop, after a
//! panic, and on SIGINT or SIGTERM; what a killed run left behind is swept by the next one.

mod address;
mod capture;
mod cni;
pub mod cpu;
mod drops;
mod fault;
mod flow;
mod interrupt;
mod link;
mod mounts;
mod namespace;
mod nat;
mod neighbours;
mod node;
mod orphan;
mod ping;
mod process;
mod programs;
mod router;
mod site;
mod stream;
mod sweep;
mod switch;
mod wait;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Context as _;

pub use address::Pair;
pub use capture::{Capture, Seen};
pub use cni::{Cni, CniOutput};
pub use drops::Drops;
pub use flow::{Flow, FlowReport};
pub use interrupt::{exit_code_on_interrupt, wait_for_interrupt};
pub use link::Net;
pub use namespace::Namespace;
pub use nat::{Nat, Outbound};
pub use neighbours::NeighbourRoom;
pub use node::Node;
pub use process::{Command, Process};
pub use programs::{bin_dir, program};
pub use router::NatRouter;
pub use site::{NatPair, Site};
pub use stream::transfer;
pub use sweep::sweep;
pub use switch::Switch;
pub use wait::{eventually, until};

static NEXT: AtomicU32 = AtomicU32::new(1);

/// A set of namespaces and a directory, all named `hw-<pid>-<number><prefix>…`.
pub struct Lab {
    stem: String,
    dir: PathBuf,
    switches: AtomicU32,
    main: Mutex<Option<Switch>>,
}

impl Lab {
    /// Opens a lab; `prefix` shows in the names of its namespaces. Needs root.
    pub fn new(prefix: &str) -> anyhow::Result<Self> {
        anyhow::ensure!(rustix::process::geteuid().is_root(), "a lab needs root: run as root");
        sweep::once();
        interrupt::install();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let stem = format!("hw-{}-{number}{prefix}", std::process::id());
        let dir = std::env::temp_dir().join(&stem);
        std::fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
        interrupt::remember_dir(&dir);
        Ok(Self { stem, dir, switches: AtomicU32::new(1), main: Mutex::new(None) })
    }

    /// The lab's own directory: state, configuration and logs of its machines.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The first switch, made when it is first asked for.
    pub fn switch(&self) -> anyhow::Result<Switch> {
        let mut main = self.main.lock().expect("no panic while a switch is made");
        if let Some(switch) = &*main {
            return Ok(switch.clone());
        }
        let switch = self.another_switch()?;
        *main = Some(switch.clone());
        Ok(switch)
    }

    /// One more switch, with a subnet of its own and no way to the others.
    pub fn another_switch(&self) -> anyhow::Result<Switch> {
        let number = self.switches.fetch_add(1, Ordering::Relaxed);
        let namespace = self.namespace(&format!("sw{number}"))?;
        Switch::new(namespace, number).with_context(|| format!("making switch {number}"))
    }

    /// A machine on the first switch.
    pub fn node(&self, name: &str) -> anyhow::Result<Node> {
        self.node_on(name, &self.switch()?)
    }

    /// A machine on `switch`.
    pub fn node_on(&self, name: &str, switch: &Switch) -> anyhow::Result<Node> {
        let namespace = self.namespace(name)?;
        Node::new(name, namespace, switch, &self.dir)
            .with_context(|| format!("making the machine {name}"))
    }

    /// A router with one leg on `outer` and a switch of its own behind it; ports stay as they are.
    pub fn nat_router(&self, name: &str, outer: &Switch) -> anyhow::Result<NatRouter> {
        self.router(name, outer, Nat::PortKept)
    }

    /// The same, that maps as `nat` says, which may not be [`Nat::None`].
    pub fn router(&self, name: &str, outer: &Switch, nat: Nat) -> anyhow::Result<NatRouter> {
        anyhow::ensure!(nat != Nat::None, "a router without a NAT is none of the lab's");
        let node = self.node_on(name, outer)?;
        let number = self.switches.fetch_add(1, Ordering::Relaxed);
        let inner = self.namespace(&format!("sw{number}"))?;
        NatRouter::new(node, inner, number, nat)
            .with_context(|| format!("making the router {name}"))
    }

    /// An empty namespace for the CNI plugin of `node`, loopback up.
    pub fn pod(&self, node: &Node, name: &str) -> anyhow::Result<Namespace> {
        self.namespace(&format!("{}-{name}", node.name()))
    }

    /// A namespace with nothing in it but loopback.
    pub fn namespace(&self, name: &str) -> anyhow::Result<Namespace> {
        Namespace::new(&format!("{}-{name}", self.stem))
            .with_context(|| format!("making the namespace {name}"))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            process::print_logs(&self.dir);
        }
        interrupt::forget_dir(&self.dir);
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

#[cfg(test)]
mod tests;
