//! PURE: what a machine must have before an agent runs on it, judged from facts; each finding with
//! a code, and what to do about it.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;

use crate::{
    output::{Item, Output},
    text,
    view::status::{Problem, Severity},
};

/// Below this on the underlay, IPv6 does not fit through the tunnel: 1280 and what a record costs.
const SMALLEST_UNDERLAY: u32 = 1360;
/// The file that the agent's installer writes; runtimes take the first by name.
const OURS: &str = "05-hawser.conflist";
/// The one that the agent writes where another plugin is kept: `cni.mode: Chained`.
const CHAINED: &str = "00-hawser.conflist";
/// Devices that other networks make on every node.
const FOREIGN: [&str; 8] = [
    "cni0",
    "flannel.1",
    "cilium_host",
    "cilium_net",
    "vxlan.calico",
    "weave",
    "kube-bridge",
    "antrea-gw0",
];

/// What was found on the machine.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// Why the TUN device cannot be opened.
    pub tun: Option<String>,
    pub net_admin: bool,
    /// Why the tunnels' UDP port cannot be bound.
    pub port: Option<(u16, String)>,
    /// The device of the default route and its MTU.
    pub underlay: Option<(String, u32)>,
    pub addresses: Vec<IpAddr>,
    pub has_nft: bool,
    pub devices: Vec<String>,
    /// Names in the runtime's configuration directory.
    pub configurations: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Ok,
    Warning,
    Failed,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// `HWnnnn`, stable between releases.
    pub code: &'static str,
    pub verdict: Verdict,
    pub what: String,
    /// Empty where nothing is to be done.
    pub fix: String,
}

#[derive(Serialize)]
struct Report<'a> {
    findings: &'a [Finding],
}

impl From<Problem> for Finding {
    fn from(Problem { code, severity, subject, message, fix }: Problem) -> Self {
        let verdict = match severity {
            Severity::Error => Verdict::Failed,
            Severity::Warning => Verdict::Warning,
        };
        Self { code, verdict, what: format!("{subject}  {message}"), fix }
    }
}

fn finding(code: &'static str, verdict: Verdict, what: impl Into<String>, fix: &str) -> Finding {
    let fix = if verdict == Verdict::Ok { String::new() } else { fix.to_owned() };
    Finding { code, verdict, what: what.into(), fix }
}

fn must(code: &'static str, holds: bool, what: (&str, String), fix: &str) -> Finding {
    let (good, bad) = what;
    let verdict = if holds { Verdict::Ok } else { Verdict::Failed };
    finding(code, verdict, if holds { good.to_owned() } else { bad }, fix)
}

/// Everything that was looked at, in a fixed order.
pub fn judge(machine: &Machine, pools: &[IpNet]) -> Vec<Finding> {
    let tun = machine.tun.as_ref().map(|why| format!("/dev/net/tun: {why}")).unwrap_or_default();
    let port = machine.port.as_ref().map(|(port, why)| format!("udp/{port}: {why}"));
    let mut found = vec![
        must(
            "HW3001",
            machine.tun.is_none(),
            ("the TUN device can be opened", tun),
            "modprobe tun; in a container, mount /dev/net/tun",
        ),
        must(
            "HW3002",
            machine.net_admin,
            ("CAP_NET_ADMIN is granted", "CAP_NET_ADMIN is missing".to_owned()),
            "run it as root, or grant the capability NET_ADMIN",
        ),
        must(
            "HW3003",
            machine.port.is_none(),
            ("the tunnels' UDP port is free", port.unwrap_or_default()),
            "see who has it: ss -lunp; or choose another with --listen-port (agent.listenPort)",
        ),
        mtu(machine),
        must(
            "HW3006",
            machine.has_nft,
            ("the program nft is there", "the program nft is not on PATH".to_owned()),
            "install nftables; the image of the chart brings its own",
        ),
    ];
    found.extend(pools.iter().map(|pool| overlap(pool, &machine.addresses)));
    found.extend(leftovers(machine));
    found
}

fn mtu(machine: &Machine) -> Finding {
    let fix = "raise the MTU of the underlay to 1360 or more: IPv6 needs 1280 inside the tunnel";
    match &machine.underlay {
        None => finding(
            "HW3004",
            Verdict::Warning,
            "there is no default route",
            "name the device that other nodes are reached by: --interface",
        ),
        Some((name, mtu)) => {
            let verdict = if *mtu < SMALLEST_UNDERLAY { Verdict::Failed } else { Verdict::Ok };
            finding("HW3004", verdict, format!("{name} has an MTU of {mtu}"), fix)
        }
    }
}

fn overlap(pool: &IpNet, addresses: &[IpAddr]) -> Finding {
    let inside = addresses.iter().find(|address| pool.contains(*address));
    let good = format!("no address of this machine lies in the pool {pool}");
    let bad = inside.map(|address| format!("this machine's {address} lies in the pool {pool}"));
    must(
        "HW3005",
        inside.is_none(),
        (&good, bad.unwrap_or_default()),
        "choose another pool: the mesh would take this machine's own network away from it",
    )
}

fn leftovers(machine: &Machine) -> Vec<Finding> {
    let beside = machine.configurations.iter().any(|name| name == CHAINED);
    let ours = if beside { CHAINED } else { OURS };
    let foreign = |name: &&String| !beside && FOREIGN.contains(&name.as_str());
    let devices = machine.devices.iter().filter(foreign).map(|name| {
        let what = format!("{name}: a device of another network plugin");
        let fix = "remove that plugin and what it left behind, or keep it by cni.mode: Chained";
        finding("HW3007", Verdict::Warning, what, fix)
    });
    let is_configuration = |name: &&String| {
        [".conf", ".conflist", ".json"].iter().any(|ending| name.ends_with(ending))
    };
    // Kept beside ours, theirs need only come after it.
    let others = machine.configurations.iter().filter(|name| name.as_str() != ours);
    let others = others.filter(|name| !beside || name.as_str() < ours);
    let others = others.filter(is_configuration).map(|name| {
        if name.as_str() < ours {
            let what = format!("{name} sorts before {ours}: pods get its network, not Hawser's");
            return finding("HW3008", Verdict::Failed, what, "remove or rename it");
        }
        let what = format!("{name}: another plugin's configuration; {ours} comes before it");
        let fix = "remove it if that plugin is gone; to keep the plugin: cni.mode: Chained";
        finding("HW3008", Verdict::Warning, what, fix)
    });
    devices.chain(others).collect()
}

/// The findings as a screen and as one document.
pub fn output(findings: &[Finding]) -> Output {
    output_as(("Preflight", "preflight/machine"), findings)
}

/// The same under another kind and name.
pub fn output_as((kind, name): (&'static str, &str), findings: &[Finding]) -> Output {
    let mut screen = String::new();
    for Finding { code, verdict, what, fix } in findings {
        let word = match verdict {
            Verdict::Ok => "ok  ",
            Verdict::Warning => "warn",
            Verdict::Failed => "FAIL",
        };
        screen.push_str(&format!("  {word}  {code}  {}\n", text::printable(what)));
        if !fix.is_empty() {
            screen.push_str(&format!("        fix: {fix}\n"));
        }
    }
    let count = |wanted| findings.iter().filter(|finding| finding.verdict == wanted).count();
    let (failed, warned) = (count(Verdict::Failed), count(Verdict::Warning));
    screen.push_str(&format!(
        "{} checks passed, {failed} failed, {warned} warnings\n",
        count(Verdict::Ok)
    ));
    Output::screen(kind, screen, Item::new(name, &Report { findings }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Machine {
        Machine {
            net_admin: true,
            underlay: Some(("eth0".into(), 1500)),
            addresses: vec!["10.0.0.1".parse().unwrap()],
            has_nft: true,
            devices: vec!["eth0".into()],
            configurations: vec![OURS.into(), ".05-hawser.conflist.new".into()],
            ..Machine::default()
        }
    }

    fn bad(machine: &Machine) -> Vec<(&'static str, Verdict)> {
        let pools = ["10.244.0.0/16".parse().unwrap(), "fd42::/48".parse().unwrap()];
        let found = judge(machine, &pools).into_iter();
        found.filter(|one| one.verdict != Verdict::Ok).map(|one| (one.code, one.verdict)).collect()
    }

    #[test]
    fn a_machine_that_has_everything_has_no_finding() {
        assert_eq!(bad(&good()), []);
    }

    #[test]
    fn each_thing_that_goes_wrong_in_the_field_has_a_code_and_a_fix() {
        let cases = [
            (Machine { tun: Some("no such file".into()), ..good() }, "HW3001", Verdict::Failed),
            (Machine { net_admin: false, ..good() }, "HW3002", Verdict::Failed),
            (Machine { port: Some((51820, "in use".into())), ..good() }, "HW3003", Verdict::Failed),
            (Machine { underlay: Some(("x".into(), 1359)), ..good() }, "HW3004", Verdict::Failed),
            (Machine { underlay: None, ..good() }, "HW3004", Verdict::Warning),
            (
                Machine { addresses: vec!["10.244.7.7".parse().unwrap()], ..good() },
                "HW3005",
                Verdict::Failed,
            ),
            (Machine { has_nft: false, ..good() }, "HW3006", Verdict::Failed),
            (Machine { devices: vec!["cni0".into()], ..good() }, "HW3007", Verdict::Warning),
            (
                Machine { configurations: vec!["00-x.conf".into()], ..good() },
                "HW3008",
                Verdict::Failed,
            ),
            (
                Machine { configurations: vec!["10-x.conflist".into()], ..good() },
                "HW3008",
                Verdict::Warning,
            ),
        ];
        for (machine, code, verdict) in cases {
            assert_eq!(bad(&machine), [(code, verdict)]);
            let found = judge(&machine, &[])
                .into_iter()
                .chain(judge(&machine, &["10.244.0.0/16".parse().unwrap()]));
            assert!(found.filter(|one| one.verdict != Verdict::Ok).all(|one| !one.fix.is_empty()));
        }
    }

    #[test]
    fn another_plugin_that_is_kept_is_no_leftover() {
        let beside = |name: &str| Machine {
            devices: vec!["cni0".into()],
            configurations: vec![CHAINED.into(), name.into()],
            ..good()
        };

        assert!(bad(&beside("10-bridge.conflist")).is_empty());
        assert_eq!(bad(&beside("00-calico.conflist")), [("HW3008", Verdict::Failed)]);
    }
}
