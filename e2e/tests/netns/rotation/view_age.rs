//! A node that was away: it asks before it speaks, and may be told not to act on an old view.

use std::time::{Duration, Instant, SystemTime};

use e2e::lab::eventually;
use e2e::mesh::{Member, Mesh};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use super::LIMIT;

/// Has this agent a session with that node?
fn speaks_with(member: &Member, name: &str) -> bool {
    let state = member.state().unwrap_or_default();
    let peers = state["peers"].as_array().cloned().unwrap_or_default();
    peers.iter().any(|peer| peer["name"] == name && peer["up"] == true)
}

/// Has this node on disk how to speak with that one? It is written after it is acted on.
fn remembers(member: &Member, name: &str) -> bool {
    let file = std::fs::read(member.node.state().join("view.json")).unwrap_or_default();
    let view: Value = serde_json::from_slice(&file).unwrap_or_default();
    let known =
        |field: &str| view["nodes"][name][field].as_array().is_some_and(|all| !all.is_empty());
    known("keys") && known("endpoints")
}

/// Cuts a machine off from the API, and from nothing else.
fn cut_from_api(mesh: &Mesh, member: &Member) {
    let rules = format!(
        "table ip lab-api {{\nchain out {{\ntype filter hook output priority 0\n\
         ip daddr {} tcp dport {} drop\n}}\n}}\n",
        mesh.controller.address().ip(),
        mesh.controller.address().port()
    );
    member.node.command("nft").args(["-f", "-"]).input(rules).stdout().unwrap();
}

#[test]
fn a_node_that_was_away_asks_before_its_first_handshake() {
    let mut mesh = Mesh::start("asks", 3).unwrap();
    let both = |mesh: &Mesh| {
        speaks_with(&mesh.members[0], "node-3") && speaks_with(&mesh.members[0], "node-2")
    };
    eventually("sessions", LIMIT, || both(&mesh)).unwrap();
    let kept = || ["node-2", "node-3"].iter().all(|name| remembers(&mesh.members[0], name));
    eventually("the view on disk", LIMIT, kept).unwrap();
    // The third does not hear that it is out, as somebody who stole its key would not.
    cut_from_api(&mesh, &mesh.members[2]);
    mesh.members[0].kill_agent();
    mesh.controller.hawser().args(["revoke", "node-3", "--yes"]).stdout().unwrap();

    // Without the API it acts on what it knows: the third would have been spoken with.
    mesh.controller.kill();
    mesh.members[0].start_agent().unwrap();
    eventually("a session on an old view", LIMIT, || both(&mesh)).unwrap();
    mesh.members[0].kill_agent();
    mesh.controller.start().unwrap();
    mesh.members[0].start_agent().unwrap();

    let begun = Instant::now();
    let never = |mesh: &Mesh| {
        assert!(!speaks_with(&mesh.members[0], "node-3"), "after {:?}", begun.elapsed());
    };
    eventually("the others are spoken with", LIMIT, || {
        never(&mesh);
        speaks_with(&mesh.members[0], "node-2")
    })
    .unwrap();
    println!("the others are spoken with after {:?}", begun.elapsed());
    let end = Instant::now() + Duration::from_secs(1);
    while Instant::now() < end {
        never(&mesh);
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_view_that_is_too_old_carries_nothing_until_the_api_answers() {
    let mut mesh = Mesh::start("viewage", 2).unwrap();
    mesh.add_pods(1).unwrap();
    assert_eq!(mesh.reach(b"before", LIMIT).failures(), Vec::<String>::new());
    let bound = |text: &'static str| {
        let patch = Patch::Merge(json!({"spec": {"maxViewAge": text}}));
        mesh.controller.api(async move |client| {
            let meshes = Api::<api::Mesh>::all(client);
            Ok(meshes.patch(api::MESH, &PatchParams::default(), &patch).await?)
        })
    };
    assert!(bound("soon").unwrap_err().to_string().contains("maxViewAge"));
    bound("1h").unwrap();
    let view = mesh.members[0].node.state().join("view.json");
    let kept = || std::fs::read_to_string(&view).unwrap().contains(r#""max_age":{"#);
    eventually("the bound on disk", LIMIT, kept).unwrap();
    mesh.members[0].kill_agent();
    mesh.controller.kill();
    // As if it had been off for two hours.
    let old = SystemTime::now() - Duration::from_secs(7200);
    std::fs::File::open(&view).unwrap().set_modified(old).unwrap();

    mesh.members[0].start_agent().unwrap();
    let refused = |member: &Member| {
        let ready = e2e::mesh::local_api::get(&member.node.state().join("agent.sock"), "/readyz");
        ready.is_ok_and(|(code, text)| code == 503 && text.contains("maxViewAge (1h)"))
    };
    eventually("a refusal", LIMIT, || refused(&mesh.members[0])).unwrap();
    let pods = mesh.pods();
    let target = pods[1].address(true).unwrap();
    let echo = pods[0].namespace.ping_within(target, b"old", Duration::from_secs(1));
    assert!(echo.is_err(), "an old view was acted on");

    mesh.controller.start().unwrap();
    assert_eq!(mesh.reach(b"after", LIMIT).failures(), Vec::<String>::new());
    mesh.members[0].wait_until_ready(LIMIT).unwrap();
}
