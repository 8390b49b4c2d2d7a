//! Who competes, and how each is put between two machines.

use std::net::IpAddr;

use e2e::lab::{Process, program};

use crate::machines::Machines;
use crate::{nebula, wireguard};

pub(crate) struct Contender {
    pub(crate) name: &'static str,
    needs: &'static [&'static str],
    start: fn(&Machines) -> anyhow::Result<Running>,
}

/// A contender at work: where the far end is reached through it.
pub(crate) struct Running {
    pub(crate) target: IpAddr,
    pub(crate) _processes: Vec<Process>,
}

impl Contender {
    pub(crate) fn is_installed(&self) -> bool {
        self.needs.iter().all(|name| program(name).is_ok())
    }

    /// True of its name and of the first words of it: `hawser` are all of ours.
    pub(crate) fn is_called(&self, name: &str) -> bool {
        let rest = self.name.strip_prefix(name);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    }

    pub(crate) fn start(&self, machines: &Machines) -> anyhow::Result<Running> {
        (self.start)(machines)
    }
}

pub(crate) fn contenders() -> Vec<Contender> {
    let contender = |name, needs, start| Contender { name, needs, start };
    vec![
        // the cable itself: the ceiling
        contender("veth", &[], |machines| {
            Ok(Running { target: machines.b.address.into(), _processes: Vec::new() })
        }),
        contender("vxlan", &[], vxlan),
        // The same on nodes that track connections, as each one does where Services are.
        contender("veth-tracked", &["nft"], |machines| {
            track(machines)?;
            Ok(Running { target: machines.b.address.into(), _processes: Vec::new() })
        }),
        contender("vxlan-tracked", &["nft"], |machines| {
            track(machines)?;
            vxlan(machines)
        }),
        contender("wireguard-go", &["wireguard-go", "wg"], |machines| {
            wireguard::start(machines, "wireguard-go", &["-f"])
        }),
        contender("boringtun-cli", &["boringtun-cli", "wg"], |machines| {
            wireguard::start(machines, "boringtun-cli", &["-f", "--disable-drop-privileges"])
        }),
        contender("gotatun", &["gotatun", "wg"], |machines| {
            wireguard::start(machines, "gotatun", &["-f", "--disable-drop-privileges"])
        }),
        contender("nebula", &["nebula", "nebula-cert"], nebula::start),
        contender("hawser-wireguard-native", &["hawser-agent"], |machines| {
            wireguard::start_hawser(machines, &["--backend", "wireguard", "--engine", "native"])
        }),
        contender("hawser-wireguard-relayed", &["hawser-agent"], wireguard::start_relayed),
        contender("hawser-wireguard-10000-peers", &["hawser-agent"], |machines| {
            wireguard::start_hawser_among(machines, 9_999, &["--engine", "native"])
        }),
        contender("hawser-wireguard-canary", &["hawser-agent"], |machines| {
            wireguard::start_hawser(machines, &["--engine", "native", "--canary", "2"])
        }),
        contender("hawser-wireguard-two-guards", &["hawser-agent", "nft"], |machines| {
            wireguard::start_guarded_twice(machines)
        }),
        contender("hawser-vxlan", &["hawser-agent"], |machines| {
            wireguard::start_plain(machines, "vxlan")
        }),
        contender("hawser-udp", &["hawser-agent"], |machines| {
            wireguard::start_plain(machines, "udp")
        }),
        contender("hawser-direct", &["hawser-agent"], |machines| {
            wireguard::start_plain(machines, "direct")
        }),
        contender("hawser-wireguard-boringtun", &["hawser-agent"], |machines| {
            wireguard::start_hawser(machines, &["--backend", "wireguard", "--engine", "boringtun"])
        }),
    ]
}

/// The kernel's VXLAN, in clear: what a plain overlay costs.
fn vxlan(machines: &Machines) -> anyhow::Result<Running> {
    let ends = [(&machines.a, &machines.b), (&machines.b, &machines.a)];
    for (own, other) in ends {
        let (local, remote, inner) = (own.address, other.address, own.inner);
        own.namespace.netlink(async move |net| {
            net.add_vxlan("vxlan0", local, remote).await?;
            net.add_address("vxlan0", inner, 24).await?;
            net.up("vxlan0").await
        })?;
    }
    Ok(Running { target: machines.b.inner.into(), _processes: Vec::new() })
}

/// One rule that rewrites sources, and none here, has the kernel track every connection.
fn track(machines: &Machines) -> anyhow::Result<()> {
    const TABLE: &str = "add table inet tracked\n\
        add chain inet tracked post { type nat hook postrouting priority 100; }\n\
        add rule inet tracked post ip saddr 192.0.2.1 masquerade\n";
    for machine in [&machines.a, &machines.b] {
        machine.command("nft").args(["--file", "-"]).input(TABLE).stdout()?;
    }
    Ok(())
}
