//! The screen, and each problem that it can name.

use super::*;
use crate::{args::Format, fixture};

fn known() -> Known {
    let mut nodes = fixture::nodes();
    nodes.pop();
    Known {
        server: "https://127.0.0.1:7443".into(),
        server_version: "v1.32.0+hawser".into(),
        mesh: Some(fixture::mesh()),
        nodes,
        peers: vec![fixture::laptop()],
        rotations: Vec::new(),
        agent: Agent::Answered(Box::new(fixture::state())),
    }
}

fn codes(known: &Known) -> Vec<&'static str> {
    Status::new(known, fixture::now()).problems.iter().map(|problem| problem.code).collect()
}

fn live(known: &mut Known) -> &mut State {
    match &mut known.agent {
        Agent::Answered(state) => state,
        Agent::Absent | Agent::Failed(_) => panic!("the fixture has an agent"),
    }
}

#[test]
fn a_healthy_mesh_has_no_problems() {
    let status = Status::new(&known(), fixture::now());

    assert!(!status.fails(FailOn::Warning));
    insta::assert_snapshot!(status.print().render(Format::Table), @r"
    Mesh     Ready      wireguard  encryption required
    Control  embedded   https://127.0.0.1:7443  v1.32.0+hawser
    Nodes    2/2 ready
    Tunnels  1/2 up     seen by node-1
    Keys     epoch 1
    View     unlimited  agents go on for ever without the API
    MTU      1420
    Clear    guarded    routes in place, nft table in place, 17 packets blocked
    ");
}

#[test]
fn a_sick_mesh_says_who_and_what_to_do() {
    let mut known = known();
    known.nodes = fixture::nodes();
    live(&mut known).peers[0].last_handshake = "2026-11-22T09:53:48Z".parse().ok();

    let status = Status::new(&known, fixture::now());

    assert!(status.fails(FailOn::Error));
    assert!(!status.fails(FailOn::Never));
    insta::assert_snapshot!(status.print().render(Format::Table), @r"
    Mesh     Ready      wireguard  encryption required
    Control  embedded   https://127.0.0.1:7443  v1.32.0+hawser
    Nodes    2/3 ready
    Tunnels  0/2 up     seen by node-1; 1 stale: node-2 (6m12s)
    Keys     epoch 1
    View     unlimited  agents go on for ever without the API
    MTU      1420
    Clear    guarded    routes in place, nft table in place, 17 packets blocked

    Problems (2)
      HW1101  node-3  pool 10.42.0.0/16 is full
              fix: hawser nodes show node-3
      HW2104  node-2  node-1 <-> node-2: no handshake for 6m12s
              fix: is udp open to 10.0.0.2:51820? hawser path node-1 node-2
    ");
}

#[test]
fn peers_that_are_sent_to_in_clear_are_named_loudly() {
    let mut known = known();
    live(&mut known).peers[0].backend = Some("vxlan".to_owned());

    let status = Status::new(&known, fixture::now());

    assert!(status.fails(FailOn::Warning));
    let screen = status.print().render(Format::Table);
    assert!(screen.contains("HW4003") && screen.contains("in CLEAR by vxlan: node-2"), "{screen}");
}

#[test]
fn peers_whose_datagrams_travel_in_another_shape_are_named() {
    let mut known = known();
    live(&mut known).peers[0].path = Some("vxlan-shaped".into());

    let screen = Status::new(&known, fixture::now()).print().render(Format::Table);

    let words = "sealed datagrams to 1 peers travel vxlan-shaped: node-2";
    assert!(screen.contains("HW2107") && screen.contains(words), "{screen}");
}

#[test]
fn peers_that_a_fallback_carries_to_are_named() {
    let mut known = known();
    let peer = &mut live(&mut known).peers[0];
    (peer.backend, peer.instead_of) = (Some("wireguard".into()), Some("vxlan".into()));

    let screen = Status::new(&known, fixture::now()).print().render(Format::Table);

    let words = "vxlan does not get through to 1 peers: node-2; wireguard does";
    assert!(screen.contains("HW2106") && screen.contains(words), "{screen}");
}

#[test]
fn without_an_agent_the_api_still_tells() {
    let mut known = known();
    known.agent = Agent::Absent;

    let status = Status::new(&known, fixture::now());

    assert!(!status.fails(FailOn::Warning));
    insta::assert_snapshot!(status.print().render(Format::Table), @r"
    Mesh     Ready      wireguard  encryption required
    Control  embedded   https://127.0.0.1:7443  v1.32.0+hawser
    Nodes    2/2 ready
    Tunnels  <unknown>  no agent was asked; run this on a node
    Keys     epoch 1
    View     unlimited  agents go on for ever without the API
    MTU      1420
    Clear    <unknown>  no agent was asked; run this on a node
    ");
}

#[test]
fn an_agent_that_does_not_answer_is_a_warning() {
    let mut known = known();
    known.agent = Agent::Failed("connection refused".into());

    assert_eq!(codes(&known), ["HW5001"]);
    let status = Status::new(&known, fixture::now());
    assert!(status.fails(FailOn::Warning) && !status.fails(FailOn::Error));
}

#[test]
fn a_missing_guard_is_an_error() {
    let mut known = known();
    live(&mut known).guard.nft = false;

    assert_eq!(codes(&known), ["HW4001"]);
    assert!(Status::new(&known, fixture::now()).fails(FailOn::Error));
}

#[test]
fn a_mesh_that_permits_clear_packets_says_so_loudly() {
    let mut known = known();
    known.mesh.as_mut().unwrap().spec.encryption = api::Encryption::None;

    assert_eq!(codes(&known), ["HW4002"]);
    let screen = Status::new(&known, fixture::now()).print().render(Format::Table);
    assert!(screen.contains("NOT ENCRYPTED"));
}

#[test]
fn sites_that_may_be_in_clear_are_named_in_a_mesh_that_is_sealed_elsewhere() {
    let mut known = known();
    let spec = &mut known.mesh.as_mut().unwrap().spec;
    let of = |encryption| SiteEncryption { sites: vec!["aws".to_owned()], encryption };
    spec.site_encryption = vec![of(api::Encryption::Required)];
    assert_eq!(codes(&known), [] as [&str; 0]);

    known.mesh.as_mut().unwrap().spec.site_encryption = vec![of(api::Encryption::None)];

    assert_eq!(codes(&known), ["HW4002"]);
    let screen = Status::new(&known, fixture::now()).print().render(Format::Table);
    assert!(screen.contains("encryption required, but for 1 pair of sites"), "{screen}");
    assert!(screen.contains("encryption is Required (None within aws)"), "{screen}");
}

#[test]
fn an_empty_server_says_what_to_create() {
    let mut known = known();
    known.mesh = None;
    known.nodes.clear();
    known.agent = Agent::Absent;

    assert_eq!(codes(&known), ["HW1001", "HW1100"]);
}

#[test]
fn a_revoked_node_is_nobodys_problem() {
    let mut known = known();
    known.nodes[1].spec.revoked = true;
    known.nodes[1].status = None;

    assert!(codes(&known).is_empty());
    let status = Status::new(&known, fixture::now());
    assert_eq!((status.nodes.ready, status.nodes.total), (1, 1));
}

#[test]
fn a_node_that_never_reported_is_told_from_one_that_is_sick() {
    let mut known = known();
    known.nodes[1].status = None;

    assert_eq!(codes(&known), ["HW1102"]);
}

#[test]
fn a_clone_that_was_refused_is_named() {
    let mut known = known();
    let clone = serde_json::json!({"bootID": "b", "endpoint": "10.0.0.9:51820", "since": "2026"});
    known.nodes[0].status.as_mut().unwrap().refused = serde_json::from_value(clone).unwrap();

    assert_eq!(codes(&known), ["HW1103"]);
    let text = Status::new(&known, fixture::now()).print().render(Format::Table);
    assert!(text.contains("HW1103  node-1") && text.contains("10.0.0.9:51820"), "{text}");
}

#[test]
fn a_sleeping_laptop_is_no_problem() {
    assert!(codes(&known()).is_empty());
}

#[test]
fn one_line_says_it_where_there_is_no_screen() {
    let line = Status::new(&known(), fixture::now()).line();

    assert_eq!(line, "mesh Ready  nodes 2/2  tunnels 1/2  problems 0");
}

#[test]
fn a_long_message_stays_within_eighty_columns() {
    let mut known = known();
    known.agent =
        Agent::Failed("every word of this message is short but there are many ".repeat(4));

    let screen = Status::new(&known, fixture::now()).print().render(Format::Table);

    assert!(screen.lines().all(|line| line.chars().count() <= 80), "{screen}");
    assert!(screen.matches("there are many").count() + screen.matches("there are").count() >= 4);
}

#[test]
fn the_next_rotation_and_the_oldest_view_are_shown() {
    let mut known = known();
    let mesh = known.mesh.as_mut().unwrap();
    mesh.spec.max_view_age = Some("24h".to_owned());
    mesh.status.get_or_insert_default().next_rotation = Some("2026-11-26T06:00:00Z".to_owned());
    live(&mut known).view.heard_seconds = Some(3.4);
    known.rotations = vec![fixture::rotation("Completed", "2026-11-19T06:00:00Z")];
    let screen = |known: &Known| Status::new(known, fixture::now()).print().render(Format::Table);

    let text = screen(&known);
    assert!(text.contains("rotated 3d4h ago, next in 3d20h"), "{text}");
    let view = "View     max 24h    then agents stop without the API; it answered this node 3s ago";
    assert!(text.contains(view), "{text}");

    let status = known.mesh.as_mut().unwrap().status.as_mut().unwrap();
    status.next_rotation =
        Some("waits: the mesh is degraded: pool 10.42.0.0/16 is full".to_owned());
    assert!(screen(&known).contains("next waits: the mesh is degraded"));
    known.rotations = vec![fixture::rotation("Accepting", "2026-11-19T06:00:00Z")];
    assert!(screen(&known).contains("keyrotation/manual-1 is accepting"));
}

#[test]
fn a_canary_that_was_seen_in_clear_or_sees_nothing_is_a_problem() {
    let canary = |verdict: &str, seen_in_clear| {
        let mut known = known();
        live(&mut known).canary = Some(Canary {
            verdict: verdict.to_owned(),
            sent: 40,
            seen_in_clear,
            devices: vec!["eth0".to_owned()],
            why: (verdict == "blind").then(|| "operation not permitted".to_owned()),
        });
        let screen = Status::new(&known, fixture::now()).print().render(Format::Table);
        (codes(&known), screen)
    };

    let (codes, screen) = canary("clean", 0);
    assert_eq!(codes, [] as [&str; 0]);
    assert!(screen.contains("canary clean (40 sent)"), "{screen}");
    let (codes, screen) = canary("clear", 3);
    assert_eq!(codes, ["HW4004"]);
    assert!(screen.contains("canary CLEAR") && screen.contains("readable on eth0"), "{screen}");
    let (codes, screen) = canary("blind", 0);
    assert_eq!(codes, ["HW4005"]);
    assert!(screen.contains("canary BLIND") && screen.contains("not permitted"), "{screen}");
}
