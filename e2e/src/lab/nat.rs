//! How a NAT router maps and filters, as nft rules: pure text, so that each kind is read in one place.
//!
//! ```text
//!   inside 51820 ──▶ kept            51820 while nobody else has it        PortKept
//!                ──▶ per machine     40001, to whomever it sends           EndpointIndependent, FullCone
//!                ──▶ per flow        by chance, another for each receiver  Symmetric
//! ```
//! Whoever was not sent to gets nothing in (filtering by address and port), but with `FullCone`,
//! where a mapping that is in use lets everybody in. Both families are mapped alike.

use super::Pair;
use super::node::DEVICE;

/// The router's inner device.
pub(super) const INNER: &str = "lan";
/// The agent's port, whose mappings have a kind; others keep theirs.
const PORT: u16 = 51820;
/// Machines behind a router that have mappings of their own.
const HOSTS: u16 = 8;
const FIRST: u16 = 40_000;
/// Between the ports before and after a router forgot its mappings.
const STEP: u16 = 100;

/// What a machine's datagrams look like outside (RFC 4787 names them).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nat {
    /// There is no router.
    None,
    /// The source port stays as it is.
    PortKept,
    /// Another port, the same towards everybody.
    EndpointIndependent,
    /// The same, and everybody may answer (endpoint-independent filtering).
    FullCone,
    /// Another port, by chance, for each receiver: address-and-port-dependent mapping.
    Symmetric,
}

/// What a router lets out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outbound {
    Everything,
    NoUdp,
    /// TCP to one port, and nothing else.
    OnlyTcp(u16),
}

/// Everything that a router's rules depend on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) nat: Nat,
    /// Machines behind it reach each other by their outside addresses.
    pub(super) hairpin: bool,
    pub(super) outbound: Outbound,
    /// How often the router forgot its mappings.
    pub(super) rebinds: u16,
    pub(super) outside: Pair,
    /// The number of the inner switch.
    pub(super) inner: u32,
}

impl Rules {
    /// For `nft -f -`, in the place of what was there.
    pub(super) fn text(&self) -> String {
        let [arrive, leave] = self.mapped();
        let random = if self.nat == Nat::Symmetric { "fully-random" } else { "" };
        let (first, last) = (self.port(1), self.port(HOSTS));
        let drops = self.drops();
        format!(
            "table inet lab-nat
delete table inet lab-nat
table inet lab-nat {{
set open {{ type inet_service; flags dynamic,timeout; size 64; timeout 30s; }}
chain arrive {{ type nat hook prerouting priority dstnat;
{arrive} }}
chain leave {{ type nat hook postrouting priority srcnat;
{leave} oifname {DEVICE} masquerade {random}
}}
chain opened {{ type filter hook postrouting priority srcnat + 10;
oifname {DEVICE} udp sport {first}-{last} update @open {{ udp sport }}
}}
chain closed {{ type filter hook input priority filter;
iifname {{ {DEVICE}, {INNER} }} meta l4proto {{ tcp, udp }} ct state new drop
}}
chain through {{ type filter hook forward priority filter;
iifname {DEVICE} ct state new ct status & dnat == 0 drop
{drops} }}
}}
"
        )
    }

    /// Where the agent of the inner machine `host` is seen.
    fn port(&self, host: u16) -> u16 {
        FIRST + STEP * self.rebinds + host
    }

    /// What arrives at a mapping, and what leaves by one.
    fn mapped(&self) -> [String; 2] {
        let mut rules = [String::new(), String::new()];
        if !matches!(self.nat, Nat::EndpointIndependent | Nat::FullCone) {
            return rules;
        }
        for host in 1..=HOSTS {
            let inside = Pair::on_switch(self.inner, host);
            let ours = self.outside;
            let families = [
                ("ip", inside.v4.to_string(), ours.v4.to_string()),
                ("ip6", format!("[{}]", inside.v6), format!("[{}]", ours.v6)),
            ];
            for (ip, inside, ours) in families {
                self.one(&mut rules, host, (ip, &inside, &ours));
            }
        }
        rules
    }

    fn one(
        &self,
        [arrive, leave]: &mut [String; 2],
        host: u16,
        (ip, inside, ours): (&str, &str, &str),
    ) {
        let port = self.port(host);
        let bare = |address: &str| address.trim_matches(['[', ']']).to_owned();
        let to = format!(
            "{ip} daddr {} udp dport {port} udp dport @open dnat {ip} to {inside}:{PORT}\n",
            bare(ours)
        );
        let from = format!("{ip} saddr {} udp sport {PORT}", bare(inside));
        if self.nat == Nat::FullCone {
            arrive.extend(["iifname ", DEVICE, " ", &to]);
        }
        if self.hairpin {
            arrive.extend(["iifname ", INNER, " ", &to]);
            let snat =
                format!("oifname {INNER} ct status dnat {from} snat {ip} to {ours}:{port}\n");
            leave.push_str(&snat);
        }
        let masquerade = format!("oifname {DEVICE} {from} masquerade to :{port}\n");
        leave.push_str(&masquerade);
    }

    fn drops(&self) -> String {
        match self.outbound {
            Outbound::Everything => String::new(),
            Outbound::NoUdp => format!("oifname {DEVICE} meta l4proto udp drop\n"),
            Outbound::OnlyTcp(port) => format!(
                "oifname {DEVICE} meta l4proto != tcp drop\noifname {DEVICE} tcp dport != {port} drop\n"
            ),
        }
    }
}
