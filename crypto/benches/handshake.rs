//! What a handshake costs, each side and each step. `cargo bench -p crypto --features workbench`.

mod cpu;

use std::{hint::black_box, time::Duration};

use cpu::CpuTime;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use crypto::workbench::handshakes::Pair;

fn handshake(c: &mut Criterion<CpuTime>) {
    let mut group = c.benchmark_group("handshake");
    group.measurement_time(Duration::from_secs(3)).sample_size(50);
    let mut pair = Pair::new(true);

    group.bench_function("initiator", |b| {
        let mut bob = Pair::new(true);
        b.iter_custom(|times| {
            let mut spent = Duration::ZERO;
            for _ in 0..times {
                let start = cpu::now();
                let (flight, first) = pair.initiate();
                spent += cpu::now().saturating_sub(start);
                let second = bob.answer(&first).expect("a valid initiation");
                let start = cpu::now();
                assert!(pair.finish(&flight, &second));
                spent += cpu::now().saturating_sub(start);
            }
            spent
        });
    });
    group.bench_function("responder", |b| {
        let (_, first) = pair.initiate();
        b.iter(|| black_box(pair.answer(black_box(&first))));
    });
    group.bench_function("1 initiate", |b| b.iter(|| black_box(pair.initiate()).1));
    group.bench_function("2 finish", |b| {
        b.iter_batched(
            || {
                let (flight, first) = pair.initiate();
                let second = pair.answer(&first).expect("a valid initiation");
                (flight, second, Pair::new(true))
            },
            |(flight, second, alice)| assert!(alice.finish(&flight, &second)),
            BatchSize::SmallInput,
        );
    });
    group.bench_function("meet a peer", |b| {
        let pair = Pair::new(false);
        b.iter(|| black_box(pair.meet()));
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CpuTime);
    targets = handshake
}
criterion_main!(benches);
