//! CPU seconds from /proc.

use anyhow::Context as _;

/// USER_HZ: what /proc counts in on every architecture we run on.
const TICKS_PER_SECOND: f64 = 100.0;

/// User and system seconds of one process, its threads included.
pub(super) fn process_seconds(pid: u32) -> anyhow::Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    ticks(&text, 11).map(to_seconds).with_context(|| format!("no CPU times in {path}"))
}

/// All busy seconds of the machine since boot: user, nice, system, irq, softirq.
pub fn machine_busy_seconds() -> anyhow::Result<f64> {
    let text = std::fs::read_to_string("/proc/stat").context("reading /proc/stat")?;
    let line = text.lines().next().unwrap_or_default();
    let fields: Vec<u64> = line.split_whitespace().skip(1).flat_map(str::parse).collect();
    let busy = [0, 1, 2, 5, 6].iter().map(|&field| fields.get(field).copied().unwrap_or(0)).sum();
    Ok(to_seconds(busy))
}

/// The sum of two neighbouring fields after the program's name in parentheses.
fn ticks(stat: &str, first: usize) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(first);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn to_seconds(ticks: u64) -> f64 {
    ticks as f64 / TICKS_PER_SECOND
}
