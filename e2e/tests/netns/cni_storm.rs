//! Many pods at once, and plugins that are killed in the middle of it.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use e2e::lab::{CniOutput, Namespace, bin_dir};
use e2e::oracle::Baseline;
use serde_json::json;

use super::Stage;

/// Adds and deletes many pods at once, some of the plugins killed in the middle.
struct Storm<'a> {
    stage: &'a Stage,
    pods: Vec<Namespace>,
}

impl Storm<'_> {
    /// One call for every pod at once. Gives what each answered (None: killed) and how long it took.
    fn all(&self, verb: &str, kill_every: usize) -> Vec<(Option<CniOutput>, Duration)> {
        let answers = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for (number, pod) in self.pods.iter().enumerate() {
                let answers = &answers;
                scope.spawn(move || {
                    let start = Instant::now();
                    let doomed = kill_every > 0 && number % kill_every == 0;
                    let answer = if doomed {
                        self.killed(verb, number, pod);
                        None
                    } else {
                        let name = format!("p{number}");
                        Some(self.stage.cni().call(verb, &name, pod, json!({})).unwrap())
                    };
                    answers.lock().unwrap().push((number, answer, start.elapsed()));
                });
            }
        });
        let mut answers = answers.into_inner().unwrap();
        answers.sort_by_key(|(number, ..)| *number);
        answers.into_iter().map(|(_, answer, took)| (answer, took)).collect()
    }

    /// Killed after 1 to 20 ms, another time for each pod.
    fn killed(&self, verb: &str, number: usize, pod: &Namespace) {
        let after = format!("0.{:03}", 1 + number / 10 % 20);
        let state = self.stage.node.state();
        let config = json!({"cniVersion": "1.0.0", "name": "hawser", "state": state});
        let command = self.stage.node.command("timeout").args(["-s", "KILL", &after]);
        let command = command.arg(bin_dir().join("hawser-cni"));
        let command = command.env("CNI_COMMAND", verb).env("CNI_IFNAME", "eth0");
        let command = command.env("CNI_CONTAINERID", format!("p{number}"));
        let command = command.env("CNI_NETNS", pod.path()).input(config.to_string());
        command.output().unwrap();
    }
}

fn percentile(times: &[Duration], percent: usize) -> Duration {
    let mut times = times.to_vec();
    times.sort();
    times[(times.len() * percent / 100).min(times.len() - 1)]
}

#[test]
fn two_hundred_at_once_get_unique_addresses_and_killed_plugins_leak_none() {
    let stage = Stage::new("cnistorm");
    let pods = (0..200).map(|number| stage.pod(&format!("p{number}"))).collect();
    let storm = Storm { stage: &stage, pods };
    let before = Baseline::of(&stage.node).unwrap();

    for round in 0..4 {
        let kill_every = if round == 0 { 0 } else { 10 };
        let added = storm.all("ADD", kill_every);
        let times: Vec<Duration> = added.iter().map(|(_, took)| *took).collect();
        let (p50, p99) = (percentile(&times, 50), percentile(&times, 99));
        println!("round {round}: 200 ADD at once: p50 {p50:?}, p99 {p99:?}");

        let mut unique = BTreeSet::new();
        for answer in added.iter().filter_map(|(answer, _)| answer.as_ref()) {
            assert!(answer.ok, "{}", answer.json);
            for address in answer.addresses() {
                assert!(unique.insert(address), "{address} was given twice");
            }
        }
        assert!(unique.len() >= 2 * 180);

        storm.all("DEL", kill_every);
        stage.collect(&[]);
        assert!(stage.reserved().is_empty(), "leaked: {:?}", stage.reserved());
        let after = Baseline::of(&stage.node).unwrap();
        assert_eq!(before.difference(&after), Vec::<String>::new(), "round {round}");
    }
}
