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

/// So long after a round of probes the devices are watched, and no longer: an open packet socket has every
/// packet of the node looked at. A probe that was not seen by then will not be any more.
const WATCHED: Duration = Duration::from_secs(1);
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
    to: String,
    sent: Instant,
    on_tunnel: bool,
    /// The devices that showed it in clear.
    outside: BTreeSet<String>,
    counted: bool,
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
    fn sends(&mut self, to: &str, now: Instant) -> u64 {
        self.probes.retain(|_, probe| now < probe.sent + KEPT);
        (self.number, self.sent) = (self.number + 1, self.sent + 1);
        let (to, outside) = (to.to_owned(), BTreeSet::new());
        let probe = Probe { to, sent: now, on_tunnel: false, outside, counted: false };
        self.probes.insert(self.number, probe);
        self.number
    }

    /// The kernel refused to send it, as the guard does where there is no tunnel yet.
    fn refused(&mut self, number: u64) {
        self.sent -= u64::from(self.probes.remove(&number).is_some());
    }

    fn seen(&mut self, number: u64, place: Place) {
        let Some(probe) = self.probes.get_mut(&number) else { return };
        match place {
            Place::Tunnel => probe.on_tunnel = true,
            Place::Outside(device) if probe.outside.len() < NAMED => {
                probe.outside.insert(device);
            }
            Place::Outside(_) => {}
        }
    }

    /// Counts what was seen in clear of nodes that are sealed to all the same, at the end of the watch:
    /// the Mesh may just have come to permit it. Each probe once, however many devices showed it.
    /// Returns how many are new.
    fn settle(&mut self, sealed: impl Fn(&str) -> bool, now: Instant) -> u64 {
        let before = self.in_clear;
        for probe in self.probes.values_mut() {
            if probe.counted || probe.outside.is_empty() || now < probe.sent + WATCHED {
                continue;
            }
            probe.counted = true;
            if sealed(&probe.to) {
                self.in_clear += 1;
                self.devices.append(&mut probe.outside);
            }
        }
        self.in_clear - before
    }

    fn verdict(&self, now: Instant) -> CanaryVerdict {
        if self.in_clear > 0 {
            return CanaryVerdict::Clear;
        }
        let mut latest_first = self.probes.values().rev();
        match latest_first.find(|probe| now >= probe.sent + WATCHED) {
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

    fn outside(device: &str) -> Place {
        Place::Outside(device.to_owned())
    }

    #[test]
    fn a_probe_that_only_the_tunnel_shows_is_clean_and_one_that_nobody_shows_makes_it_blind() {
        let (mut tally, start) = (Tally::default(), Instant::now());
        assert_eq!(tally.verdict(start), CanaryVerdict::Idle);

        let first = tally.sends("b", start);
        assert_eq!(tally.verdict(start), CanaryVerdict::Idle, "it may still be on its way");
        tally.seen(first, Place::Tunnel);
        assert_eq!(tally.verdict(start + WATCHED), CanaryVerdict::Clean);
        let second = start + 3 * WATCHED;
        tally.sends("b", second);
        assert_eq!(tally.verdict(second), CanaryVerdict::Clean);
        assert_eq!(tally.verdict(second + WATCHED), CanaryVerdict::Blind);
        assert!(tally.report(second + WATCHED).why.is_some());
    }

    #[test]
    fn a_probe_in_clear_counts_once_and_is_not_forgotten() {
        let (mut tally, start) = (Tally::default(), Instant::now());
        let first = tally.sends("b", start);

        tally.seen(first, outside("eth0"));
        tally.seen(first, outside("br0"));
        tally.seen(first, Place::Tunnel);
        assert_eq!(tally.settle(|_| true, start), 0, "it is not certain yet");
        assert_eq!(tally.settle(|_| true, start + WATCHED), 1);
        assert_eq!(tally.settle(|_| true, start + WATCHED), 0, "counted already");

        let later = start + 2 * KEPT;
        let second = tally.sends("b", later);
        tally.seen(second, Place::Tunnel);
        let report = tally.report(later + WATCHED);
        assert_eq!((report.sent, report.seen_in_clear), (2, 1));
        assert_eq!(report.verdict, CanaryVerdict::Clear);
        assert_eq!(report.devices, ["br0", "eth0"]);
    }

    #[test]
    fn a_probe_that_left_while_the_mesh_came_to_permit_clear_text_is_no_leak() {
        let (mut tally, start) = (Tally::default(), Instant::now());
        for node in ["opened", "sealed"] {
            let number = tally.sends(node, start);
            tally.seen(number, outside("eth0"));
        }

        assert_eq!(tally.settle(|node| node == "sealed", start + WATCHED), 1);
        assert_eq!(tally.settle(|_| true, start + 2 * WATCHED), 0, "that is judged once");
    }

    #[test]
    fn what_was_never_sent_or_refused_counts_for_nothing() {
        let (mut tally, start) = (Tally::default(), Instant::now());
        let refused = tally.sends("b", start);

        tally.refused(refused);
        for number in [refused, 99] {
            tally.seen(number, outside("eth0"));
        }

        assert_eq!(tally.settle(|_| true, start + WATCHED), 0);
        let report = tally.report(start + WATCHED);
        assert_eq!(
            (report.sent, report.seen_in_clear, report.verdict),
            (0, 0, CanaryVerdict::Idle)
        );
    }
}
