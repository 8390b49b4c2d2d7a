//! Whose address is this: with 10,000 nodes of two prefixes each, and with a million prefixes.

mod cpu;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use cpu::CpuTime;
use criterion::{Criterion, criterion_group, criterion_main};
use crypto::Routes;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

fn v4(number: u32) -> IpAddr {
    Ipv4Addr::from_bits(10 << 24 | number << 8 | 5).into()
}

fn v6(number: u32) -> IpAddr {
    Ipv6Addr::from_bits(0xfd42 << 112 | u128::from(number) << 64 | 5).into()
}

fn routes(count: u32) -> Routes<u32> {
    let mut routes = Routes::default();
    for number in 0..count {
        for (address, length) in [(v4(number), 24), (v6(number), 64)] {
            let prefix = match address {
                IpAddr::V4(v4) => IpNet::from(Ipv4Net::new_assert(v4, length)),
                IpAddr::V6(v6) => IpNet::from(Ipv6Net::new_assert(v6, length)),
            };
            routes.insert(prefix, number);
        }
        if number % 16 == 0 {
            routes
                .insert(IpNet::from(Ipv4Net::new_assert(Ipv4Addr::from_bits(number), 32)), number);
        }
    }
    routes
}

fn lookup(criterion: &mut Criterion<CpuTime>) {
    let mut group = criterion.benchmark_group("lookup");
    for count in [2, 10_000, 65_536] {
        let routes = routes(count);
        for (family, address) in [("IPv4", v4 as fn(u32) -> IpAddr), ("IPv6", v6)] {
            let mut number = 0_u32;
            group.bench_function(format!("{family}, {count} nodes"), |bencher| {
                bencher.iter(|| {
                    number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    routes.owner_of(address(number % count))
                });
            });
        }
        group.bench_function(format!("a copy to change, {count} nodes"), |bencher| {
            bencher.iter(|| routes.clone());
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CpuTime).sample_size(50);
    targets = lookup
}
criterion_main!(benches);
