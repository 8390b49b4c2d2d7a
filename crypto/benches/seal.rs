//! What sealing costs over the bare cipher, in trains of 44 and alone. ns per packet.

#![allow(clippy::unwrap_used, reason = "a benchmark may panic")]

#[path = "../tests/common/mod.rs"]
mod common;
mod cpu;

use common::{Pair, pod};
use cpu::CpuTime;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use crypto::{HEADER, TAG, Train};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

const TRAIN: usize = 44;

fn bare(criterion: &mut Criterion<CpuTime>) {
    let key = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &[7; 32]).unwrap());
    let mut group = criterion.benchmark_group("seal/ring alone");
    for length in [64, 1408, 1420] {
        let mut train = vec![0; TRAIN * (length + 32)];
        group.throughput(Throughput::Elements(TRAIN as u64));
        group.bench_function(length.to_string(), |bencher| {
            bencher.iter(|| {
                for record in train.chunks_mut(length + 32) {
                    let nonce = Nonce::assume_unique_for_key([1; 12]);
                    let body = &mut record[HEADER..HEADER + length];
                    let tag = key.seal_in_place_separate_tag(nonce, Aad::empty(), body).unwrap();
                    record[HEADER + length..].copy_from_slice(tag.as_ref());
                }
            });
        });
    }
}

fn trains(criterion: &mut Criterion<CpuTime>) {
    let mut group = criterion.benchmark_group("seal");
    for (peers, packets, length) in [
        (1, TRAIN, 64),
        (1, TRAIN, 1408),
        (1, TRAIN, 1420),
        (10_000, TRAIN, 1420),
        (1, 1, 64),
        (1, 1, 1420),
        (10_000, 1, 1420),
    ] {
        let pair = Pair::with_peers(peers);
        let stride = Train::length(length, length.max(1420));
        let mut train = vec![0; packets * stride];
        group.throughput(Throughput::Elements(packets as u64));
        let name = format!("{length} B, trains of {packets}, {peers} peers");
        group.bench_function(name, |bencher| {
            bencher.iter(|| pair.seal(packets, length, &mut train));
        });
    }
}

fn reserve(criterion: &mut Criterion<CpuTime>) {
    let pair = Pair::with_peers(10_000);
    criterion.bench_function("seal/nothing: route, session, counters", |bencher| {
        bencher.iter(|| pair.from.train(pod(2), 1, pair.now).ok());
    });
    assert_eq!(TAG, 16);
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CpuTime).sample_size(50);
    targets = bare, trains, reserve
}
criterion_main!(benches);
