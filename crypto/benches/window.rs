//! The replay window: in order, out of order, and the jump of a whole window.

mod cpu;

use cpu::CpuTime;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use crypto::workbench::Window;

const TRAIN: u64 = 44;

fn window(criterion: &mut Criterion<CpuTime>) {
    let mut group = criterion.benchmark_group("window");
    group.throughput(Throughput::Elements(TRAIN));
    let mut run = |name: &str, step: u64, turned: u64| {
        let mut window = Window::default();
        let mut next = 0;
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let fresh = (0..TRAIN).filter(|n| window.mark(next + (n ^ turned) * step)).count();
                next += 64 * step;
                fresh
            });
        });
    };
    run("in order", 1, 0);
    run("turned around in eights", 1, 7);
    run("a jump of a window each", 8192, 0);
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CpuTime).sample_size(50);
    targets = window
}
criterion_main!(benches);
