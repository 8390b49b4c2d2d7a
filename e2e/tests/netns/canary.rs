//! The standing canary: quiet while everything is sealed, loud at a leak that nothing else notices,
//! and honest when it cannot see.

use std::time::Duration;

use e2e::lab::eventually;
use e2e::mesh::{Member, Mesh};
use serde_json::{Value, json};

use crate::backends::{ask_for, carriers, notes};

const LIMIT: Duration = Duration::from_secs(20);

fn start(prefix: &str) -> Mesh {
    let mut mesh = Mesh::prepare(prefix, 2, &mut |_| {}).unwrap();
    for member in &mut mesh.members {
        member.start_agent_with(["--canary", "1"]).unwrap();
    }
    mesh.wait_until_ready().unwrap();
    mesh
}

fn canary(member: &Member) -> Value {
    member.state().unwrap_or_default()["canary"].clone()
}

fn sings(member: &Member, verdict: &str, least: u64) {
    eventually(&format!("{verdict} after {least} probes"), LIMIT, || {
        let canary = canary(member);
        canary["verdict"] == *verdict && canary["sent"].as_u64() >= Some(least)
    })
    .unwrap();
}

#[test]
fn a_canary_is_quiet_while_all_is_sealed_and_sees_a_leak_that_nothing_else_notices() {
    let mesh = start("canary");
    for member in &mesh.members {
        sings(member, "clean", 4);
        assert_eq!(canary(member)["seenInClear"], 0);
    }
    assert!(notes(&mesh, "CanarySeenInClear").is_empty());

    // A copy of what enters the tunnel leaves by eth0 as it is; the tunnel goes on as before.
    let node = &mesh.members[0].node;
    let leak = [
        "add table netdev leak",
        "add chain netdev leak out { type filter hook egress device hawser0 priority 0 ; }",
        "add rule netdev leak out dup to \"eth0\"",
    ];
    for rule in leak {
        node.command("nft").args([rule]).stdout().unwrap();
    }
    let seen = eventually("seen in clear, in both families", LIMIT, || {
        canary(&mesh.members[0])["seenInClear"].as_u64() > Some(1)
    })
    .unwrap();

    println!("seen after {seen:?}: {}", canary(&mesh.members[0]));
    assert!(seen <= Duration::from_secs(5), "{seen:?}");
    let canary = canary(&mesh.members[0]);
    assert_eq!((&canary["verdict"], &canary["devices"]), (&json!("clear"), &json!(["eth0"])));
    assert_eq!(mesh.members[0].state().unwrap()["guard"]["blockedPackets"], 0);
    let status = mesh.controller.hawser().args(["status", "--agent"]);
    let socket = node.state().join("agent.sock");
    let status = status.arg(&socket).output().unwrap();
    let screen = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(screen.contains("HW4004") && screen.contains("canary CLEAR"), "{screen}");
    let metrics = e2e::mesh::local_api::get(&socket, "/metrics").unwrap().1;
    let line = |name: &str| metrics.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    assert_ne!(line("hawser_canary_seen_in_clear_total "), Some("0"), "{metrics}");
    assert!(line("hawser_canary_sent_total ").is_some(), "{metrics}");
    eventually("the event", LIMIT, || !notes(&mesh, "CanarySeenInClear").is_empty()).unwrap();
}

#[test]
fn a_canary_sends_nothing_to_who_is_in_clear_on_purpose() {
    let mesh = start("canaryclear");
    ask_for(&mesh, "None", "vxlan").unwrap();
    eventually("in clear", LIMIT, || carriers(&mesh.members[0]).iter().all(|by| by == "vxlan"))
        .unwrap();

    std::thread::sleep(Duration::from_secs(1));
    let sent = canary(&mesh.members[0])["sent"].clone();
    std::thread::sleep(Duration::from_secs(3));

    let canary = canary(&mesh.members[0]);
    assert_eq!((&canary["sent"], &canary["seenInClear"]), (&sent, &json!(0)));
}

#[test]
fn a_canary_that_may_not_look_says_that_it_is_blind() {
    let mesh = Mesh::prepare("canaryblind", 1, &mut |_| {}).unwrap();
    let member = &mesh.members[0];
    let agent = e2e::lab::program("hawser-agent").unwrap();
    let command = member.node.command("setpriv").args(["--bounding-set", "-net_raw"]);
    let command = command.arg(agent).args(["run", "--node", "node-1", "--canary", "1"]);
    let command = command.arg("--state").arg(member.node.state());
    let _agent = command.args(["--source", member.source()]).spawn().unwrap();

    eventually("blind", LIMIT, || canary(member)["verdict"] == "blind").unwrap();

    let why = canary(member)["why"].as_str().unwrap_or_default().to_owned();
    assert!(why.contains("CAP_NET_RAW"), "{why}");
}
