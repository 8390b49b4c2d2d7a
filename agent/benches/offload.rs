//! What cutting and merging costs, in whole trains of 44 packets of 1,420 bytes: divide by 44.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::{hint::black_box, ops::Range};

use agent::datapath::offload::{Coalesce, Gso, Merging, Split, Super, VnetHeader};

const SEGMENTS: usize = 44;
const SIZE: usize = 1_368;
const HEADERS: usize = 52;
/// A record's header before each packet and its padding and tag behind.
const STRIDE: usize = 1_456;

/// One TCP super packet over IPv4 with timestamps, as the kernel gives it.
fn whole(tcp: bool) -> (VnetHeader, Vec<u8>) {
    let headers = if tcp { HEADERS } else { 28 };
    let length = headers + SEGMENTS * SIZE;
    let mut packet = vec![0x5a; length];
    packet[..12].copy_from_slice(&[0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, 17, 0, 0]);
    packet[2..4].copy_from_slice(&(length as u16).to_be_bytes());
    if tcp {
        packet[9] = 6;
        packet[32] = 8 << 4;
        packet[33] = 0x10;
    }
    let header = VnetHeader {
        needs_checksum: true,
        gso: if tcp { Gso::Tcp4 } else { Gso::Udp },
        segment_size: SIZE as u16,
        ..VnetHeader::default()
    };
    (header, packet)
}

fn cut(split: &Split<'_>, train: &mut [u8]) {
    for (number, record) in train.chunks_exact_mut(STRIDE).enumerate() {
        black_box(split.write(number, &mut record[16..]));
    }
}

fn benches(c: &mut Criterion) {
    let mut group = c.benchmark_group("offload");
    group.throughput(Throughput::Elements(SEGMENTS as u64));
    for (name, tcp) in [("tcp", true), ("udp", false)] {
        let (header, mut packet) = whole(tcp);
        let mut train = vec![0; SEGMENTS * STRIDE];
        let Ok(Super::Many(split)) = Super::parse(&header, &mut packet) else {
            panic!("a super packet");
        };
        group.bench_function(format!("split/{name}"), |b| b.iter(|| cut(&split, &mut train)));
        let length = split.segment_length();
        let ranges: Vec<Range<usize>> =
            (0..SEGMENTS).map(|at| at * STRIDE + 16..at * STRIDE + 16 + length).collect();
        let mut coalesce = Coalesce::new(256, Merging { tcp: true, udp: true });
        group.bench_function(format!("coalesce/{name}"), |b| {
            b.iter(|| {
                for range in &ranges {
                    coalesce.push(&train, range.clone()).expect("there is room");
                }
                coalesce.emit(&train, |merged| {
                    assert_eq!(merged.count(), SEGMENTS);
                    merged.with_slices(|slices| black_box(slices.len()));
                });
            });
        });
    }
    group.finish();
}

criterion_group!(offload, benches);
criterion_main!(offload);
