//! Which addresses of a subnet pods may have, and in which order they are tried.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// The node's own address in a subnet: the first host address, or a /32's or /128's only one.
pub fn node_address(subnet: &IpNet) -> IpAddr {
    if subnet.prefix_len() == subnet.max_prefix_len() {
        subnet.network()
    } else {
        offset(subnet, 1)
    }
}

/// The pod addresses of `subnet`, each once, starting behind `last` and coming round: so the
/// address freed last is the last to be given out again. Left out are the network's address, the
/// node's own and IPv4's broadcast address.
pub(crate) fn candidates(subnet: &IpNet, last: Option<IpAddr>) -> impl Iterator<Item = IpAddr> {
    let subnet = *subnet;
    let (first, end) = pod_offsets(&subnet);
    let start = last
        .filter(|last| subnet.contains(last))
        .map(|last| bits(&last).wrapping_sub(bits(&subnet.network())).saturating_add(1))
        .filter(|start| (first..end).contains(start))
        .unwrap_or(first);
    (start..end).chain(first..start.min(end)).map(move |at| offset(&subnet, at))
}

/// How many pods the subnet holds.
pub(crate) fn capacity(subnet: &IpNet) -> u128 {
    let (first, end) = pod_offsets(subnet);
    end.saturating_sub(first)
}

/// First offset for a pod, and the one behind the last.
fn pod_offsets(subnet: &IpNet) -> (u128, u128) {
    let host_bits = u32::from(subnet.max_prefix_len() - subnet.prefix_len());
    let size = 1u128.checked_shl(host_bits).unwrap_or(u128::MAX);
    let end = match subnet {
        IpNet::V4(_) => size.saturating_sub(1),
        IpNet::V6(_) => size,
    };
    (2, end.max(2))
}

fn offset(subnet: &IpNet, at: u128) -> IpAddr {
    let address = bits(&subnet.network()).wrapping_add(at);
    match subnet {
        IpNet::V4(_) => Ipv4Addr::from_bits(address as u32).into(),
        IpNet::V6(_) => Ipv6Addr::from_bits(address).into(),
    }
}

fn bits(address: &IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(subnet: &str, last: Option<&str>) -> Vec<String> {
        let last = last.map(|last| last.parse().unwrap());
        candidates(&subnet.parse().unwrap(), last).map(|a| a.to_string()).collect()
    }

    #[test]
    fn pods_get_neither_the_network_nor_the_node_nor_the_broadcast_address() {
        let addresses = all("10.42.1.0/24", None);

        assert_eq!(addresses.len(), 253);
        assert_eq!(addresses.first().unwrap(), "10.42.1.2");
        assert_eq!(addresses.last().unwrap(), "10.42.1.254");
        assert_eq!(capacity(&"10.42.1.0/24".parse().unwrap()), 253);
    }

    #[test]
    fn the_walk_starts_behind_the_last_one_and_comes_round() {
        assert_eq!(
            all("10.42.1.0/29", Some("10.42.1.4")),
            ["10.42.1.5", "10.42.1.6", "10.42.1.2", "10.42.1.3", "10.42.1.4"]
        );
        assert_eq!(all("10.42.1.0/29", Some("10.42.1.6")).len(), 5);
        assert_eq!(all("10.42.1.0/29", Some("10.9.9.9"))[0], "10.42.1.2");
    }

    #[test]
    fn small_subnets_hold_what_they_hold() {
        assert_eq!(all("10.42.1.0/30", None), ["10.42.1.2"]);
        for none in ["10.42.1.0/31", "10.42.1.7/32", "fd42::/127", "fd42::7/128"] {
            assert!(all(none, None).is_empty(), "{none}");
        }
        assert_eq!(all("fd42::/126", None), ["fd42::2", "fd42::3"]);
    }

    #[test]
    fn a_large_v6_subnet_is_walked_without_counting_it() {
        let subnet = "fd42:0:0:1::/64".parse().unwrap();

        let third = candidates(&subnet, Some("fd42:0:0:1::3".parse().unwrap())).next().unwrap();

        assert_eq!(third.to_string(), "fd42:0:0:1::4");
        assert_eq!(capacity(&subnet), (1 << 64) - 2);
        assert_eq!(capacity(&"::/0".parse().unwrap()), u128::MAX - 2);
    }

    #[test]
    fn the_node_has_the_first_host_address() {
        let of = |subnet: &str| node_address(&subnet.parse().unwrap()).to_string();

        assert_eq!(of("10.42.1.0/24"), "10.42.1.1");
        assert_eq!(of("fd42:0:0:1::/64"), "fd42:0:0:1::1");
        assert_eq!(of("10.42.1.9/32"), "10.42.1.9");
        assert_eq!(of("fd42::9/128"), "fd42::9");
    }
}
