use super::*;

const OWN: &str = "192.168.1.2:51820";

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A node whose witnesses answer as told, second by second.
struct Asked {
    outside: Outside,
    now: Instant,
    asked: usize,
}

impl Asked {
    fn new() -> Self {
        let now = Instant::now();
        let mut outside = Outside::new(7, now);
        outside.is_at(vec![at(OWN)]);
        Self { outside, now, asked: 0 }
    }

    fn run(&mut self, seconds: u64, answers: &[(&str, &str)]) -> Seen {
        let up = answers.iter().map(|(peer, _)| (*peer).to_owned()).collect();
        for _ in 0..seconds * 2 {
            for peer in self.outside.ask(&up, self.now) {
                self.asked += 1;
                let said = answers.iter().find(|(name, _)| *name == peer).unwrap().1;
                if !said.is_empty() {
                    self.outside.hear(&peer, 7, at(said), self.now);
                }
            }
            self.now += Duration::from_millis(500);
            self.outside.tell(self.now);
        }
        self.outside.told.clone()
    }
}

#[test]
fn what_witnesses_say_tells_whether_there_is_a_nat_and_of_which_kind() {
    let outside = "198.51.100.1:40001";
    let (other, third) = ("198.51.100.1:40002", "198.51.100.1:40003");
    for (answers, nat, endpoints) in [
        (vec![("a", OWN), ("b", OWN)], Some(Nat::None), vec![]),
        (vec![("a", OWN), ("b", outside)], Some(Nat::Present), vec![outside]),
        (vec![("a", outside), ("b", outside)], Some(Nat::EndpointIndependent), vec![outside]),
        (vec![("a", outside), ("b", other)], Some(Nat::Symmetric), vec![]),
        (vec![("a", outside), ("b", other), ("c", third)], Some(Nat::Symmetric), vec![]),
        (
            vec![("a", outside), ("b", other), ("c", third), ("d", outside)],
            Some(Nat::Symmetric),
            vec![],
        ),
        (
            vec![("a", outside), ("b", "[2001:db8::1]:9")],
            Some(Nat::Present),
            vec![outside, "[2001:db8::1]:9"],
        ),
        (vec![("a", "")], None, vec![]),
    ] {
        let seen = Asked::new().run(1, &answers);
        let endpoints = endpoints.into_iter().map(at).collect();
        assert_eq!(seen, Seen { nat, endpoints }, "{answers:?}");
    }
}

#[test]
fn one_witness_of_three_who_lies_neither_makes_a_nat_symmetric_nor_takes_the_endpoint() {
    let (outside, other) = ("198.51.100.1:40001", "203.0.113.9:1");
    let honest = [("b", outside), ("c", outside), ("d", outside)];
    for honest in [&honest[..2], &honest[..]] {
        for lie in [other, "[2001:db8::9]:1"] {
            let answers: Vec<_> = honest.iter().copied().chain([("a", lie)]).collect();
            let seen = Asked::new().run(60, &answers);
            assert_eq!(seen.nat, Some(Nat::EndpointIndependent), "{answers:?}");
            assert_eq!(seen.endpoints[0], at(outside), "{answers:?}");
        }
    }
}

#[test]
fn a_moment_of_another_opinion_is_not_told_and_a_change_that_stays_is() {
    let mut asked = Asked::new();
    let first = asked.run(60, &[("a", "198.51.100.1:1"), ("b", "198.51.100.1:1")]);

    asked.run(10, &[("a", "198.51.100.1:1"), ("b", "198.51.100.1:2")]);
    let moment = asked.run(11, &[("a", "198.51.100.1:1"), ("b", "198.51.100.1:1")]);
    let stays = asked.run(40, &[("a", "198.51.100.1:2"), ("b", "198.51.100.1:2")]);

    assert_eq!(first, moment);
    assert_eq!(stays.endpoints, [at("198.51.100.1:2")]);
}

#[test]
fn one_that_changes_all_the_time_is_told_ever_more_rarely() {
    let (mut asked, mut told) = (Asked::new(), Vec::new());
    for round in 0..360_u16 {
        let said = format!("198.51.100.1:{}", 1 + round / 2);
        told.push(asked.run(10, &[("a", &said)]));
    }
    told.dedup();
    assert!((3..20).contains(&told.len()), "{} writes in an hour", told.len());
}

#[test]
fn few_are_asked_and_rarely() {
    let names: Vec<String> = (0..1000).map(|n| format!("n{n}")).collect();
    for (said, questions) in [(OWN, 2), ("198.51.100.1:1", 60)] {
        let answers: Vec<_> = names.iter().map(|name| (name.as_str(), said)).collect();
        let mut asked = Asked::new();
        asked.run(20, &answers);
        asked.asked = 0;

        asked.run(600, &answers);

        assert_eq!(asked.asked, WITNESSES * questions, "{said}");
    }
}

#[test]
fn a_node_that_moves_asks_all_anew_and_forgets_what_was_said_of_its_old_address() {
    let mut asked = Asked::new();
    asked.run(10, &[("a", OWN)]);
    asked.asked = 0;

    asked.outside.is_at(vec![at("192.168.9.9:51820")]);
    let seen = asked.run(30, &[("a", "192.168.9.9:51820")]);

    assert_eq!((asked.asked, seen.nat), (1, Some(Nat::None)));
}

#[test]
fn only_who_was_asked_can_say_and_only_to_this_question() {
    let (mut outside, now) = (Outside::new(7, Instant::now()), Instant::now());
    outside.ask(&["a".to_owned()].into(), now);
    outside.hear("b", 7, at("198.51.100.1:1"), now);
    outside.hear("a", 8, at("198.51.100.1:1"), now);
    assert_eq!(outside.tell(now + HOLD), &Seen::default());
    outside.hear("a", 7, at("198.51.100.1:1"), now);
    outside.tell(now);
    assert_eq!(outside.tell(now + HOLD).endpoints, [at("198.51.100.1:1")]);
}

#[test]
fn the_nodes_of_a_large_mesh_ask_others_each() {
    let up: BTreeSet<String> = (0..100).map(|number| format!("n{number}")).collect();
    let now = Instant::now();
    let asked: BTreeSet<String> =
        (0..100).flat_map(|number| Outside::new(number, now).ask(&up, now)).collect();

    assert!(asked.len() > 80, "{}", asked.len());
    assert_eq!(Outside::new(7, now).ask(&up, now).len(), WITNESSES);
}
