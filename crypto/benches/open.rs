//! What opening costs over the bare cipher, in trains of 44 and alone. ns per packet.
//!
//! A packet can be opened once only, so many trains are sealed beforehand and opened in one go.

#![allow(clippy::unwrap_used, reason = "a benchmark may panic")]

#[path = "../tests/common/mod.rs"]
mod common;
mod cpu;

use common::{Counted, Pair, address, packet};
use cpu::CpuTime;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use crypto::{HEADER, Train};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, Tag, UnboundKey};

const TRAIN: usize = 44;

fn bare(criterion: &mut Criterion<CpuTime>) {
    let key = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &[7; 32]).unwrap());
    let nonce = || Nonce::assume_unique_for_key([1; 12]);
    let mut group = criterion.benchmark_group("open/ring alone");
    for length in [64, 1408, 1420] {
        let mut sealed = vec![0; TRAIN * (length + 32)];
        for record in sealed.chunks_mut(length + 32) {
            let body = &mut record[HEADER..HEADER + length];
            let tag = key.seal_in_place_separate_tag(nonce(), Aad::empty(), body).unwrap();
            record[HEADER + length..].copy_from_slice(tag.as_ref());
        }
        group.throughput(Throughput::Elements(TRAIN as u64));
        group.bench_function(length.to_string(), |bencher| {
            bencher.iter_batched_ref(
                || sealed.clone(),
                |train| {
                    for record in train.chunks_mut(length + 32) {
                        let (body, tag) = record[HEADER..].split_at_mut(length);
                        let tag = Tag::from(*tag.first_chunk().unwrap());
                        key.open_in_place_separate_tag(nonce(), Aad::empty(), tag, body, 0..)
                            .unwrap();
                    }
                },
                BatchSize::SmallInput,
            );
        });
    }
}

fn trains(criterion: &mut Criterion<CpuTime>) {
    let mut group = criterion.benchmark_group("open");
    for (packets, length) in [(TRAIN, 64), (TRAIN, 1408), (TRAIN, 1420), (1, 64), (1, 1420)] {
        let pair = Pair::with_peers(1);
        let content = packet(1, 2, length);
        let stride = Train::length(length, 1420);
        group.throughput(Throughput::Elements(packets as u64));
        group.bench_function(format!("{length} B, trains of {packets}"), |bencher| {
            bencher.iter_batched_ref(
                || {
                    let mut train = vec![0; packets * stride];
                    for record in train.chunks_mut(stride) {
                        record[HEADER..][..length].copy_from_slice(&content);
                    }
                    pair.seal(packets, length, &mut train);
                    train
                },
                |train| {
                    let mut found = Counted::default();
                    pair.to.open(train, stride, address(1), pair.now, &mut found);
                    assert_eq!(found.packets, packets);
                },
                BatchSize::SmallInput,
            );
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CpuTime).sample_size(50);
    targets = bare, trains
}
criterion_main!(benches);
