//! Wakes the mesh when something is due, and tells it when the wall clock was put forward.

use std::time::{Duration, Instant, SystemTime};

use super::{batch::Outgoing, shared::Shared};

/// How often to look while the mesh has nobody to care for.
const IDLE: Duration = Duration::from_secs(1);
/// A wall clock that gains so much on the monotonic one was put, not slewed.
const JUMP: Duration = Duration::from_secs(2);

/// Runs until the data path stops.
pub(super) fn run(shared: &Shared) {
    let mut out = Outgoing::default();
    let mut clocks = (SystemTime::now(), Instant::now());
    loop {
        let wake = shared.mesh().next_wake().unwrap_or_else(|| Instant::now() + IDLE);
        if !shared.wait([], Some(wake)) {
            return;
        }
        let now = (SystemTime::now(), Instant::now());
        if put_forward(clocks, now) {
            tracing::info!("wall clock put forward");
            shared.mesh().clock_put_forward();
        }
        clocks = now;
        if now.1 >= wake {
            shared.mesh().tick(&mut out, now.1);
            shared.flush(&mut out);
        }
    }
}

fn put_forward(before: (SystemTime, Instant), now: (SystemTime, Instant)) -> bool {
    let wall = now.0.duration_since(before.0).unwrap_or_default();
    wall > now.1.saturating_duration_since(before.1) + JUMP
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_put_forward_is_told_from_one_that_runs() {
        let (wall, monotonic) = (SystemTime::now(), Instant::now());
        let after = |wall_gain: u64, monotonic_gain: u64| {
            let now = (
                wall + Duration::from_secs(wall_gain),
                monotonic + Duration::from_secs(monotonic_gain),
            );
            put_forward((wall, monotonic), now)
        };

        assert!(!after(10, 10));
        assert!(!after(1, 10), "put back");
        assert!(!after(11, 10), "slewed");
        assert!(after(3600, 10));
    }
}
