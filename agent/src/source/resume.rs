//! Finds that this machine was suspended: it may have missed that somebody was revoked.
//!
//! One clock counts the time of a suspend, the other does not. A process that merely got no time to
//! run sees both go on alike, so an overloaded machine does not stop speaking with its peers.

use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};
use tokio::time::sleep;

use super::contact::Contact;

/// Between two looks at the clocks: so long a resumed machine may speak with whom it knew.
const TICK: Duration = Duration::from_millis(500);
/// Whoever slept less has missed no more than one whose watch was slow.
const LONG: Duration = Duration::from_secs(10);

/// Both clocks at one moment, since the boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Clocks {
    with_sleep: Duration,
    awake: Duration,
}

impl Clocks {
    fn read() -> Self {
        let since = |at: Timespec| {
            let seconds = u64::try_from(at.tv_sec).unwrap_or_default();
            Duration::new(seconds, u32::try_from(at.tv_nsec).unwrap_or_default())
        };
        // Awake first: what passes between the two looks like sleep, and is far too short.
        let awake = since(clock_gettime(ClockId::Monotonic));
        Self { with_sleep: since(clock_gettime(ClockId::Boottime)), awake }
    }

    /// How long the machine was suspended between two looks.
    fn slept_since(self, before: Self) -> Duration {
        let awake = self.awake.saturating_sub(before.awake);
        self.with_sleep.saturating_sub(before.with_sleep).saturating_sub(awake)
    }
}

/// Tells `contact` of each resume, for ever.
pub async fn watch(contact: Contact) {
    let mut before = Clocks::read();
    loop {
        sleep(TICK).await;
        let now = Clocks::read();
        let slept = now.slept_since(before);
        if slept >= LONG {
            tracing::info!(seconds = slept.as_secs(), "this machine slept; asking the API again");
            contact.resumed();
        }
        before = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(with_sleep: u64, awake: u64) -> Clocks {
        let (with_sleep, awake) = (Duration::from_secs(with_sleep), Duration::from_secs(awake));
        Clocks { with_sleep, awake }
    }

    #[test]
    fn a_suspend_is_told_from_a_process_that_got_no_time() {
        let before = at(1000, 900);

        assert!(at(1012, 901).slept_since(before) >= LONG, "11 s asleep");
        assert!(at(1012, 912).slept_since(before).is_zero(), "12 s stopped or starved");
        assert!(at(1022, 912).slept_since(before) >= LONG, "starved, and asleep for 10 s");
        assert!(at(1009, 900).slept_since(before) < LONG, "a short nap");
        assert!(at(1000, 900).slept_since(before).is_zero());
    }

    #[test]
    fn the_clocks_of_this_machine_go_on_together_while_it_is_awake() {
        let before = Clocks::read();

        std::thread::sleep(Duration::from_millis(20));
        let now = Clocks::read();

        assert!(now.awake.saturating_sub(before.awake) >= Duration::from_millis(20));
        assert!(now.slept_since(before) < Duration::from_secs(1));
    }
}
