//! Timestamps: theirs may be any bytes, ours never go back.

use std::{
    sync::LazyLock,
    time::{Duration, Instant, UNIX_EPOCH},
};

use super::input::Input;
use crate::tai64n::{Clock, Timestamp};

#[allow(clippy::disallowed_methods, reason = "a moment to count from")]
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// A clock through any floor, steps of the wall clock and pauses.
pub(super) fn timestamps(data: &[u8]) {
    let mut input = Input::new(data);
    let wall = |seconds: u64| UNIX_EPOCH + Duration::from_secs(seconds >> 16);
    let floor = Timestamp::from_bytes(input.array());
    let mut now = *START;
    let mut clock = Clock::new(wall(input.long()), Some(floor.time()), now);
    let mut last = Timestamp::at(floor.time());

    while !input.is_empty() {
        match input.byte() % 3 {
            0 => clock.set_wall(wall(input.long()), now),
            1 => now += Duration::from_millis(input.short().into()),
            _ => {
                let next = clock.next(now);
                assert!(next > last, "{next:?} after {last:?}");
                assert_eq!(Timestamp::at(clock.latest()), next);
                last = next;
            }
        }
    }
}
