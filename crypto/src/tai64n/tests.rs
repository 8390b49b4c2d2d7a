#![allow(clippy::disallowed_methods, reason = "a moment to count from")]

use proptest::prelude::*;

use super::*;

fn wall(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

#[test]
fn the_bytes_are_tai64n() {
    let time = wall(1_800_000_000) + Duration::from_nanos(0x0102_0304);

    assert_eq!(
        *Timestamp::at(time).as_bytes(),
        [0x40, 0, 0, 0, 0x6b, 0x49, 0xd2, 0x25, 1, 2, 3, 4]
    );
    assert_eq!(Timestamp::at(UNIX_EPOCH).as_bytes()[..8], [0x40, 0, 0, 0, 0, 0, 0, 37]);
    assert_eq!(Timestamp::at(UNIX_EPOCH - Duration::from_secs(9)), Timestamp::at(UNIX_EPOCH));
}

#[test]
fn a_clock_that_is_asked_twice_at_once_gives_two_timestamps() {
    let now = Instant::now();
    let mut clock = Clock::new(wall(1_000), None, now);

    let given: Vec<_> = (0..10_000).map(|_| clock.next(now)).collect();

    assert!(given.is_sorted_by(|a, b| a < b));
    assert!(clock.latest() < wall(1_001));
}

#[test]
fn a_clock_never_goes_back_whatever_the_wall_clock_does() {
    let now = Instant::now();
    let mut clock = Clock::new(wall(5_000), None, now);
    let first = clock.next(now);

    clock.set_wall(wall(10), now);
    let after_a_step_back = clock.next(now + Duration::from_secs(1));
    clock.set_wall(wall(9_000), now);
    let after_a_step_forward = clock.next(now + Duration::from_secs(2));

    assert!(first < after_a_step_back);
    assert!(after_a_step_back < Timestamp::at(wall(5_001)));
    assert_eq!(after_a_step_forward, Timestamp::at(wall(9_002)));
}

#[test]
fn a_restart_with_a_slow_clock_goes_on_from_the_floor() {
    let now = Instant::now();
    let mut before = Clock::new(wall(5_000), None, now);
    let last = before.next(now);

    let mut after = Clock::new(wall(60), Some(before.latest()), now);

    assert!(after.next(now) > last);
}

#[test]
fn timestamps_do_not_tell_fine_times() {
    let now = Instant::now();
    let mut clock = Clock::new(wall(1) + Duration::from_nanos(987_654_321), None, now);

    let nanos = u32::from_be_bytes(*clock.next(now).as_bytes()[8..].first_chunk().unwrap());

    assert_eq!(nanos % GRAIN, 0);
}

proptest! {
    #[test]
    fn the_order_of_bytes_is_the_order_of_times(
        a in 0u64..1 << 40, b in 0u64..1 << 40, x in 0u32..NANOS, y in 0u32..NANOS,
    ) {
        let (a, b) = (wall(a) + Duration::new(0, x), wall(b) + Duration::new(0, y));

        prop_assert_eq!(Timestamp::at(a).cmp(&Timestamp::at(b)), a.cmp(&b));
        prop_assert_eq!(Timestamp::at(a).time(), a);
    }

    #[test]
    fn whatever_a_peer_sends_is_some_time(bytes: [u8; 12], wall_seconds in 0u64..1 << 40) {
        let timestamp = Timestamp::from_bytes(bytes);
        let now = Instant::now();
        let mut clock = Clock::new(wall(wall_seconds), Some(timestamp.time()), now);
        let (first, second) = (clock.next(now), clock.next(now));
        prop_assert!(first < second);
    }
}
