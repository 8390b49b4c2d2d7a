//! How soon machines behind NATs meet, counted from when each could know where the other is seen.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use e2e::lab::{Nat, eventually};
use e2e::oracle::promised;
use serde_json::json;

use super::nat::{Hybrid, KINDS, Way, way};

const LIMIT: Duration = Duration::from_secs(30);
/// What is promised.
const MET: Duration = Duration::from_secs(2);

/// When something was first so, looked at time and again.
#[derive(Default)]
struct Firsts {
    /// One lists the other.
    known: BTreeMap<[String; 2], Instant>,
    /// One has a session with the other where that itself is.
    met: BTreeMap<[String; 2], Instant>,
    /// A machine's endpoints in the API, once there is one that a NAT gave it.
    seen: BTreeMap<String, (Instant, Vec<String>)>,
}

impl Firsts {
    fn look(&mut self, hybrid: &Hybrid) {
        let now = Instant::now();
        for name in hybrid.kinds.keys() {
            if self.seen.contains_key(name) {
                continue;
            }
            let (_, endpoints) = hybrid.told(name);
            if endpoints.len() > 2 {
                self.seen.insert(name.clone(), (now, endpoints));
            }
        }
        for member in &hybrid.mesh.members {
            let state = member.state().unwrap_or_default();
            for peer in state["peers"].as_array().into_iter().flatten() {
                let other = peer["name"].as_str().unwrap_or_default();
                let pair = [member.node.name().to_owned(), other.to_owned()];
                self.known.entry(pair.clone()).or_insert(now);
                let endpoint = peer["endpoint"].as_str().unwrap_or_default();
                let seen = self.seen.get(other);
                let itself = seen.is_none_or(|(_, all)| all[2..].iter().any(|at| at == endpoint));
                if peer["up"] == true && peer["path"].is_null() && itself {
                    self.met.entry(pair).or_insert(now);
                }
            }
        }
    }

    /// From when both could know to when both had met; none if they did not.
    fn took(&self, hybrid: &Hybrid, [a, b]: [&str; 2]) -> Option<Duration> {
        let both = |of: &BTreeMap<[String; 2], Instant>| {
            let one = |a: &str, b: &str| of.get(&[a.to_owned(), b.to_owned()]).copied();
            Some(one(a, b)?.max(one(b, a)?))
        };
        let mut known = both(&self.known)?;
        if way(hybrid.kinds[a], hybrid.kinds[b]) == Way::Punched {
            let mapped = [a, b].into_iter().filter(|name| hybrid.kinds[*name] != Nat::Symmetric);
            for name in mapped {
                known = known.max(self.seen.get(name)?.0);
            }
        }
        Some(both(&self.met)?.saturating_duration_since(known))
    }
}

/// Every pair that can meet, by name.
fn pairs(hybrid: &Hybrid) -> Vec<[&str; 2]> {
    let all: Vec<(&str, Nat)> = hybrid.kinds.iter().map(|(name, nat)| (&**name, *nat)).collect();
    let mut pairs = Vec::new();
    for (place, (a, of_a)) in all.iter().enumerate() {
        let others = all[place + 1..].iter().filter(|(_, of_b)| way(*of_a, *of_b) != Way::Relayed);
        pairs.extend(others.map(|(b, _)| [*a, *b]));
    }
    pairs
}

/// Waits until they have met, and says how long each pair took.
fn all_meet_in_time(hybrid: &Hybrid) {
    let (begun, mut firsts) = (Instant::now(), Firsts::default());
    let met = eventually("all have met", LIMIT, || {
        firsts.look(hybrid);
        pairs(hybrid).into_iter().all(|pair| firsts.took(hybrid, pair).is_some())
    });
    let mut late = Vec::new();
    for [a, b] in pairs(hybrid) {
        let took = firsts.took(hybrid, [a, b]);
        println!("{a} × {b}: {took:?} after both could know");
        late.extend(took.is_none_or(|took| took > MET).then(|| format!("{a} × {b}: {took:?}")));
    }
    println!("all after {:?}", begun.elapsed());
    promised(met.is_ok() && late.is_empty(), || format!("late: {late:?}"));
}

#[test]
fn every_pair_that_can_meet_does_so_within_two_seconds() {
    let mut hybrid = Hybrid::start("natmet");
    hybrid.add_each(KINDS);
    all_meet_in_time(&hybrid);
}

#[test]
fn two_that_a_relay_brought_together_meet_within_two_seconds() {
    let mut hybrid = Hybrid::start("natrelayed");
    hybrid.mesh.ask_for(json!({"relay": "Auto"})).unwrap();
    for name in ["one", "two"] {
        let router = hybrid.router(&format!("{name}-nat"), Nat::EndpointIndependent);
        hybrid.add(name, router, Nat::EndpointIndependent);
    }
    all_meet_in_time(&hybrid);
}
