//! Two machines and a cable.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use e2e::lab::{Command, Lab, Namespace};

pub(crate) struct Machine {
    pub(crate) namespace: Namespace,
    /// On the cable.
    pub(crate) address: Ipv4Addr,
    /// Inside the contender's network, where it does not choose by itself.
    pub(crate) inner: Ipv4Addr,
    pub(crate) dir: PathBuf,
}

pub(crate) struct Machines {
    pub(crate) a: Machine,
    pub(crate) b: Machine,
    _lab: Lab,
}

pub(crate) const CABLE: &str = "eth0";

impl Machines {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let lab = Lab::new("bench")?;
        let machine = |name: &str, number| -> anyhow::Result<Machine> {
            let dir = lab.dir().join(name);
            std::fs::create_dir_all(&dir)?;
            Ok(Machine {
                namespace: lab.namespace(name)?,
                address: Ipv4Addr::new(10, 99, 0, number),
                inner: Ipv4Addr::new(10, 77, 0, number),
                dir,
            })
        };
        let (a, b) = (machine("a", 1)?, machine("b", 2)?);
        let far = b.namespace.clone();
        a.namespace.netlink(async move |net| net.add_cable(CABLE, CABLE, &far).await)?;
        for machine in [&a, &b] {
            let own = machine.address;
            machine.namespace.netlink(async move |net| {
                net.add_address(CABLE, own, 24).await?;
                net.up(CABLE).await
            })?;
        }
        Ok(Self { a, b, _lab: lab })
    }
}

impl Machine {
    pub(crate) fn command(&self, program: &str) -> Command {
        self.namespace.command(program, &self.dir)
    }
}
