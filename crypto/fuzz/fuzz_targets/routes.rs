//! Lookups agree with looking at every prefix.

#![no_main]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crypto::Routes;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (Vec<(bool, u128, u8)>, Vec<(bool, u128)>)| {
    let (prefixes, addresses) = input;
    let prefixes: Vec<IpNet> = prefixes.into_iter().map(prefix).collect();
    let mut routes = Routes::default();
    for (owner, prefix) in prefixes.iter().enumerate() {
        routes.insert(*prefix, owner);
    }
    for address in addresses
        .into_iter()
        .map(address)
        .chain(prefixes.iter().map(IpNet::addr))
    {
        let holders = prefixes
            .iter()
            .enumerate()
            .filter(|(_, prefix)| prefix.contains(&address));
        let best = holders.max_by_key(|(owner, prefix)| (prefix.prefix_len(), *owner));
        assert_eq!(routes.owner_of(address), best.map(|(owner, _)| owner));
    }
});

fn address((v4, bits): (bool, u128)) -> IpAddr {
    if v4 {
        Ipv4Addr::from_bits(bits as u32).into()
    } else {
        Ipv6Addr::from_bits(bits).into()
    }
}

fn prefix((v4, bits, length): (bool, u128, u8)) -> IpNet {
    match address((v4, bits)) {
        IpAddr::V4(v4) => Ipv4Net::new_assert(v4, length % 33).into(),
        IpAddr::V6(v6) => Ipv6Net::new_assert(v6, length % 129).into(),
    }
}
