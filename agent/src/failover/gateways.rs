//! Which gateways are silent: those that this node hands packets to are asked all the time. Pure: no
//! clock, no socket.
//!
//! ```text
//!            no answer for 1.6 s
//!   answers ────────────────────▶ silent
//!           ◀────────────────────
//!            answered for `hold` without a break
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use tokio::time::Instant;

use super::Ask;
use crate::plan::Way;

/// Between two questions to one gateway.
const EVERY: Duration = Duration::from_millis(400);
/// From the last answer until it counts as silent: three questions without one.
const SILENT: Duration = Duration::from_millis(1600);
/// Later answers are none.
const IN_TIME: Duration = Duration::from_secs(1);

/// What a gateway is asked by, and where.
pub(super) type Asked = BTreeMap<String, (Way, Vec<IpAddr>)>;

#[derive(Debug)]
pub(super) struct Gateways {
    watched: BTreeMap<String, Watched>,
    /// Questions without an answer yet.
    open: BTreeMap<u64, (String, Ask, Instant)>,
    number: u64,
}

#[derive(Debug)]
struct Watched {
    heard: Instant,
    asked: Option<Instant>,
    standing: Standing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Answers,
    Silent,
    /// It answers again, since then, and is not trusted yet.
    Returns(Instant),
}

impl Gateways {
    /// `number`, by chance, is what the first question is called.
    pub(super) fn new(number: u64) -> Self {
        Self { watched: BTreeMap::new(), open: BTreeMap::new(), number: number >> 1 }
    }

    /// What to ask now. One that is new counts as heard.
    pub(super) fn tick(&mut self, gateways: &Asked, hold: Duration, now: Instant) -> Vec<Ask> {
        self.watched.retain(|name, _| gateways.contains_key(name));
        self.open.retain(|_, (_, _, sent)| now < *sent + IN_TIME);
        let mut asks = Vec::new();
        for (name, (by, addresses)) in gateways {
            let new = || Watched { heard: now, asked: None, standing: Standing::Answers };
            let watched = self.watched.entry(name.clone()).or_insert_with(new);
            watched.judge(hold, now);
            if watched.asked.is_some_and(|asked| now < asked + EVERY) {
                continue;
            }
            watched.asked = Some(now);
            for to in addresses {
                self.number += 1;
                let ask = Ask { to: *to, by: *by, number: self.number, alarm: false };
                self.open.insert(ask.number, (name.clone(), ask, now));
                asks.push(ask);
            }
        }
        asks
    }

    /// Only who was asked can answer, and once.
    pub(super) fn answered(&mut self, answer: Ask, now: Instant) {
        if self.open.get(&answer.number).is_none_or(|(_, ask, _)| *ask != answer) {
            return;
        }
        let Some((name, _, sent)) = self.open.remove(&answer.number) else { return };
        if let Some(watched) = self.watched.get_mut(&name).filter(|_| now < sent + IN_TIME) {
            watched.heard = now;
        }
    }

    pub(super) fn silent(&self) -> BTreeSet<String> {
        let silent =
            self.watched.iter().filter(|(_, watched)| watched.standing != Standing::Answers);
        silent.map(|(name, _)| name.clone()).collect()
    }
}

impl Watched {
    fn judge(&mut self, hold: Duration, now: Instant) {
        let answers = now < self.heard + SILENT;
        self.standing = match (self.standing, answers) {
            (_, false) => Standing::Silent,
            (Standing::Silent, true) => Standing::Returns(now),
            (Standing::Returns(since), true) if now < since + hold => Standing::Returns(since),
            (Standing::Answers | Standing::Returns(_), true) => Standing::Answers,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::Backend;

    const HOLD: Duration = Duration::from_secs(5);
    const ALMOST: Duration = Duration::from_millis(4800);
    const STEP: Duration = Duration::from_millis(200);

    struct Lab {
        gateways: Gateways,
        asked: Asked,
        now: Instant,
    }

    impl Lab {
        #[allow(clippy::disallowed_methods, reason = "a moment to count from")]
        fn new() -> Self {
            let to =
                |last: u8| (Way::from(Backend::Wireguard), vec![IpAddr::from([10, 42, last, 1])]);
            let asked = [("g1".to_owned(), to(1)), ("g2".to_owned(), to(2))].into();
            Self { gateways: Gateways::new(7), asked, now: Instant::now() }
        }

        /// For so long those in `alive` answer.
        fn run(&mut self, time: Duration, alive: &[u8]) -> BTreeSet<String> {
            let until = self.now + time;
            while self.now < until {
                for ask in self.gateways.tick(&self.asked, HOLD, self.now) {
                    let IpAddr::V4(to) = ask.to else { panic!("{ask:?}") };
                    if alive.contains(&to.octets()[2]) {
                        self.gateways.answered(ask, self.now);
                    }
                }
                self.now += STEP;
            }
            self.gateways.silent()
        }
    }

    #[test]
    fn a_dead_gateway_is_silent_within_two_seconds_and_trusted_again_after_it_answered_for_long() {
        let mut lab = Lab::new();
        assert_eq!(lab.run(Duration::from_secs(10), &[1, 2]), [].into());

        assert_eq!(lab.run(Duration::from_millis(1200), &[2]), [].into());
        assert_eq!(lab.run(Duration::from_millis(800), &[2]), ["g1".to_owned()].into());
        assert_eq!(lab.run(ALMOST, &[1, 2]), ["g1".to_owned()].into());
        assert_eq!(lab.run(STEP * 4, &[1, 2]), [].into());
    }

    #[test]
    fn one_that_comes_and_goes_is_not_trusted() {
        let mut lab = Lab::new();
        lab.run(Duration::from_secs(3), &[2]);
        for _ in 0..5 {
            assert_eq!(lab.run(HOLD / 2, &[1, 2]), ["g1".to_owned()].into());
            assert_eq!(lab.run(Duration::from_secs(2), &[2]), ["g1".to_owned()].into());
        }
    }

    #[test]
    fn nobody_answers_for_another_and_a_gateway_that_is_none_any_more_is_forgotten() {
        let mut lab = Lab::new();
        let asks = lab.gateways.tick(&lab.asked, HOLD, lab.now);
        let until = lab.now + SILENT;
        for ask in &asks {
            lab.gateways.answered(Ask { to: "10.42.9.1".parse().unwrap(), ..*ask }, until);
            lab.gateways.answered(Ask { number: ask.number + 9, ..*ask }, until);
        }
        lab.gateways.tick(&lab.asked, HOLD, until);
        assert_eq!(lab.gateways.silent().len(), 2);

        lab.asked.remove("g1");
        lab.gateways.tick(&lab.asked, HOLD, until);
        assert_eq!(lab.gateways.silent(), ["g2".to_owned()].into());
    }
}
