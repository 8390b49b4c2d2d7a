//! How long a released subnet has rested, by a clock that cannot jump.
//!
//! `releasedAt` in a claim is a wall clock's word, and wall clocks jump. A controller therefore
//! counts the rest itself, on its monotonic clock, from the moment it first saw the claim released.
//! A claim's generation grows whenever it is bound, so "still the same generation" means "released
//! all the while". The price is that the rest starts again when a controller does.

use std::collections::HashMap;
use std::time::Duration;

use ipnet::IpNet;

/// WireGuard forgets a session after 180 s; the rest is for the slowest agent to hear of it.
pub const REST: Duration = Duration::from_secs(190);

/// When this process first saw each claim at rest.
#[derive(Clone, Debug)]
pub struct Rests {
    rest: Duration,
    seen: HashMap<(IpNet, i64), Duration>,
}

impl Default for Rests {
    fn default() -> Rests {
        Rests::of(REST)
    }
}

impl Rests {
    /// Counts rests of another length, for tests.
    pub fn of(rest: Duration) -> Rests {
        Rests { rest, seen: HashMap::new() }
    }

    /// Takes note of every claim that is released in this view: (subnet, generation).
    /// `now` is the time since the process started. Claims not named are forgotten.
    pub fn observe(&mut self, released: impl IntoIterator<Item = (IpNet, i64)>, now: Duration) {
        let before = std::mem::take(&mut self.seen);
        self.seen = released
            .into_iter()
            .map(|key| (key, before.get(&key).copied().unwrap_or(now)))
            .collect();
    }

    /// Whether the claim may be bound to another node.
    pub fn is_over(&self, subnet: IpNet, generation: i64, now: Duration) -> bool {
        self.seen
            .get(&(subnet, generation))
            .is_some_and(|since| now.saturating_sub(*since) >= self.rest)
    }

    /// When the next rest ends.
    pub fn next_end(&self, now: Duration) -> Option<Duration> {
        self.seen.values().map(|since| *since + self.rest).filter(|end| *end > now).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUBNET: &str = "10.42.3.0/24";

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_rest_counts_from_the_first_sight_of_the_release() {
        let subnet = SUBNET.parse().unwrap();
        let mut rests = Rests::default();
        rests.observe([(subnet, 1)], at(1000));
        rests.observe([(subnet, 1)], at(1100));

        assert!(!rests.is_over(subnet, 1, at(1189)));
        assert!(rests.is_over(subnet, 1, at(1190)));
        assert_eq!(rests.next_end(at(1100)), Some(at(1190)));
    }

    #[test]
    fn a_new_generation_rests_anew() {
        let subnet = SUBNET.parse().unwrap();
        let mut rests = Rests::default();
        rests.observe([(subnet, 1)], at(0));
        rests.observe([(subnet, 2)], at(500));

        assert!(!rests.is_over(subnet, 1, at(600)));
        assert!(!rests.is_over(subnet, 2, at(600)));
        assert!(rests.is_over(subnet, 2, at(690)));
    }
}
