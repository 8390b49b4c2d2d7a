//! Wakes the mesh when something is due.

use std::time::{Duration, Instant};

use super::{batch::Outgoing, shared::Shared};

/// How often to look while the mesh has nobody to care for.
const IDLE: Duration = Duration::from_secs(1);

/// Runs until the data path stops.
pub(super) fn run(shared: &Shared) {
    let mut out = Outgoing::default();
    loop {
        let wake = shared
            .mesh()
            .next_wake()
            .unwrap_or_else(|| Instant::now() + IDLE);
        if !shared.wait([], Some(wake)) {
            return;
        }
        let now = Instant::now();
        if now >= wake {
            shared.mesh().tick(&mut out, now);
            shared.flush(&mut out);
        }
    }
}
