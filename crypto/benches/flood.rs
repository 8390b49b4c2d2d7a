//! What a flood of handshake messages costs, without sockets, one core.
//! `cargo bench -p crypto --features workbench --bench flood`.

#![allow(clippy::disallowed_methods, reason = "a moment to count from")]

mod cpu;

use std::{
    hint::black_box,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use cpu::CpuTime;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use crypto::{
    Discard, Random,
    workbench::flood::{Fate, Flood},
};

/// The operating system's, as in the agent: a system call a nonce.
struct System;

impl Random for System {
    fn fill(&mut self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("the operating system has random numbers");
    }
}

fn source(n: u32) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::from_bits(n)), 51820)
}

/// So far apart that the bound on cookie replies is never met.
const APART: Duration = Duration::from_micros(50);

fn wrong_mac1(c: &mut Criterion<CpuTime>) {
    let mut group = c.benchmark_group("flood");
    group.measurement_time(Duration::from_secs(3)).throughput(Throughput::Elements(1));
    for identities in [1, 2] {
        let now = Instant::now();
        let mut flood = Flood::new(identities, now);
        let mut junk = flood.initiation(0, 7);
        junk[120] ^= 1;
        group.bench_function(format!("wrong mac1, identities {identities}"), |b| {
            b.iter(|| {
                let fate = flood.judge(black_box(&junk), source(1), now, &mut System);
                assert_eq!(fate, Fate::Dropped(Discard::BadMac));
            });
        });
    }
    group.finish();
}

fn cookies(c: &mut Criterion<CpuTime>) {
    let mut group = c.benchmark_group("flood");
    group.measurement_time(Duration::from_secs(3)).throughput(Throughput::Elements(1));
    for (name, forged, apart) in [
        ("a cookie reply, one source", 1, APART),
        ("a cookie reply, forged sources", u32::MAX, APART),
        ("beyond the bound of cookie replies", u32::MAX, Duration::ZERO),
    ] {
        let mut now = Instant::now();
        let mut flood = Flood::new(1, now);
        let message = flood.initiation(0, 7);
        let (mut n, mut replies) = (0u32, 0u64);
        group.bench_function(name, |b| {
            b.iter(|| {
                n = n.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                now += apart;
                let from = source(if forged == 1 { 1 } else { n });
                let fate = flood.judge(black_box(&message), from, now, &mut System);
                replies += u64::from(fate == Fate::Demanded);
                black_box(fate)
            });
        });
        assert!(replies > 0, "the flood was never met with a cookie");
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CpuTime);
    targets = wrong_mac1, cookies
}
criterion_main!(benches);
