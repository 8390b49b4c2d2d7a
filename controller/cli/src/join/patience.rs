//! When a gateway that cannot let a machine in yet is asked again. Pure: time and chance come in.

use std::time::{Duration, Instant};

/// The first pause, and the longest of those that nobody asked for.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(5));
/// No gateway makes a machine wait longer than this at once, whatever it says.
const LONGEST: Duration = Duration::from_secs(60);

/// Pauses that double, never shorter than the gateway asks for, until an end.
#[derive(Clone, Debug)]
pub struct Patience {
    end: Instant,
    tries: u32,
    random: u64,
}

impl Patience {
    /// The same `seed` gives the same pauses; machines of one site need different ones.
    pub fn until(end: Instant, seed: u64) -> Self {
        Self { end, tries: 0, random: seed }
    }

    /// How long to wait before the next attempt; nothing if that would be after the end.
    ///
    /// `asked` is the gateway's Retry-After. Up to half as much again comes by chance, so that
    /// those who were sent away together do not come back together.
    pub fn next(&mut self, asked: Duration, now: Instant) -> Option<Duration> {
        let doubled = PAUSES.0.saturating_mul(1 << self.tries.min(10)).min(PAUSES.1);
        self.tries += 1;
        let least = asked.min(LONGEST).max(doubled);
        let pause = least + least * self.chance() / 512;
        (now + pause < self.end).then_some(pause)
    }

    /// What is left.
    pub fn left(&self, now: Instant) -> Duration {
        self.end.saturating_duration_since(now)
    }

    /// 0 to 255, by SplitMix64 (Steele, Lea, Flood 2014).
    fn chance(&mut self) -> u32 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        u32::from((mixed >> 56) as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn pauses(seed: u64, asked: Duration, limit: Duration) -> Vec<Duration> {
        let begun = Instant::now();
        let mut patience = Patience::until(begun + limit, seed);
        let mut now = begun;
        std::iter::from_fn(|| {
            let pause = patience.next(asked, now)?;
            now += pause;
            Some(pause)
        })
        .collect()
    }

    #[test]
    fn pauses_double_up_to_a_bound_and_end_before_the_end() {
        let all = pauses(1, Duration::ZERO, 60 * SECOND);

        let within = |pause: &Duration, least: Duration| *pause >= least && *pause < least * 3 / 2;
        for (pause, least) in all.iter().zip([500, 1000, 2000, 4000, 5000, 5000]) {
            assert!(within(pause, Duration::from_millis(least)), "{all:?}");
        }
        assert!(all.iter().sum::<Duration>() < 60 * SECOND);
        assert!(all.len() > 8, "{all:?}");
    }

    #[test]
    fn what_the_gateway_asks_for_is_kept_and_bounded() {
        let asked = pauses(1, 7 * SECOND, 600 * SECOND);
        let absurd = pauses(1, Duration::MAX, 600 * SECOND);

        assert!(asked.iter().all(|pause| (7 * SECOND..11 * SECOND).contains(pause)), "{asked:?}");
        assert!(absurd.iter().all(|pause| (LONGEST..LONGEST * 3 / 2).contains(pause)));
        assert!(pauses(1, 7 * SECOND, SECOND).is_empty());
    }

    #[test]
    fn machines_that_were_sent_away_together_come_back_apart() {
        let first = |seed| pauses(seed, SECOND, 60 * SECOND)[0];

        let different: std::collections::BTreeSet<_> = (0..100).map(first).collect();

        assert!(different.len() > 50, "{}", different.len());
        assert_eq!(first(7), first(7));
    }
}
