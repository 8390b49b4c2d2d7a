use proptest::prelude::*;

use super::*;
use crate::view::Backend;

mod relays;

use Backend::{Direct, Udp, Vxlan, Wireguard};

const HOLD: Duration = Duration::from_secs(30);
const STEP: Duration = Duration::from_millis(200);

/// The kernel's carriers show nothing.
fn unseen(_: &str) -> Signs {
    Signs::default()
}

fn choice(ways: impl IntoIterator<Item = Way>, addresses: Vec<IpAddr>) -> Choice {
    Choice { ways: ways.into_iter().collect(), addresses, apart: false }
}

fn at(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// One peer with an address of each family, and a link that the script decides on.
struct World {
    failover: Failover,
    start: Instant,
    elapsed: Duration,
    /// What was used from when on, in seconds.
    used: Vec<(f64, Backend)>,
}

impl World {
    fn new(listed: &[Backend]) -> Self {
        let (mut failover, start) = (Failover::new(7, Chosen::new()), Instant::now());
        let addresses = vec!["10.42.2.1".parse().unwrap(), "fd42:0:0:2::1".parse().unwrap()];
        let choice = choice(listed.iter().copied().map(Way::from), addresses);
        failover.meets(&[("n2".to_owned(), choice)].into(), start);
        Self { failover, start, elapsed: Duration::ZERO, used: vec![] }
    }

    /// Lets time pass; `works` says whether a probe by a carrier to an address is answered.
    fn run(&mut self, seconds: f64, works: impl Fn(Backend, IpAddr) -> bool) -> &mut Self {
        let end = self.elapsed + at(seconds);
        while self.elapsed < end {
            let now = self.start + self.elapsed;
            for ask in self.failover.tick(HOLD, unseen, now) {
                if works(ask.by.backend, ask.to) {
                    self.failover.answered(ask, now + Duration::from_millis(3));
                }
            }
            let used = self.failover.chosen()["n2"].backend;
            if self.used.last().is_none_or(|(_, before)| *before != used) {
                self.used.push((self.elapsed.as_secs_f64(), used));
            }
            self.elapsed += STEP;
        }
        self
    }

    fn order(&self) -> Vec<Backend> {
        self.used.iter().map(|(_, backend)| *backend).collect()
    }
}

#[test]
fn the_best_that_answers_is_used_soon_after_another_falls_silent() {
    let all = [Vxlan, Udp, Wireguard];
    for (works, then, expected) in [
        (vec![Vxlan, Udp, Wireguard], vec![Udp, Wireguard], Udp),
        (vec![Vxlan, Udp, Wireguard], vec![Wireguard], Wireguard),
        (vec![Vxlan, Udp, Wireguard], vec![Vxlan], Vxlan),
        (vec![Vxlan, Udp, Wireguard], vec![], Vxlan),
        (vec![Vxlan], vec![Udp], Udp),
    ] {
        let mut world = World::new(&all);
        world.run(60.0, |by, _| works.contains(&by)).run(10.0, |by, _| then.contains(&by));

        let (when, used) = *world.used.last().unwrap();
        assert_eq!(used, expected, "{then:?}");
        assert!(used == Vxlan || when <= 64.5, "{then:?}: {when}");
    }
}

#[test]
fn at_a_start_the_best_is_used_whichever_answers_first() {
    let mut world = World::new(&[Vxlan, Udp]);

    world.run(20.0, |_, _| false).run(0.6, |by, _| by == Udp).run(60.0, |_, _| true);

    assert_eq!(world.order(), [Vxlan]);
}

#[test]
fn one_that_is_silent_in_one_family_has_failed() {
    let mut world = World::new(&[Direct, Udp]);

    world.run(20.0, |_, _| true).run(20.0, |by, to| by != Direct || to.is_ipv4());

    assert_eq!(world.order(), [Direct, Udp]);
}

#[test]
fn it_is_gone_back_to_after_thirty_seconds_of_health_and_each_relapse_doubles_them() {
    let mut world = World::new(&[Vxlan, Udp]);
    let (good, bad) = (|_: Backend, _: IpAddr| true, |by: Backend, _: IpAddr| by != Vxlan);
    world.run(10.0, good);
    let relapse = |world: &mut World| {
        world.run(15.0, bad);
        let from = world.elapsed.as_secs_f64();
        while world.used.last().unwrap().1 != Vxlan {
            world.run(5.0, good);
        }
        ((world.used.last().unwrap().0 - from) / 30.0).round()
    };

    let waited: Vec<f64> = (0..7).map(|_| relapse(&mut world)).collect();

    assert_eq!(waited, [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 32.0]);
    world.run(1000.0, good);
    assert!(relapse(&mut world) < 2.0, "long health is forgiven");
}

#[test]
fn a_break_in_its_health_begins_the_count_anew() {
    let mut world = World::new(&[Vxlan, Udp]);
    world.run(10.0, |_, _| true).run(20.0, |by, _| by != Vxlan);

    world.run(25.0, |_, _| true).run(12.0, |by, _| by != Vxlan).run(25.0, |_, _| true);

    assert_eq!(world.order(), [Vxlan, Udp]);
    world.run(10.0, |_, _| true);
    assert_eq!(world.order(), [Vxlan, Udp, Vxlan]);
}

#[test]
fn an_answer_counts_once_in_time_and_from_who_was_asked_by_what_it_came_by() {
    let mut world = World::new(&[Vxlan, Udp]);
    let now = world.start;
    let ask = world.failover.tick(HOLD, unseen, now)[0];
    let heard = |failover: &Failover| failover.pairs["n2"].lines[0].heard.len();

    for other in [
        Ask { number: ask.number + 99, ..ask },
        Ask { to: "10.42.3.1".parse().unwrap(), ..ask },
        Ask { by: Udp.into(), ..ask },
    ] {
        world.failover.answered(other, now);
        assert_eq!(heard(&world.failover), 0);
    }
    world.failover.answered(ask, now + IN_TIME);
    assert_eq!(heard(&world.failover), 0);
    let ask = world.failover.tick(HOLD, unseen, now + USUAL.every + ALARMED)[0];
    world.failover.answered(ask, now + USUAL.every + ALARMED);
    assert_eq!(heard(&world.failover), 1);
}

#[test]
fn who_stays_goes_on_as_it_is_and_only_who_is_listed_is_answered() {
    let mut world = World::new(&[Vxlan, Udp]);
    world.run(10.0, |_, _| true).run(10.0, |by, _| by != Vxlan);
    let now = world.start + world.elapsed;
    let pair = |n: u8, backends: &[Backend]| {
        let address: IpAddr = [10, 42, n, 1].into();
        (format!("n{n}"), choice(backends.iter().copied().map(Way::from), vec![address]))
    };
    let second = ("n2".to_owned(), {
        let addresses = vec!["10.42.2.1".parse().unwrap(), "fd42:0:0:2::1".parse().unwrap()];
        choice([Vxlan.into(), Udp.into()], addresses)
    });

    world.failover.meets(&[second, pair(3, &[Direct, Udp])].into(), now);

    assert_eq!(
        world.failover.chosen(),
        [("n2".into(), Udp.into()), ("n3".into(), Direct.into())].into()
    );
    assert!(world.failover.may(Direct.into(), [10, 42, 3, 1].into()));
    assert!(!world.failover.may(Vxlan.into(), [10, 42, 3, 1].into()));
    world.failover.meets(&Ways::new(), now);
    assert!(world.failover.chosen().is_empty() && world.failover.open.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn whatever_happens_a_carrier_that_answers_is_used_five_seconds_later(
        phases in prop::collection::vec((0u8..8, 1u32..60), 1..12),
        last in 1u8..8,
    ) {
        let listed = [Vxlan, Udp, Wireguard];
        let mut world = World::new(&listed);
        let works = |mask: u8| move |by: Backend, _: IpAddr| {
            let place = [Vxlan, Udp, Wireguard].iter().position(|b| *b == by).unwrap();
            mask & (1 << place) != 0
        };
        for (mask, seconds) in phases {
            world.run(f64::from(seconds), works(mask));
        }

        world.run(5.0, works(last));

        let used = world.failover.chosen()["n2"].backend;
        prop_assert!(works(last)(used, [10, 42, 2, 1].into()), "{used} with {last:03b}");
    }
}

#[test]
fn a_new_run_begins_with_what_the_last_one_used_and_goes_back_when_the_better_answers() {
    let last = [("n2".to_owned(), Way::from(Udp)), ("n9".to_owned(), Way::from(Direct))];
    let (mut failover, start) = (Failover::new(7, last.into()), Instant::now());
    assert_eq!(failover.chosen()["n2"], Udp.into(), "before it is met");
    let ways = [Vxlan, Udp].map(Way::from).to_vec();
    let choice = choice(ways, vec!["10.42.2.1".parse().unwrap()]);
    failover.meets(&[("n2".to_owned(), choice)].into(), start);

    let mut world = World { failover, start, elapsed: Duration::ZERO, used: vec![] };
    world.run(60.0, |by, _| by == Udp).run(60.0, |_, _| true);

    assert_eq!(world.order(), [Udp, Vxlan]);
    assert_eq!(world.failover.detours(), [("n9".to_owned(), Way::from(Direct))].into());
}

#[test]
fn a_last_way_that_may_carry_no_more_is_not_begun_with() {
    let last = [("n2".to_owned(), Way::from(Udp))];
    let mut failover = Failover::new(7, last.into());
    let ways = [Vxlan, Wireguard].map(Way::from).to_vec();

    let met = [("n2".to_owned(), choice(ways, vec!["10.42.2.1".parse().unwrap()]))];
    failover.meets(&met.into(), Instant::now());

    assert_eq!(failover.chosen()["n2"], Vxlan.into());
}

#[test]
fn one_that_answers_no_datagram_is_mute_until_it_does_whatever_else_it_answers() {
    let (mut failover, start) = (Failover::new(7, Chosen::new()), Instant::now());
    let tls = Way { tls: true, ..Wireguard.into() };
    let shaped = Way { shaped: true, ..Wireguard.into() };
    let to: IpAddr = "10.42.2.1".parse().unwrap();
    let ways = vec![Wireguard.into(), shaped, tls];
    failover.meets(&[("n2".to_owned(), choice(ways, vec![to]))].into(), start);
    let mut run = |from: f64, answers: &[Way]| {
        let unanswered = Some(start + at(from));
        for step in 0..50 {
            let now = start + at(from) + STEP * step;
            let signs = |_: &str| Signs { session: true, unanswered, heard: None };
            for ask in failover.tick(HOLD, signs, now) {
                if answers.contains(&ask.by) {
                    failover.answered(ask, now);
                }
            }
        }
        failover.mute().get("n2").map(|since| since.duration_since(start))
    };

    let first = run(0.0, &[tls]).unwrap();
    assert!(first <= at(1.0), "{first:?}");
    assert_eq!(run(10.0, &[tls, shaped]), None, "in the shape of VXLAN it is reached");
    let again = run(20.0, &[tls]).unwrap();
    assert!(again >= at(20.0) && again <= at(24.0), "{again:?}");
}

#[test]
fn a_pair_whose_relay_goes_takes_another_relay_and_not_what_was_found_blocked() {
    let relay = |place| Way { relay: Some(place), ..Wireguard.into() };
    let (mut failover, start) = (Failover::new(7, Chosen::new()), Instant::now());
    let to: IpAddr = "10.42.2.1".parse().unwrap();
    let of = |ways: &[Way]| [("n2".to_owned(), choice(ways.to_vec(), vec![to]))].into();
    let signs = |_: &str| Signs { session: true, ..Signs::default() };
    failover.meets(&of(&[Wireguard.into(), relay(0), relay(1)]), start);
    for step in 0..50 {
        let now = start + STEP * step;
        for ask in failover.tick(HOLD, signs, now) {
            if ask.by == relay(1) {
                failover.answered(ask, now);
            }
        }
    }
    assert_eq!(failover.chosen()["n2"], relay(1));

    failover.meets(&of(&[Wireguard.into(), relay(0)]), start + at(10.0));
    assert_eq!(failover.chosen()["n2"], relay(0));
    failover.meets(&of(&[Wireguard.into()]), start + at(10.0));
    assert_eq!(failover.chosen()["n2"], Wireguard.into());
}
