//! Two ends that have the tunnel and two relays, the packets between them, and nothing else.

use super::*;

const MOMENT: Duration = Duration::from_millis(10);
const HOLD: Duration = Duration::from_secs(2);
/// From a way's death until another carries.
const REPLACED: Duration = Duration::from_secs(2);

fn ways() -> Vec<Way> {
    let direct = Way::from(Wireguard);
    vec![direct, relay(0), relay(1)]
}

fn relay(place: u8) -> Way {
    Way { relay: Some(place), ..Wireguard.into() }
}

/// One of the two: its own decisions, and what its packets show.
struct End {
    failover: Failover,
    signs: Signs,
    sends: bool,
    /// Since when nothing of what the other sent came, and the longest time.
    gap: (Option<Instant>, Duration),
    asked: usize,
}

/// Both, and by which ways what the first sends passes, and what the second does.
struct Link {
    ends: [End; 2],
    passes: [Vec<Way>; 2],
    now: Instant,
}

impl Link {
    fn new(apart: bool) -> Self {
        let now = Instant::now();
        let end = |number: u8| {
            let mut failover = Failover::new(number.into(), Chosen::new());
            let choice = Choice { apart, ..choice(ways(), vec![[10, 42, number, 1].into()]) };
            failover.meets(&[("n".to_owned(), choice)].into(), now);
            let signs = Signs { session: true, ..Signs::default() };
            End { failover, signs, sends: false, gap: (None, Duration::ZERO), asked: 0 }
        };
        // Each knows the other by the other's number.
        Self { ends: [end(2), end(1)], passes: [ways(), ways()], now }
    }

    fn used(&self) -> [Way; 2] {
        self.ends.each_ref().map(|end| end.failover.chosen()["n"])
    }

    /// A packet of that end, a pod's or a probe: true if it comes to the other.
    fn packet(&mut self, from: usize, by: Way, data: bool) -> bool {
        if data {
            self.ends[from].signs.unanswered.get_or_insert(self.now);
        }
        let comes = self.passes[from].contains(&by);
        if comes {
            let other = &mut self.ends[1 - from].signs;
            (other.heard, other.unanswered) = (Some(self.now), None);
        }
        comes
    }

    fn decide(&mut self, from: usize) {
        let (signs, now) = (self.ends[from].signs, self.now);
        let asks = self.ends[from].failover.tick(HOLD, |_| signs, now);
        self.ends[from].asked += asks.len();
        for ask in asks {
            if !self.packet(from, ask.by, false) {
                continue;
            }
            let asker: IpAddr = [10, 42, from as u8 + 1, 1].into();
            if self.packet(1 - from, ask.by, false) {
                self.ends[from].failover.answered(ask, now);
            }
            if ask.alarm && self.ends[1 - from].failover.alarmed(ask.by, asker, now) {
                self.decide(1 - from);
            }
        }
    }

    fn traffic(&mut self, from: usize) {
        let used = self.used()[from];
        let comes = self.packet(from, used, true);
        let (now, gap) = (self.now, &mut self.ends[1 - from].gap);
        let since = gap.0.get_or_insert(now);
        gap.1 = gap.1.max(now - *since);
        if comes {
            gap.0 = Some(now);
        }
    }

    fn run(&mut self, time: Duration, sends: [bool; 2]) -> &mut Self {
        for (end, sends) in self.ends.iter_mut().zip(sends) {
            (end.sends, end.gap, end.asked) = (sends, (None, Duration::ZERO), 0);
        }
        let end = self.now + time;
        for moment in 0_u32.. {
            if self.now >= end {
                break;
            }
            for from in 0..2 {
                // The two do not look at the same time.
                if moment % 20 == 7 * from as u32 {
                    self.decide(from);
                }
                if self.ends[from].sends {
                    self.traffic(from);
                }
            }
            self.now += MOMENT;
        }
        self
    }

    fn asked(&self) -> usize {
        self.ends.iter().map(|end| end.asked).sum()
    }

    fn gap(&self) -> Duration {
        self.ends.iter().map(|end| end.gap.1).max().unwrap_or_default()
    }
}

const LONG: Duration = Duration::from_secs(60);
const ALL: [[bool; 2]; 3] = [[true, false], [false, true], [true, true]];

#[test]
fn a_pair_that_is_well_is_not_asked_whether_or_not_it_speaks() {
    let mut link = Link::new(false);
    link.run(LONG, [false, false]);
    assert_eq!(link.used(), [ways()[0]; 2]);

    assert_eq!(link.run(10 * LONG, [false, false]).asked(), 0, "it is silent");
    assert_eq!(link.run(10 * LONG, [true, true]).asked(), 0, "both speak");
    let asked = link.run(10 * LONG, [true, false]).asked();
    assert!((1..=1500).contains(&asked), "one speaks, nobody answers but to questions: {asked}");
    assert_eq!(link.used(), [ways()[0]; 2]);
}

#[test]
fn a_way_that_dies_is_left_within_two_seconds_by_whoever_used_it() {
    for sends in ALL {
        for dead in [[true, false], [false, true], [true, true]] {
            let mut link = Link::new(false);
            link.run(LONG, sends);
            for (passes, dead) in link.passes.iter_mut().zip(dead) {
                passes.retain(|way| !dead || way.relay.is_some());
            }

            link.run(LONG, sends);

            assert!(link.gap() <= REPLACED, "{sends:?} {dead:?}: {:?}", link.gap());
            let lost =
                (0..2).any(|from| sends[from] && !link.passes[from].contains(&link.used()[from]));
            assert!(!lost, "{sends:?} {dead:?}: {:?}", link.used());
        }
    }
}

#[test]
fn another_relay_takes_the_place_of_one_that_dies_and_the_direct_way_is_taken_back() {
    for sends in ALL {
        let mut link = Link::new(false);
        link.run(LONG, sends);
        link.passes = [vec![relay(0), relay(1)], vec![relay(0), relay(1)]];
        link.run(LONG, [true, true]);
        assert_eq!(link.used(), [relay(0); 2]);

        link.passes = [vec![relay(1)], vec![relay(1)]];
        link.run(LONG, sends);
        assert!(link.gap() <= REPLACED, "{sends:?}: {:?}", link.gap());

        link.passes = [ways(), ways()];
        link.run(LONG, sends);
        assert_eq!(link.used(), [ways()[0]; 2]);
        assert_eq!(link.gap(), MOMENT, "and nothing is lost on the way back");
        let asked = link.run(LONG, [false, false]).asked();
        assert!(asked <= 2, "the last packet was followed by none: {asked}");
    }
}

#[test]
fn two_that_are_apart_begin_by_a_relay_and_are_tried_directly_now_and_then() {
    let mut link = Link::new(true);
    link.passes = [vec![relay(0), relay(1)], vec![relay(0), relay(1)]];
    assert_eq!(link.used(), [relay(0); 2]);

    link.run(LONG, [true, true]);
    assert_eq!(link.gap(), MOMENT);
    let asked = link.run(10 * LONG, [true, true]).asked();
    assert!(asked <= 2 * 2 * 20, "each asks every thirty seconds: {asked}");

    link.passes = [ways(), ways()];
    link.run(LONG, [true, true]);
    assert_eq!((link.used(), link.gap()), ([ways()[0]; 2], MOMENT));
}

#[test]
fn one_that_is_dead_is_asked_rarely_and_found_when_it_is_heard_again() {
    let mut link = Link::new(false);
    link.passes = [vec![], vec![]];
    link.run(LONG, [true, false]);
    let asked = link.run(LONG, [true, false]).asked();
    assert!(asked <= 2 * 3 * 21, "every three seconds by three ways: {asked}");

    link.passes = [vec![relay(0)], vec![relay(0)]];
    link.run(Duration::from_secs(6), [true, true]);
    assert_eq!(link.used(), [relay(0); 2]);
}

#[test]
fn without_a_session_only_one_way_is_asked() {
    let mut link = Link::new(false);
    link.passes = [vec![], vec![]];
    for end in &mut link.ends {
        end.signs.session = false;
    }

    link.run(Duration::from_secs(10), [false, false]);

    assert!(link.asked() <= 2 * 26, "{}", link.asked());
}

#[test]
fn what_changes_about_the_relays_leaves_the_way_in_use() {
    let mut link = Link::new(false);
    link.run(LONG, [true, true]);
    link.passes = [vec![relay(0), relay(1)], vec![relay(0), relay(1)]];
    link.run(LONG, [true, true]);
    assert_eq!(link.used(), [relay(0); 2]);

    for (number, end) in (1u8..).zip(&mut link.ends) {
        let address = vec![[10, 42, 3 - number, 1].into()];
        let choice = choice(ways().into_iter().chain([relay(2)]), address);
        end.failover.meets(&[("n".to_owned(), choice)].into(), link.now);
    }

    assert_eq!(link.used(), [relay(0); 2]);
    assert_eq!(link.run(LONG, [true, true]).gap(), MOMENT);
}
