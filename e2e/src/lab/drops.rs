//! Where the kernel dropped packets: a lost one has a place, and that says whose fault it is.

use std::collections::BTreeMap;

use super::Namespace;

/// The kernel's counters of dropped packets, by place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drops(BTreeMap<String, u64>);

impl Drops {
    /// Of these namespaces' devices and sockets, and of the machine's cores.
    pub fn count<'a>(namespaces: impl IntoIterator<Item = &'a Namespace>) -> anyhow::Result<Self> {
        let mut drops = BTreeMap::new();
        for namespace in namespaces {
            let name = namespace.name();
            devices(name, &namespace.read("/proc/net/dev")?, &mut drops);
            sockets(name, &namespace.read("/proc/net/snmp")?, &mut drops);
            sockets6(name, &namespace.read("/proc/net/snmp6")?, &mut drops);
        }
        backlog(&std::fs::read_to_string("/proc/net/softnet_stat")?, &mut drops);
        Ok(Self(drops))
    }

    /// What was dropped since `before`, a line a place.
    pub fn since(&self, before: &Self) -> Vec<String> {
        let more = |(place, count): (&String, &u64)| {
            let more = count - before.0.get(place).copied().unwrap_or(0).min(*count);
            (more > 0).then(|| format!("{place}: {more}"))
        };
        self.0.iter().filter_map(more).collect()
    }
}

fn devices(namespace: &str, text: &str, drops: &mut BTreeMap<String, u64>) {
    for line in text.lines().skip(2) {
        let Some((device, rest)) = line.split_once(':') else { continue };
        let fields: Vec<u64> = rest.split_whitespace().flat_map(str::parse).collect();
        for (way, field) in [("received", 3), ("sent", 11)] {
            let count = fields.get(field).copied().unwrap_or(0);
            drops.insert(format!("{namespace} {} {way}", device.trim()), count);
        }
    }
}

/// The second line of values belongs to the second line of names.
fn sockets(namespace: &str, text: &str, drops: &mut BTreeMap<String, u64>) {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let (Some(names), Some(values)) = (lines.next(), lines.next()) else { return };
    let pairs = names.split_whitespace().zip(values.split_whitespace());
    for (name, value) in pairs.filter(|(name, _)| name.ends_with("bufErrors")) {
        let count = value.parse().unwrap_or(0);
        drops.insert(format!("{namespace} sockets {name}"), count);
    }
}

fn sockets6(namespace: &str, text: &str, drops: &mut BTreeMap<String, u64>) {
    for line in text.lines().filter(|line| line.starts_with("Udp6") && line.contains("bufErrors")) {
        let mut words = line.split_whitespace();
        let name = words.next().unwrap_or_default();
        let count = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
        drops.insert(format!("{namespace} sockets {name}"), count);
    }
}

/// Packets between devices that a core had no room for (`net.core.netdev_max_backlog`).
fn backlog(text: &str, drops: &mut BTreeMap<String, u64>) {
    for (core, line) in text.lines().enumerate() {
        let dropped = line.split_whitespace().nth(1);
        let count = dropped.and_then(|word| u64::from_str_radix(word, 16).ok()).unwrap_or(0);
        drops.insert(format!("core {core} backlog"), count);
    }
}
