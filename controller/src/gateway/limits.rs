//! Who may ask how often: token buckets, and how many connections a source may hold. Pure.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use tokio::time::Instant;

/// So many at once, and afterwards one in this time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    pub(super) burst: u32,
    pub(super) each: Duration,
}

/// One bucket for each of those who ask.
#[derive(Debug)]
pub(super) struct Buckets<K> {
    rate: Rate,
    /// What is left, and when that was so.
    left: HashMap<K, (f64, Instant)>,
}

/// Buckets that are kept at once. Beyond them strangers wait; who is known goes on.
const MOST: usize = 65_536;

impl<K: Eq + Hash> Buckets<K> {
    pub(super) fn new(rate: Rate) -> Self {
        Self { rate, left: HashMap::new() }
    }

    /// Whether this one is within the limit; if so, it counts.
    pub(super) fn allows(&mut self, who: K, now: Instant) -> bool {
        let burst = f64::from(self.rate.burst);
        let each = self.rate.each.as_secs_f64();
        let left = |&(left, at): &(f64, Instant)| {
            (left + now.saturating_duration_since(at).as_secs_f64() / each).min(burst)
        };
        if self.left.len() >= MOST && !self.left.contains_key(&who) {
            // Who has been silent long enough needs no bucket.
            self.left.retain(|_, bucket| left(bucket) < burst);
            if self.left.len() >= MOST {
                return false;
            }
        }
        let now_left = self.left.get(&who).map_or(burst, left);
        let allowed = now_left >= 1.0;
        self.left.insert(who, (if allowed { now_left - 1.0 } else { now_left }, now));
        allowed
    }
}

/// Whom an address stands for: a host of IPv4, a /64 of IPv6, which one host can have whole.
pub(super) fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

/// How many of something each holds right now.
#[derive(Debug)]
pub(super) struct Holds<K> {
    most_each: usize,
    most: usize,
    held: HashMap<K, usize>,
    sum: usize,
}

impl<K: Eq + Hash> Holds<K> {
    pub(super) fn new(most_each: usize, most: usize) -> Self {
        Self { most_each, most, held: HashMap::new(), sum: 0 }
    }

    /// True if one more is taken; then it is to be given back.
    pub(super) fn take(&mut self, who: K) -> bool {
        let held = self.held.get(&who).copied().unwrap_or(0);
        if held >= self.most_each || self.sum >= self.most {
            return false;
        }
        self.held.insert(who, held + 1);
        self.sum += 1;
        true
    }

    pub(super) fn give_back(&mut self, who: &K) {
        let Some(held) = self.held.get_mut(who) else {
            return;
        };
        *held -= 1;
        self.sum -= 1;
        if *held == 0 {
            self.held.remove(who);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_too_often_waits_and_others_do_not() {
        let now = Instant::now();
        let mut buckets = Buckets::new(Rate { burst: 10, each: Duration::from_secs(6) });
        let mut allowed = |who: u8, seconds| {
            let now = now + Duration::from_secs(seconds);
            (0..10_000).filter(|_| buckets.allows(who, now)).count()
        };

        assert_eq!(allowed(1, 0), 10);
        assert_eq!(allowed(2, 0), 10);
        assert_eq!(allowed(1, 13), 2);
        assert_eq!(allowed(1, 3600), 10);
    }

    #[test]
    fn a_flood_of_sources_takes_bounded_memory_and_none_of_the_known_ones_room() {
        let now = Instant::now();
        let mut buckets = Buckets::new(Rate { burst: 2, each: Duration::from_secs(6) });
        assert!(buckets.allows(0, now));

        let strangers = (1..200_000).filter(|who| buckets.allows(*who, now)).count();

        assert_eq!(strangers, MOST - 1);
        assert!(buckets.allows(0, now));
        assert!(buckets.allows(200_000, now + Duration::from_secs(60)));
    }

    #[test]
    fn one_host_is_one_source_in_both_families() {
        let same = |a: &str, b: &str| source(a.parse().unwrap()) == source(b.parse().unwrap());

        assert!(same("192.0.2.1", "::ffff:192.0.2.1"));
        assert!(!same("192.0.2.1", "192.0.2.2"));
        assert!(same("2001:db8::1", "2001:db8::ffff:1"));
        assert!(!same("2001:db8::1", "2001:db8:0:1::1"));
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let mut holds = Holds::new(2, 3);

        assert!(holds.take(1) && holds.take(1) && !holds.take(1));
        assert!(holds.take(2) && !holds.take(3));
        holds.give_back(&1);
        assert!(holds.take(3));
    }
}
