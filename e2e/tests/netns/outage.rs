//! The gateway is away for a while: who is in talks on, who wants in waits, and a change that was
//! made since is heard soon after it is back.

use std::time::{Duration, Instant};

use e2e::lab::{Flow, Process};
use e2e::mesh::{Controller, Member, Mesh};
use e2e::oracle::{marker, promised};

use crate::join::{join, token};

const LIMIT: Duration = Duration::from_secs(20);
const AWAY: Duration = Duration::from_secs(20);
/// From the gateway's return to the first packet to a machine that joined since: those who ask come
/// back in turn, within seven and a half seconds each.
const BOUND: Duration = Duration::from_secs(20);

/// A machine that has joined, its `hawser join`, and a pod on it.
fn joined(mesh: &Mesh, name: &str, token: &str) -> (Member, Process) {
    let node = mesh.lab.node(name).unwrap();
    let mut joining = join(&mesh.controller, &node, token, &[]);
    joining.wait_for_log("joined in", LIMIT).unwrap();
    let mut machine = Member::new(node, String::new());
    machine.wait_for_node_file(LIMIT).unwrap();
    machine.add_pod(&mesh.lab, "a").unwrap();
    (machine, joining)
}

fn uses(controller: &Controller) -> String {
    controller.hawser().args(["token", "list", "-o", "json"]).stdout().unwrap()
}

#[test]
fn machines_talk_on_while_the_gateway_is_away_and_a_join_waits_for_it() {
    let marker = marker();
    let mut mesh = Mesh::start("outage", 1).unwrap();
    mesh.add_pods(1).unwrap();
    let both = token(&mesh.controller, &["--uses", "2"]);
    let once = token(&mesh.controller, &[]);
    let (one, _one) = joined(&mesh, "edge-1", &both);
    let (two, _two) = joined(&mesh, "edge-2", &both);
    let late = mesh.lab.node("edge-3").unwrap();
    let (from, pods) = (&one.pods[0], [&two.pods[0], &mesh.members[0].pods[0]]);
    let flows = pods.map(|to| {
        let address = to.address(true).unwrap();
        from.namespace.ping_until(address, &marker, LIMIT).unwrap();
        Flow::start(&from.namespace, (&to.namespace, address), 500, &marker).unwrap()
    });

    mesh.controller.kill();
    let killed = Instant::now();
    let mut joining = join(&mesh.controller, &late, &once, &[]);
    joining.wait_for_log("asked again for", LIMIT).unwrap();
    std::thread::sleep(AWAY.saturating_sub(killed.elapsed()));
    assert!(joining.is_running(), "{}", joining.log());
    mesh.controller.start().unwrap();
    let back = Instant::now();
    joining.wait_for_log("joined in", BOUND).unwrap();
    let entered = back.elapsed();
    let mut machine = Member::new(late, String::new());
    machine.wait_for_node_file(LIMIT).unwrap();
    machine.add_pod(&mesh.lab, "a").unwrap();
    let new = machine.pods[0].address(true).unwrap();
    from.namespace.ping_until(new, &marker, BOUND).unwrap();
    let heard = back.elapsed();

    let reports = flows.map(Flow::finish);
    println!("back after {AWAY:?}: a join is through after {entered:?}, heard of after {heard:?}");
    promised(reports.iter().all(|report| report.lost == 0), || format!("{reports:?}"));
    assert!(heard < BOUND, "heard of after {heard:?}");
    let log = joining.log();
    assert!(log.contains("cannot reach the gateway"), "{log}");
    assert_eq!(uses(&mesh.controller).matches(r#""used": 1"#).count(), 1);
    assert_eq!(mesh.controller.nodes().unwrap().len(), 4);
}

#[test]
fn a_join_gives_up_when_its_time_is_over_and_may_be_run_again() {
    let mut mesh = Mesh::prepare("outtime", 0, &mut |_| {}).unwrap();
    let once = token(&mesh.controller, &[]);
    let node = mesh.lab.node("edge-1").unwrap();
    mesh.controller.kill();

    let mut joining = join(&mesh.controller, &node, &once, &["--timeout", "3s"]);
    joining.wait_for_log("check: is this its address", LIMIT).unwrap();
    let ended = joining.wait(LIMIT).unwrap();
    mesh.controller.start().unwrap();
    std::fs::remove_file(node.dir().join("token")).unwrap();
    let mut again = join(&mesh.controller, &node, &once, &[]);

    assert_eq!(ended.code(), Some(3), "{}", joining.log());
    again.wait_for_log("joined in", LIMIT).unwrap();
}
