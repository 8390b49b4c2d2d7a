//! Chooses an address inside the mesh that nobody owns: a packet to it must go nowhere.

use std::net::IpAddr;

use ipnet::IpNet;

/// How many addresses are looked at before a pool counts as full.
const TRIES: u32 = 4096;

/// One address of each family: in a pool, in nobody's prefix, as far from the others' as possible.
pub(super) fn choose(pools: &[IpNet], owned: &[IpNet]) -> Vec<IpAddr> {
    let of_family = |v4: bool| {
        let mut pools = pools.iter().filter(move |pool| pool.addr().is_ipv4() == v4);
        pools.find_map(|pool| free(*pool, owned))
    };
    [of_family(true), of_family(false)].into_iter().flatten().collect()
}

/// Nodes are numbered from the bottom of a pool, so this goes down from the top.
fn free(pool: IpNet, owned: &[IpNet]) -> Option<IpAddr> {
    let last = number(pool.broadcast()).checked_sub(1)?;
    let mut candidate = last;
    for _ in 0..TRIES {
        let address = address(candidate, pool.addr().is_ipv4());
        if !pool.contains(&address) {
            return None;
        }
        match owned.iter().find(|net| net.contains(&address)) {
            None => return Some(address),
            // The whole prefix is taken: go on below it.
            Some(net) => candidate = number(net.network()).checked_sub(1)?,
        }
    }
    None
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

fn address(number: u128, v4: bool) -> IpAddr {
    match u32::try_from(number) {
        Ok(number) if v4 => IpAddr::V4(number.into()),
        _ => IpAddr::V6(number.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn chosen(pools: &[&str], owned: &[&str]) -> Vec<String> {
        choose(&nets(pools), &nets(owned)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_top_of_each_family_is_free_in_a_young_mesh() {
        let canaries = chosen(&["10.42.0.0/16", "fd42::/48"], &["10.42.1.0/24", "fd42:0:0:1::/64"]);

        assert_eq!(canaries, ["10.42.255.254", "fd42::ffff:ffff:ffff:ffff:fffe"]);
    }

    #[test]
    fn owned_prefixes_are_stepped_over() {
        let canaries = chosen(&["10.42.0.0/22"], &["10.42.3.0/24", "10.42.2.128/25"]);

        assert_eq!(canaries, ["10.42.2.127"]);
    }

    #[test]
    fn a_full_pool_has_no_canary() {
        assert!(chosen(&["10.42.0.0/24"], &["10.42.0.0/16"]).is_empty());
        assert!(chosen(&["10.42.0.0/24"], &["10.42.0.0/24"]).is_empty());
        assert!(chosen(&[], &[]).is_empty());
    }

    #[test]
    fn a_second_pool_helps_out() {
        let canaries = chosen(&["10.42.0.0/24", "10.43.0.0/24"], &["10.42.0.0/24"]);

        assert_eq!(canaries, ["10.43.0.254"]);
    }
}
