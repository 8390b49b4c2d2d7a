use serde_json::json;

use super::*;
use crate::{args::Format, fixture};

fn rotation(status: serde_json::Value) -> KeyRotation {
    serde_json::from_value(json!({
        "apiVersion": "hawser.dev/v1alpha1", "kind": "KeyRotation",
        "metadata": {"name": "manual-1", "creationTimestamp": "2026-11-22T09:00:00Z"},
        "spec": {}, "status": status,
    }))
    .unwrap()
}

fn plan(spec: &KeyRotationSpec, rotations: &[KeyRotation]) -> Result<Plan, Failure> {
    let (mut nodes, peers) = (fixture::nodes(), [fixture::laptop()]);
    nodes[0].status.as_mut().unwrap().unreachable = vec!["node-3".into()];
    nodes[1].status.as_mut().unwrap().unreachable = vec!["node-3".into()];
    let mesh = Mesh { nodes: &nodes, peers: &peers, rotations, newest: Some(4) };
    Plan::new(&mesh, spec, fixture::now())
}

#[test]
fn the_plan_says_what_happens_and_to_whom() {
    let plan = plan(&KeyRotationSpec::default(), &[]).unwrap();

    insta::assert_snapshot!(plan.text(), @r"
    Rotate all 3 nodes from epoch 1 to 5. No traffic drops: new keys are accepted before they are used.
      1 publish new public keys   2 wait until all accept   3 switch senders   4 forget epoch 1
    Not reachable now: node-3 (it catches up on return; epoch 1 stays valid for it until 2026-11-29T10:00:00Z).
    Plain peers know the nodes' old keys by heart: laptop. Give them the new ones before 2026-11-29T10:00:00Z, when epoch 1 is forgotten; to end it earlier: hawser keys forget.
    ");
}

#[test]
fn the_plan_names_a_plain_peer_only_if_it_calls_one_of_the_nodes() {
    let (nodes, mut laptop) = (fixture::nodes(), fixture::laptop());
    laptop.spec.entries = vec!["node-2".into()];
    let named = |node: &str| {
        let spec = KeyRotationSpec { nodes: vec![node.to_owned()], ..Default::default() };
        let peers = std::slice::from_ref(&laptop);
        let mesh = Mesh { nodes: &nodes, peers, rotations: &[], newest: None };
        Plan::new(&mesh, &spec, fixture::now()).unwrap().plain_peers
    };

    assert_eq!(named("node-1"), [""; 0]);
    assert_eq!(named("node-2"), ["laptop"]);
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_is_written() {
    let names = |name: &str| vec![name.to_owned()];
    let spec = KeyRotationSpec::default;
    for (spec, says) in [
        (KeyRotationSpec { nodes: names("x"), ..spec() }, "no node is named"),
        (KeyRotationSpec { sites: names("x"), ..spec() }, "no node is of site x"),
        (
            KeyRotationSpec { nodes: names("node-1"), canaries: names("node-2"), ..spec() },
            "canary node-2 is not among",
        ),
        (
            KeyRotationSpec { nodes: names("node-2"), canary_sites: names("aws"), ..spec() },
            "canaries match none",
        ),
        (KeyRotationSpec { deadline: Some("soon".into()), ..spec() }, "is no time"),
        (
            KeyRotationSpec { deadline: Some("2020-01-01T00:00:00Z".into()), ..spec() },
            "is in the past",
        ),
    ] {
        let failure = plan(&spec, &[]).unwrap_err();
        assert!(failure.what.contains(says), "{failure}");
    }
    let running = rotation(json!({"phase": "Accepting"}));
    let failure = plan(&KeyRotationSpec::default(), &[running]).unwrap_err();
    assert!(failure.what.contains("keyrotation/manual-1 is under way"), "{failure}");
}

#[test]
fn who_waits_is_told_of_each_change_and_of_the_end() {
    let condition = |reason: &str, message: &str| {
        json!([{"type": "Progressing", "status": "True", "reason": reason, "message": message,
                "lastTransitionTime": "2026-11-22T09:00:00Z"}])
    };
    let going = rotation(json!({"phase": "Accepting", "done": "0/3", "epoch": 5,
        "waitingFor": ["node-2"]}));
    let away = rotation(json!({"phase": "Draining", "done": "2/3", "epoch": 5,
        "waitingFor": ["node-3"], "deadline": "2026-11-29T10:00:00Z",
        "conditions": condition("AwaitingAway", "")}));
    let done = rotation(json!({"phase": "Completed", "done": "3/3", "epoch": 5}));
    let mut counted = away.clone();
    let status = counted.status.as_mut().unwrap();
    (status.probes, status.lost) = (Some(3600), Some(0));
    let refused = rotation(json!({"phase": "Refused",
        "conditions": condition("Conflict", "another one is under way")}));

    assert_eq!(stand(&going), Stand::Going("accepting 0/3   waiting node-2".into()));
    assert_eq!(bar(&going), "[######------------]");
    assert_eq!(
        stand(&away),
        Stand::Done(
            "switched   2/3 on epoch 5 (node-3 pending; the old epoch stays valid until \
             2026-11-29T10:00:00Z)"
                .into()
        )
    );
    assert_eq!(
        stand(&counted),
        Stand::Done(
            "switched   2/3 on epoch 5   probes lost 0 of 3600   (node-3 pending; the old epoch \
             stays valid until 2026-11-29T10:00:00Z)"
                .into()
        )
    );
    assert_eq!(stand(&done), Stand::Done("completed   3/3 on epoch 5".into()));
    assert_eq!(stand(&refused), Stand::Failed("refused: another one is under way".into()));
}

#[test]
fn the_history_fits_eighty_columns() {
    let one = rotation(json!({"phase": "Completed", "done": "3/3", "epoch": 5,
        "startedAt": "2026-11-22T09:00:00Z", "endedAt": "2026-11-22T09:00:07Z",
        "probes": 3600, "lost": 0}));
    let mut long = rotation(json!({"phase": "RolledBack", "done": "100/100", "epoch": 12345,
        "startedAt": "2026-11-22T09:00:00Z"}));
    long.metadata.name = Some("scheduled-20261122-090000".into());

    let output = history(&[one, long], fixture::now());
    let text = output.render(Format::Table);

    insta::assert_snapshot!(text, @r"
    NAME                       PHASE       EPOCH  DONE     STARTED  TOOK  LOST
    scheduled-20261122-090000  RolledBack  12345  100/100  60m      60m   <none>
    manual-1                   Completed   5      3/3      60m      7s    0/3600
    ");
    assert!(text.lines().all(|line| line.len() <= 80), "{text}");
    assert!(output.render(Format::Jsonl).contains(r#""probes":3600"#));
}
