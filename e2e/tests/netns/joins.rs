//! Figures of joining: fifty machines, one after the other, each from the command to the first answer
//! of a pod.

use std::time::{Duration, Instant};

use e2e::{mesh::Mesh, oracle::marker};

use crate::join::{join, token};

const MACHINES: usize = 50;
/// From the command to the first answer.
const BOUND: Duration = Duration::from_secs(5);

#[test]
#[ignore = "long: HAWSER_LONG=1 ./e2e/test runs it"]
fn fifty_machines_join_and_each_reaches_a_pod_within_five_seconds() {
    let marker = marker();
    let mut mesh = Mesh::start("joins", 2).unwrap();
    mesh.add_pods(1).unwrap();
    let pod = mesh.pods()[0].address(true).unwrap();
    let token = token(&mesh.controller, &["--uses", "50", "--name-prefix", "edge-"]);

    let mut all = Vec::new();
    let mut machines = Vec::new();
    for number in 1..=MACHINES {
        let node = mesh.lab.node(&format!("edge-{number}")).unwrap();
        let begun = Instant::now();
        let joining = join(&mesh.controller, &node, &token, &[]);
        node.namespace().ping_until(pod, &marker, 4 * BOUND).unwrap();
        all.push(begun.elapsed());
        machines.push((node, joining));
    }

    let mut sorted = all.clone();
    sorted.sort_unstable();
    let at = |part: usize| sorted[(MACHINES * part).div_ceil(100) - 1];
    println!(
        "{MACHINES} joins: p50 {:?}, p99 {:?}, the last {:?}",
        at(50),
        at(99),
        all[MACHINES - 1]
    );
    assert!(at(99) <= BOUND, "{all:?}");
}
