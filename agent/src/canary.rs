//! The standing canary: a marked packet to each other node every few seconds, which must be readable
//! on the tunnel's device and nowhere else. Pure: no clock, no socket.
//!
//! ```text
//!  probe ─▶ kernel's routes ─▶ hawser0 ─▶ sealed ─▶ eth0
//!                                 │                   │
//!                       seen: it can be read   seen: CLEAR      neither: the canary is blind
//! ```
//! Without the first sight "not seen on the underlay" proves nothing, and is called blind.

mod filter;
mod tap;
mod watch;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::Instant;

pub(crate) use self::watch::Watch;
use crate::admin::{CanaryState, CanaryVerdict};

/// A probe that was not seen anywhere for so long will not be any more.
const LATE: Duration = Duration::from_secs(2);
/// Sights of older probes are nobody's.
const KEPT: Duration = Duration::from_secs(60);
/// Devices that are named; there are rarely two.
const NAMED: usize = 8;

/// Where a probe was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// Where it has to be readable.
    Tunnel,
    /// On a device of this name, where it must not be.
    Outside(String),
}

#[derive(Debug)]
struct Probe {
    sent: Instant,
    on_tunnel: bool,
    outside: bool,
}

/// All probes of this run.
#[derive(Debug, Default)]
struct Tally {
    number: u64,
    probes: BTreeMap<u64, Probe>,
    sent: u64,
    in_clear: u64,
    devices: BTreeSet<String>,
}

impl Tally {
    /// Counts a probe that left, and forgets old ones. Its number is in the packet.
    fn sends(&mut self, now: Instant) -> u64 {
        self.probes.retain(|_, probe| now < probe.sent + KEPT);
        (self.number, self.sent) = (self.number + 1, self.sent + 1);
        let probe = Probe { sent: now, on_tunnel: false, outside: false };
        self.probes.insert(self.number, probe);
        self.number
    }

    /// The kernel refused to send it, as the guard does where there is no tunnel yet.
    fn refused(&mut self, number: u64) {
        self.sent -= u64::from(self.probes.remove(&number).is_some());
    }

    /// Each probe counts once, however many devices show it. True if it is news.
    fn seen(&mut self, number: u64, place: Place) -> bool {
        let Some(probe) = self.probes.get_mut(&number) else { return false };
        match place {
            Place::Tunnel => !std::mem::replace(&mut probe.on_tunnel, true),
            Place::Outside(device) => {
                let first = !std::mem::replace(&mut probe.outside, true);
                self.in_clear += u64::from(first);
                if self.devices.len() < NAMED {
                    self.devices.insert(device);
                }
                first
            }
        }
    }

    fn verdict(&self, now: Instant) -> CanaryVerdict {
        if self.in_clear > 0 {
            return CanaryVerdict::Clear;
        }
        let mut latest_first = self.probes.values().rev();
        match latest_first.find(|probe| now >= probe.sent + LATE) {
            None => CanaryVerdict::Idle,
            Some(last) if last.on_tunnel => CanaryVerdict::Clean,
            Some(_) => CanaryVerdict::Blind,
        }
    }

    fn report(&self, now: Instant) -> CanaryState {
        let verdict = self.verdict(now);
        let why = "probes are not seen on the tunnel's device either".to_owned();
        CanaryState {
            verdict,
            sent: self.sent,
            seen_in_clear: self.in_clear,
            devices: self.devices.iter().cloned().collect(),
            why: (verdict == CanaryVerdict::Blind).then_some(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outside() -> Place {
        Place::Outside("eth0".to_owned())
    }

    #[test]
    fn a_probe_that_only_the_tunnel_shows_is_clean_and_one_that_nobody_shows_makes_it_blind() {
        let (mut tally, start) = (Tally::default(), Instant::now());
        assert_eq!(tally.verdict(start), CanaryVerdict::Idle);

        let first = tally.sends(start);
        assert_eq!(tally.verdict(start), CanaryVerdict::Idle, "it may still be on its way");
        assert!(tally.seen(first, Place::Tunnel));
        assert_eq!(tally.verdict(start + LATE), CanaryVerdict::Clean);
        let second = start + 3 * LATE;
        tally.sends(second);
        assert_eq!(tally.verdict(second), CanaryVerdict::Clean);
        assert_eq!(tally.verdict(second + LATE), CanaryVerdict::Blind);
        assert!(tally.report(second + LATE).why.is_some());
    }

    #[test]
    fn a_probe_in_clear_counts_once_and_is_not_forgotten() {
        let (mut tally, start) = (Tally::default(), Instant::now());
        let first = tally.sends(start);

        assert!(tally.seen(first, outside()));
        assert!(!tally.seen(first, Place::Outside("br0".to_owned())));
        assert!(tally.seen(first, Place::Tunnel));

        let later = start + 2 * KEPT;
        let second = tally.sends(later);
        assert!(tally.seen(second, Place::Tunnel));
        let report = tally.report(later + LATE);
        assert_eq!((report.sent, report.seen_in_clear), (2, 1));
        assert_eq!(report.verdict, CanaryVerdict::Clear);
        assert_eq!(report.devices, ["br0", "eth0"]);
    }

    #[test]
    fn what_was_never_sent_or_refused_counts_for_nothing() {
        let (mut tally, start) = (Tally::default(), Instant::now());
        let refused = tally.sends(start);

        tally.refused(refused);

        assert!(!tally.seen(refused, outside()) && !tally.seen(99, outside()));
        let report = tally.report(start + LATE);
        assert_eq!(
            (report.sent, report.seen_in_clear, report.verdict),
            (0, 0, CanaryVerdict::Idle)
        );
    }
}
