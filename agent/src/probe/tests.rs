use std::collections::BTreeMap;

use api::{RotationPhase, Wave};
use keys::KeyEpoch;

use super::*;

fn rotation(phase: RotationPhase) -> Rotation {
    let wave = Wave { number: 1, nodes: vec!["a".into()], digest: None };
    Rotation { uid: "r".into(), epoch: KeyEpoch(2), phase, wave }
}

fn address(number: u8) -> IpAddr {
    [10, 42, number, 1].into()
}

/// A mesh in which whoever `answers` does so after so many milliseconds.
struct Mesh {
    survey: Survey,
    start: Instant,
    now: Duration,
    under_way: Vec<(Duration, Ask)>,
    sent: Vec<IpAddr>,
}

impl Mesh {
    fn begin(peers: u8, published: Option<&Probes>) -> Self {
        let start = Instant::now();
        let now = rotation(RotationPhase::Publishing);
        let mut survey = Survey::begin(&now, published, 1 << 40, start);
        let peers: Peers = (1..=peers).map(|n| (format!("n{n}"), vec![address(n)])).collect();
        survey.meets(&peers);
        Self { survey, start, now: Duration::ZERO, under_way: Vec::new(), sent: Vec::new() }
    }

    fn now(&self) -> Instant {
        self.start + self.now
    }

    fn run(&mut self, seconds: u64, answers: impl Fn(IpAddr) -> Option<u64>) {
        let end = self.now + Duration::from_secs(seconds);
        while self.now < end {
            let now = self.now();
            let due = |(at, _): &(Duration, Ask)| *at <= self.now;
            let (arrived, rest) = self.under_way.drain(..).partition::<Vec<_>, _>(due);
            self.under_way = rest;
            for (_, ask) in arrived {
                self.survey.answered(ask.number, ask.to, now);
            }
            if let Some(ask) = self.survey.tick(now) {
                self.sent.push(ask.to);
                let after = answers(ask.to).map(|ms| self.now + Duration::from_millis(ms));
                self.under_way.extend(after.map(|at| (at, ask)));
            }
            self.now += Duration::from_millis(10);
        }
    }

    fn counts(&self) -> (u64, u64) {
        let Probes { sent, lost, .. } = self.survey.counted(self.now()).probes;
        (sent, lost)
    }
}

#[test]
fn every_peer_gets_one_a_second_and_answers_are_counted() {
    let mut mesh = Mesh::begin(3, None);

    mesh.run(10, |_| Some(20));

    let mut each = BTreeMap::new();
    for to in &mesh.sent {
        *each.entry(*to).or_insert(0) += 1;
    }
    assert_eq!(each, (1..=3).map(|n| (address(n), 10)).collect());
    assert_eq!(mesh.counts(), (30, 0));
}

#[test]
fn both_families_of_a_peer_take_turns() {
    let mut mesh = Mesh::begin(0, None);
    let v6: IpAddr = "fd42::1".parse().unwrap();
    mesh.survey.meets(&Peers::from([("n1".into(), vec![address(1), v6])]));

    mesh.run(4, |_| Some(1));

    assert_eq!(mesh.sent, [address(1), v6, address(1), v6]);
}

#[test]
fn what_two_seconds_do_not_bring_is_lost_and_stays_so() {
    let mut mesh = Mesh::begin(1, None);

    mesh.run(1, |_| Some(1990));
    mesh.run(2, |_| Some(2010));
    mesh.run(3, |_| Some(1));

    // The second probe left before the first answer came: nobody was live yet.
    assert_eq!(mesh.counts(), (5, 1));
    assert_eq!(mesh.sent.len(), 6);
}

#[test]
fn only_who_was_asked_can_answer_and_only_once() {
    let mut mesh = Mesh::begin(2, None);
    let (first, now) = (mesh.survey.tick(mesh.now()).unwrap(), mesh.now());

    mesh.survey.answered(first.number, address(9), now);
    mesh.survey.answered(first.number + 1, first.to, now);
    assert_eq!(mesh.counts(), (0, 0));
    mesh.survey.answered(first.number, first.to, now);
    mesh.survey.answered(first.number, first.to, now);

    assert_eq!(mesh.counts(), (1, 0));
}

#[test]
fn who_was_away_before_does_not_count_and_who_goes_away_counts_for_a_while() {
    let mut mesh = Mesh::begin(2, None);
    let only_one = |to| (to == address(1)).then_some(5);

    mesh.run(20, only_one);
    assert_eq!(mesh.counts(), (20, 0), "the second was never there");
    mesh.run(1, |_| Some(5));
    mesh.run(40, only_one);

    let (sent, lost) = mesh.counts();
    assert_eq!(lost, 15, "it was live for fifteen seconds after its answer");
    assert_eq!(sent, 61 + 1 + lost);
}

#[test]
fn a_rotation_that_stands_still_is_not_probed_until_it_moves() {
    let mut mesh = Mesh::begin(1, None);

    mesh.run(200, |_| Some(5));
    assert_eq!(mesh.counts(), (120, 0));
    assert!(mesh.survey.counted(mesh.now()).ended);
    assert_eq!(mesh.survey.next_wake(mesh.now()), None);
    mesh.survey.sees(Some(&rotation(RotationPhase::Switching)), mesh.now());
    mesh.run(10, |_| Some(5));

    assert_eq!(mesh.counts(), (130, 0));
}

#[test]
fn the_end_is_told_when_the_last_probe_has_its_fate() {
    let mut mesh = Mesh::begin(1, None);
    mesh.run(3, |_| Some(5));
    mesh.run(1, |_| None);

    mesh.survey.sees(None, mesh.now());
    assert!(!mesh.survey.counted(mesh.now()).ended);
    mesh.run(2, |_| panic!("nothing is sent any more"));

    let counted = mesh.survey.counted(mesh.now());
    assert!(counted.ended);
    assert_eq!((counted.probes.sent, counted.probes.lost), (4, 1));
}

#[test]
fn a_new_run_goes_on_from_what_was_published_of_the_same_rotation() {
    let of = |uid: &str| Probes { rotation: uid.into(), sent: 100, lost: 3 };

    assert_eq!(Mesh::begin(1, Some(&of("r"))).counts(), (100, 3));
    assert_eq!(Mesh::begin(1, Some(&of("another"))).counts(), (0, 0));
}

#[test]
fn a_large_mesh_is_sampled_and_who_leaves_it_loses_nothing() {
    let mut mesh = Mesh::begin(200, None);
    mesh.run(25, |_| Some(5));
    let asked: BTreeSet<IpAddr> = mesh.sent.iter().copied().collect();
    assert_eq!((asked.len(), mesh.sent.len()), (PEERS, 5 * PEERS));

    mesh.run(1, |_| None);
    mesh.survey.meets(&Peers::new());
    mesh.run(5, |_| panic!("nobody is there"));

    let (sent, lost) = mesh.counts();
    assert_eq!((sent, lost), (5 * PEERS as u64, 0));
}
