//! How much is passed on for each sender: a bucket of one second's bytes each. Pure: no clock.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// A bucket is full again after so long, and then need not be kept.
const FULL: Duration = Duration::from_secs(1);
/// So many senders are kept before those whose bucket is full again are forgotten.
const KEPT: usize = 1024;

/// By what each sender is called: what is left, and when that was.
#[derive(Debug, Default)]
pub(super) struct Quotas(BTreeMap<u64, (u64, Instant)>);

impl Quotas {
    /// True if `bytes` more of that sender may be passed on, where `rate` bytes a second may.
    pub(super) fn take(&mut self, sender: u64, bytes: u64, (rate, now): (u64, Instant)) -> bool {
        if self.0.len() >= KEPT {
            self.0.retain(|_, (_, at)| now < *at + FULL);
        }
        let (left, at) = self.0.entry(sender).or_insert((rate, now));
        let micros = now.saturating_duration_since(*at).min(FULL).as_micros() as u64;
        let gained = (u128::from(rate) * u128::from(micros) / 1_000_000) as u64;
        if gained > 0 {
            (*left, *at) = (left.saturating_add(gained).min(rate), now);
        }
        let enough = *left >= bytes;
        *left -= if enough { bytes } else { 0 };
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_has_a_second_in_advance_and_its_rate_from_then_on_and_harms_no_other() {
        let (mut quotas, start) = (Quotas::default(), Instant::now());
        let mut passed = |sender: u64, milliseconds: u64| {
            let now = start + Duration::from_millis(milliseconds);
            (0..2000).filter(|_| quotas.take(sender, 1000, (1_000_000, now))).count()
        };

        assert_eq!(passed(1, 0), 1000);
        assert_eq!(passed(1, 0), 0);
        assert_eq!(passed(2, 0), 1000, "another sender");
        assert_eq!(passed(1, 100), 100);
        assert_eq!(passed(1, 60_000), 1000, "never more than a second's");
    }
}
