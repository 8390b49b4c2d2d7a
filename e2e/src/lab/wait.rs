//! Waiting for something to become true, with a deadline and a reason.

use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_millis(20);

/// Asks until the answer is `Some`; how long it took stands beside it.
pub fn until<T>(limit: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<(T, Duration)> {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return Some((answer, start.elapsed()));
        }
        if start.elapsed() > limit {
            return None;
        }
        std::thread::sleep(PAUSE);
    }
}

/// Waits for `ask` to be true and says `what` was missing if it never was.
pub fn eventually(
    what: &str,
    limit: Duration,
    mut ask: impl FnMut() -> bool,
) -> anyhow::Result<Duration> {
    until(limit, || ask().then_some(()))
        .map(|((), took)| took)
        .ok_or_else(|| anyhow::anyhow!("{what}: not within {limit:?}"))
}
