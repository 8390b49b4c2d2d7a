//! Prefixes and durations as people write them, parsed once.

use std::{net::IpAddr, time::Duration};

use ipnet::IpNet;

/// Why a text is no prefix of the mesh.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPrefix {
    #[error("{0:?} is no prefix; write it like 10.42.0.0/16 or fd42::/48")]
    Malformed(String),
    #[error("{given} has bits set behind its length; did you mean {meant}?")]
    HostBits { given: IpNet, meant: IpNet },
}

/// Parses a prefix whose host bits are zero.
pub fn parse_prefix(text: &str) -> Result<IpNet, BadPrefix> {
    let given: IpNet = text.parse().map_err(|_| BadPrefix::Malformed(text.to_owned()))?;
    let meant = given.trunc();
    if given == meant { Ok(given) } else { Err(BadPrefix::HostBits { given, meant }) }
}

/// Two aligned blocks overlap when one holds the other.
pub fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}

/// False for space in which no machine has an address that others can reach.
pub fn is_unicast(prefix: &IpNet) -> bool {
    const SPECIAL: [&str; 9] = [
        "0.0.0.0/8",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "224.0.0.0/3",
        "::/128",
        "::1/128",
        "::ffff:0:0/96",
        "fe80::/10",
        "ff00::/8",
    ];
    let mut special = SPECIAL.iter().filter_map(|text| text.parse::<IpNet>().ok());
    special.all(|special| !overlap(&special, prefix))
}

/// `90m`, `720h`: minutes or hours, up to 999,999 of them.
pub fn duration(text: &str) -> Option<Duration> {
    let number = text.get(..text.len().checked_sub(1)?)?;
    let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 = number.parse().ok().filter(|number| digits && *number < 1_000_000)?;
    match text.as_bytes().last()? {
        b's' => Some(Duration::from_secs(number)),
        b'm' => Some(Duration::from_secs(60 * number)),
        b'h' => Some(Duration::from_secs(3600 * number)),
        _ => None,
    }
}

/// The node's own address in a subnet: its first host address, or the address itself of a /32 or
/// /128. `10.42.1.0/24` gives `10.42.1.1`, `fd42:0:0:1::/64` gives `fd42:0:0:1::1`.
pub fn first_host(subnet: IpNet) -> IpAddr {
    match subnet {
        IpNet::V4(net) if net.prefix_len() == 32 => IpAddr::V4(net.addr()),
        IpNet::V6(net) if net.prefix_len() == 128 => IpAddr::V6(net.addr()),
        IpNet::V4(net) => IpAddr::V4((u32::from(net.network()) | 1).into()),
        IpNet::V6(net) => IpAddr::V6((u128::from(net.network()) | 1).into()),
    }
}
