//! Two machines and a cable, and a third one between them where that is asked for.

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
    lab: Lab,
}

pub(crate) const CABLE: &str = "eth0";
/// To the machine between.
const BETWEEN: &str = "eth1";

impl Machines {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let lab = Lab::new("bench")?;
        let (a, b) = (Machine::new(&lab, "a", 1)?, Machine::new(&lab, "b", 2)?);
        let far = b.namespace.clone();
        a.namespace.netlink(async move |net| net.add_cable(CABLE, CABLE, &far).await)?;
        for machine in [&a, &b] {
            let own = machine.address;
            machine.namespace.netlink(async move |net| {
                net.add_address(CABLE, own, 24).await?;
                net.up(CABLE).await
            })?;
        }
        Ok(Self { a, b, lab })
    }

    /// A third machine with a cable to each of the two: where each of these is on its cable, and where
    /// the third is on the same.
    pub(crate) fn between(&self) -> anyhow::Result<(Machine, [[Ipv4Addr; 2]; 2])> {
        let third = Machine::new(&self.lab, "r", 3)?;
        let mut cables = [[Ipv4Addr::UNSPECIFIED; 2]; 2];
        for (number, end) in (1..).zip([&self.a, &self.b]) {
            let (near, far) = (["eth0", "eth1"][usize::from(number) - 1], third.namespace.clone());
            let [own, other] = [1, 2].map(|host| Ipv4Addr::new(10, 98, number, host));
            end.namespace.netlink(async move |net| {
                net.add_cable(BETWEEN, near, &far).await?;
                net.add_address(BETWEEN, own, 24).await?;
                net.up(BETWEEN).await
            })?;
            third.namespace.netlink(async move |net| {
                net.add_address(near, other, 24).await?;
                net.up(near).await
            })?;
            cables[usize::from(number) - 1] = [own, other];
        }
        Ok((third, cables))
    }
}

impl Machine {
    fn new(lab: &Lab, name: &str, number: u8) -> anyhow::Result<Self> {
        let dir = lab.dir().join(name);
        std::fs::create_dir_all(&dir)?;
        Ok(Self {
            namespace: lab.namespace(name)?,
            address: Ipv4Addr::new(10, 99, 0, number),
            inner: Ipv4Addr::new(10, 77, 0, number),
            dir,
        })
    }

    pub(crate) fn command(&self, program: &str) -> Command {
        self.namespace.command(program, &self.dir)
    }
}
