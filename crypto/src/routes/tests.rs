use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixMap;
use proptest::prelude::*;

use super::Routes;

/// How many tables the property tests build.
const CASES: u32 = 2_000;

fn routes(prefixes: &[(&str, u32)]) -> Routes<u32> {
    let mut routes = Routes::default();
    for (prefix, owner) in prefixes {
        routes.insert(prefix.parse().unwrap(), *owner);
    }
    routes
}

#[test]
fn the_most_specific_prefix_owns_an_address() {
    let routes = routes(&[("0.0.0.0/0", 1), ("10.42.3.0/24", 2), ("10.42.3.7/32", 3)]);

    assert_eq!(routes.owner_of("10.42.3.7".parse().unwrap()), Some(3));
    assert_eq!(routes.owner_of("10.42.3.8".parse().unwrap()), Some(2));
    assert_eq!(routes.owner_of("192.0.2.1".parse().unwrap()), Some(1));
    assert_eq!(routes.owner_of("::1".parse().unwrap()), None);
}

#[test]
fn an_ipv4_prefix_does_not_own_its_mapped_form() {
    let routes = routes(&[("10.0.0.0/8", 1)]);

    assert_eq!(routes.owner_of("::ffff:10.0.0.1".parse().unwrap()), None);
}

#[test]
fn a_prefix_has_one_owner_at_a_time_and_says_who_had_it() {
    let mut routes = routes(&[("fd42:0:0:1::/64", 1)]);

    assert_eq!(routes.insert("fd42:0:0:1::9/64".parse().unwrap(), 2), Some(1));
    assert_eq!(routes.owner_of("fd42:0:0:1::5".parse().unwrap()), Some(2));
}

/// Addresses and prefixes from a small corner, so that they overlap often.
fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        (any::<u8>(), 0u8..4).prop_map(|(a, b)| IpAddr::V4(Ipv4Addr::new(10, b, a & 3, a))),
        any::<u32>().prop_map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits))),
        (any::<u8>(), 0u8..4).prop_map(|(a, b)| IpAddr::V6(Ipv6Addr::new(
            0xfd42,
            b.into(),
            0,
            0,
            0,
            0,
            0,
            a.into()
        ))),
        any::<u128>().prop_map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits))),
    ]
}

fn prefix() -> impl Strategy<Value = IpNet> {
    (address(), 0u8..=128).prop_map(|(address, length)| match address {
        IpAddr::V4(v4) => Ipv4Net::new_assert(v4, length % 33).into(),
        IpAddr::V6(v6) => Ipv6Net::new_assert(v6, length).into(),
    })
}

/// The slow truth: every prefix looked at, the longest that holds the address wins.
fn naive(prefixes: &[(IpNet, u32)], address: IpAddr) -> Option<u32> {
    let holders = prefixes.iter().enumerate().filter(|(_, (prefix, _))| prefix.contains(&address));
    let best = holders.max_by_key(|(index, (prefix, _))| (prefix.prefix_len(), *index));
    best.map(|(_, (_, owner))| *owner)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn lookups_agree_with_the_naive_model_and_with_prefix_trie(
        prefixes in prop::collection::vec((prefix(), 0u32..9), 0..40),
        addresses in prop::collection::vec(address(), 1..30),
    ) {
        let mut routes = Routes::default();
        let mut trie_v4 = PrefixMap::<Ipv4Net, u32>::new();
        let mut trie_v6 = PrefixMap::<Ipv6Net, u32>::new();
        for &(prefix, owner) in &prefixes {
            routes.insert(prefix, owner);
            match prefix.trunc() {
                IpNet::V4(v4) => { trie_v4.insert(v4, owner); }
                IpNet::V6(v6) => { trie_v6.insert(v6, owner); }
            }
        }

        let probes = addresses.iter().copied().chain(prefixes.iter().map(|(p, _)| p.addr()));
        for address in probes {
            let trie = match address {
                IpAddr::V4(v4) => trie_v4.get_lpm(&v4.into()).map(|(_, owner)| *owner),
                IpAddr::V6(v6) => trie_v6.get_lpm(&v6.into()).map(|(_, owner)| *owner),
            };
            prop_assert_eq!(routes.owner_of(address), naive(&prefixes, address));
            prop_assert_eq!(routes.owner_of(address), trie);
        }
    }
}
