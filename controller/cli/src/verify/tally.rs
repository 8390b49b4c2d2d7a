//! PURE: counts what a capture saw, and judges it.
//!
//! The one socket watches every device, so the control is no second instrument: whoever sees each
//! marked packet on the tunnel device would have seen it on the underlay too.

use std::collections::BTreeMap;

use super::{
    frame::{self, Link},
    report::Check,
};

/// 12 random bytes; a fourteenth tells what kind of probe carried them.
const SECRET: usize = 12;

/// What a marked packet was sent for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Probe {
    Peer4 = 1,
    Peer6 = 2,
    Canary4 = 3,
    Canary6 = 4,
}

impl Probe {
    pub(super) const ALL: [Self; 4] = [Self::Peer4, Self::Peer6, Self::Canary4, Self::Canary6];
}

/// What makes our packets recognisable, and only to us.
#[derive(Clone, Copy, Debug)]
pub(super) struct Marker([u8; SECRET]);

impl Marker {
    pub(super) fn new(random: [u8; SECRET]) -> Self {
        Self(random)
    }

    /// A payload that nobody can mistake for anything else.
    pub(super) fn payload(&self, probe: Probe) -> Vec<u8> {
        let mut one = self.0.to_vec();
        one.push(probe as u8);
        one.repeat(4)
    }

    fn find(&self, frame: &[u8]) -> Option<Probe> {
        let at = frame::position(frame, &self.0)?;
        let kind = frame.get(at + SECRET)?;
        Probe::ALL.into_iter().find(|probe| *probe as u8 == *kind)
    }
}

/// What a device is to this check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Tunnel,
    Underlay,
    /// Loopback, and the devices of pods: their packets are in clear by design.
    Inside,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Device {
    pub(super) name: String,
    pub(super) role: Role,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    In,
    Out,
}

/// One captured frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame<'a> {
    pub(super) device: u32,
    pub(super) link: Link,
    pub(super) direction: Direction,
    pub(super) bytes: &'a [u8],
}

/// What was seen so far.
#[derive(Debug)]
pub(super) struct Tally {
    marker: Marker,
    ports: Vec<u16>,
    devices: BTreeMap<u32, Device>,
    /// Tunnel packets by underlay device.
    carried: BTreeMap<String, u64>,
    /// Marked packets in clear by underlay device.
    clear: BTreeMap<(String, Probe), u64>,
    /// Marked packets that went into the tunnel device.
    control: BTreeMap<Probe, u64>,
    answers: u64,
}

impl Tally {
    pub(super) fn new(marker: Marker, ports: Vec<u16>, devices: BTreeMap<u32, Device>) -> Self {
        Self {
            marker,
            ports,
            devices,
            carried: BTreeMap::new(),
            clear: BTreeMap::new(),
            control: BTreeMap::new(),
            answers: 0,
        }
    }

    pub(super) fn observe(&mut self, frame: Frame<'_>) {
        let (name, role) = match self.devices.get(&frame.device) {
            Some(device) => (device.name.clone(), device.role),
            // It came into being after the list was made: nobody vouches for it.
            None => (format!("device-{}", frame.device), Role::Underlay),
        };
        match role {
            Role::Inside => {}
            Role::Tunnel => self.in_the_tunnel(frame),
            Role::Underlay => self.on_the_wire(name, frame),
        }
    }

    fn in_the_tunnel(&mut self, frame: Frame<'_>) {
        let Some(probe) = self.marker.find(frame.bytes) else {
            return;
        };
        match frame.direction {
            Direction::Out => *self.control.entry(probe).or_default() += 1,
            Direction::In => self.answers += 1,
        }
    }

    fn on_the_wire(&mut self, name: String, frame: Frame<'_>) {
        if let Some((from, to)) = frame::udp_ports(frame.link, frame.bytes)
            && (self.ports.contains(&from) || self.ports.contains(&to))
        {
            *self.carried.entry(name.clone()).or_default() += 1;
        }
        if let Some(probe) = self.marker.find(frame.bytes) {
            *self.clear.entry((name, probe)).or_default() += 1;
        }
    }
}

/// What was sent.
#[derive(Clone, Debug, Default)]
pub(super) struct Sent {
    pub(super) node: String,
    pub(super) tunnel: String,
    /// Packets that the kernel took, by kind.
    pub(super) accepted: BTreeMap<Probe, u64>,
    /// Canaries and how many packets were tried to each.
    pub(super) canaries: Vec<(Probe, String, u64)>,
    /// Addresses to which not one packet could be sent, and why.
    pub(super) refused: Vec<String>,
}

/// Turns what was sent and what was seen into checks.
pub(super) fn judge(sent: &Sent, seen: &Tally) -> Vec<Check> {
    let mut checks = underlay(sent, seen);
    checks.push(control(sent, seen));
    if sent.canaries.is_empty() {
        checks.push(Check::skipped("canary", "canary: no free address in a pool is known"));
    }
    checks.extend(sent.canaries.iter().map(|canary| judge_canary(canary, seen)));
    checks
}

fn underlay(sent: &Sent, seen: &Tally) -> Vec<Check> {
    let is_peer = |probe: Probe| matches!(probe, Probe::Peer4 | Probe::Peer6);
    let mut names: Vec<&String> = seen.carried.keys().collect();
    names.extend(seen.clear.keys().filter(|(_, probe)| is_peer(*probe)).map(|(name, _)| name));
    names.sort();
    names.dedup();
    let ports = seen.ports.iter().map(|port| format!("udp/{port}")).collect::<Vec<_>>().join(",");
    let of_device = |name: &String| {
        let carried = seen.carried.get(name).copied().unwrap_or(0);
        let clear: u64 =
            seen.clear.iter().filter(|((n, p), _)| n == name && is_peer(*p)).map(|(_, c)| c).sum();
        let detail = format!(
            "{name} {}  {carried} packets {ports}, marker found in clear: {clear}",
            sent.node
        );
        Check::new(format!("underlay/{name}"), clear == 0, detail)
    };
    let mut checks: Vec<Check> = names.into_iter().map(of_device).collect();
    if seen.carried.is_empty() {
        let detail =
            format!("no tunnel packet ({ports}) on any underlay device; is that the port?");
        checks.push(Check::new("traffic", false, detail));
    }
    checks
}

/// The negative control: without it, "not found" only says that nobody looked.
fn control(sent: &Sent, seen: &Tally) -> Check {
    let (mut wanted, mut found) = (0, 0);
    for probe in [Probe::Peer4, Probe::Peer6] {
        let accepted = sent.accepted.get(&probe).copied().unwrap_or(0);
        wanted += accepted;
        found += seen.control.get(&probe).copied().unwrap_or(0).min(accepted);
    }
    let sees = wanted > 0 && found == wanted;
    let whole = sees && sent.refused.is_empty();
    let mut detail = if sees {
        format!(
            "control: the same capture sees the marker on the tunnel device ({found} of {wanted} on {}, {} answers)",
            sent.tunnel, seen.answers
        )
    } else {
        format!(
            "control: the capture saw the marker on {} {found} of {wanted} times, so the rest proves nothing",
            sent.tunnel
        )
    };
    if let Some(first) = sent.refused.first() {
        detail.push_str(&format!("; not sent: {first}"));
        if sent.refused.len() > 1 {
            detail.push_str(&format!(" and {} more", sent.refused.len() - 1));
        }
    }
    Check::new("control", whole, detail)
}

fn judge_canary((probe, address, tried): &(Probe, String, u64), seen: &Tally) -> Check {
    let left: u64 =
        seen.clear.iter().filter(|((_, p), _)| p == probe).map(|(_, count)| count).sum();
    let blocked = tried.saturating_sub(left);
    let family = if *probe == Probe::Canary4 { "canary/ipv4" } else { "canary/ipv6" };
    let detail = format!(
        "canary address {address} without a tunnel: {blocked} of {tried} probes blocked, {left} left in clear"
    );
    Check::new(family, left == 0, detail)
}

#[cfg(test)]
mod tests;
