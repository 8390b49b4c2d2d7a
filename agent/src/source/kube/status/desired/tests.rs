use std::collections::BTreeMap;

use api::MeshNodeSpec;
use keys::PrivateKey;

use super::*;
use crate::{
    plan::{Refusal, Underlay},
    snapshot::PeerFacts,
};

fn identity() -> Identity {
    Identity {
        listen_port: 51820,
        endpoints: vec![],
        version: "0.1.0".into(),
        boot_id: Some("boot".into()),
        machine_id: None,
    }
}

fn snapshot(peers: &[&str]) -> Snapshot {
    let facts = |is_node| PeerFacts {
        subnets: vec![],
        site: None,
        encryption: api::Encryption::Required,
        is_node,
        others_turn: None,
        endpoints: Vec::new(),
    };
    let mut known: BTreeMap<_, _> =
        peers.iter().map(|name| ((*name).to_owned(), facts(true))).collect();
    known.insert("laptop".into(), facts(false));
    Snapshot {
        mtu: 1420,
        underlay: Underlay {
            v4: Some([192, 0, 2, 1].into()),
            v6: Some("2001:db8::1".parse().unwrap()),
            mtu: 1500,
        },
        subnets: vec!["10.42.1.0/24".parse().unwrap()],
        peers: known,
        ready: true,
        ..Snapshot::empty("n1", "kube")
    }
}

fn live(up: &[&str], rx_bytes: u64) -> Live {
    let peer = |name: &&str| PeerStatus {
        name: (*name).to_owned(),
        endpoint: None,
        epoch: None,
        own_epoch: None,
        last_handshake: None,
        last_received: None,
        rx_bytes,
        tx_bytes: 0,
        rtt: None,
        established: true,
        allowed: vec![],
    };
    let keys = PublicFace {
        keys: vec![(KeyEpoch(1), PrivateKey::from_bytes([7; 32]).public())],
        newest: KeyEpoch(1),
        sending: KeyEpoch(1),
        lost: Default::default(),
        rotates: true,
    };
    let now = "2026-11-22T10:00:00Z".parse().unwrap();
    let peers = up.iter().map(peer).collect();
    Live {
        keys,
        rotation: None,
        settled: true,
        serves: vec![],
        listens: None,
        relays: vec![],
        peers,
        counts: None,
        seen: Seen::default(),
        now,
    }
}

fn node(status: Option<MeshNodeStatus>) -> MeshNode {
    let mut node = MeshNode::new("n1", MeshNodeSpec::default());
    node.metadata.generation = Some(3);
    node.status = status;
    node
}

fn tunnels(status: &MeshNodeStatus) -> &Condition {
    conditions::get(&status.conditions, "TunnelsUp").unwrap()
}

#[test]
fn a_new_node_publishes_key_endpoints_and_conditions() {
    let status =
        status(&node(None), &identity(), &snapshot(&["a", "b"]), &live(&["a", "b"], 0)).unwrap();

    assert_eq!(status.public_keys[0].epoch, 1);
    assert_eq!(status.endpoints, ["192.0.2.1:51820", "[2001:db8::1]:51820"]);
    assert_eq!(status.peers.as_deref(), Some("2/2"));
    assert_eq!(status.mtu, Some(1420));
    assert_eq!(status.subnets, ["10.42.1.0/24"]);
    assert!(conditions::holds(&status.conditions, "TunnelsUp"));
    assert!(conditions::holds(&status.conditions, "KeyCurrent"));
}

#[test]
fn bytes_and_time_that_pass_are_no_difference() {
    let written = status(&node(None), &identity(), &snapshot(&["a"]), &live(&["a"], 0)).unwrap();
    let mut later = live(&["a"], 1 << 30);
    later.now = "2026-11-23T10:00:00Z".parse().unwrap();

    assert_eq!(status(&node(Some(written)), &identity(), &snapshot(&["a"]), &later), None);
}

#[test]
fn figures_of_a_rotation_go_with_other_writes_unless_they_are_worth_one() {
    let written = status(&node(None), &identity(), &snapshot(&["a"]), &live(&["a"], 0)).unwrap();
    let probes = Probes { rotation: "r".into(), sent: 7, lost: 1 };
    let counted = |up: &[&str], worth_a_write| Live {
        counts: Some(Counts { probes: probes.clone(), worth_a_write }),
        ..live(up, 0)
    };
    let next =
        |live: &Live| status(&node(Some(written.clone())), &identity(), &snapshot(&["a"]), live);

    assert_eq!(next(&counted(&["a"], false)), None);
    assert_eq!(next(&counted(&["a"], true)).unwrap().probes, Some(probes.clone()));
    let other = next(&counted(&[], false)).unwrap();
    assert_eq!(other.probes, Some(probes), "the tunnels are worth a write");
}

#[test]
fn conditions_and_fields_of_others_stay() {
    let foreign = Condition::new("SubnetAllocated", true, ("Yes", ""), live(&[], 0).now);
    let before = MeshNodeStatus {
        conditions: vec![foreign.clone()],
        refused: Some(api::Machine::default()),
        ..MeshNodeStatus::default()
    };

    let after = status(&node(Some(before)), &identity(), &snapshot(&[]), &live(&[], 0)).unwrap();

    assert!(after.conditions.contains(&foreign));
    assert!(after.refused.is_some());
}

#[test]
fn a_node_that_reaches_nobody_says_so_and_one_that_reaches_some_is_well() {
    let nobody = status(&node(None), &identity(), &snapshot(&["a", "b"]), &live(&[], 0)).unwrap();
    let some = status(&node(None), &identity(), &snapshot(&["a", "b"]), &live(&["b"], 0)).unwrap();

    assert_eq!(
        (tunnels(&nobody).status.as_str(), tunnels(&nobody).reason.as_str()),
        ("False", "NoTunnels")
    );
    assert_eq!(
        (tunnels(&some).status.as_str(), tunnels(&some).reason.as_str()),
        ("True", "SomeDown")
    );
    assert_eq!(some.peers.as_deref(), Some("1/2"));
}

#[test]
fn a_refusal_is_the_reason_of_the_condition() {
    let mut refused = snapshot(&["a"]);
    refused.refusals = vec![Refusal::Plain(api::Backend::Udp)];

    let status = status(&node(None), &identity(), &refused, &live(&["a"], 0)).unwrap();

    assert_eq!(tunnels(&status).reason, "EncryptionRequired");
    assert!(tunnels(&status).message.contains("wireguard"));
}

#[test]
fn given_endpoints_win_and_may_name_their_own_port() {
    let given = ["198.51.100.9:4000".parse().unwrap(), "2001:db8::9".parse().unwrap()];
    let identity = Identity { endpoints: given.to_vec(), ..identity() };

    let status = status(&node(None), &identity, &snapshot(&[]), &live(&[], 0)).unwrap();

    assert_eq!(status.endpoints, ["198.51.100.9:4000", "[2001:db8::9]:51820"]);
}

#[test]
fn a_node_that_is_out_of_the_mesh_says_so_until_it_is_in_again() {
    let of = |node, snapshot: &Snapshot| status(&node, &identity(), snapshot, &live(&["a"], 0));
    let within = of(node(None), &snapshot(&["a"])).unwrap();
    assert_eq!(conditions::get(&within.conditions, REMOVED), None);

    let stuck = snapshot(&["a"]).of_removal(vec!["removing node.json: read-only".into()]);
    let stuck = of(node(Some(within)), &stuck).unwrap();
    let told = conditions::get(&stuck.conditions, REMOVED).unwrap();
    assert!(!told.is_true() && told.message.contains("read-only"));
    let out = of(node(Some(stuck)), &snapshot(&["a"]).of_removal(vec![])).unwrap();
    assert!(conditions::holds(&out.conditions, REMOVED));
    assert_eq!((tunnels(&out).reason.as_str(), out.subnets.len()), ("Removing", 0));
    assert!(of(node(Some(out.clone())), &snapshot(&["a"]).of_removal(vec![])).is_none(), "once");

    let again = of(node(Some(out)), &snapshot(&["a"])).unwrap();
    assert_eq!(conditions::get(&again.conditions, REMOVED), None);
}

#[test]
fn what_is_gone_is_said_and_what_others_wrote_stays() {
    let before = MeshNodeStatus {
        subnets: vec!["10.42.1.0/24".into()],
        mtu: Some(1420),
        unreachable: vec!["n2".into()],
        nat: Some("none".into()),
        ..MeshNodeStatus::default()
    };
    let after =
        MeshNodeStatus { subnets: vec![], mtu: None, unreachable: vec![], ..before.clone() };

    let patch = change(Some(&before), &after);

    for gone in ["subnets", "mtu", "unreachable"] {
        assert_eq!(patch.get(gone), Some(&Value::Null), "{gone}");
    }
    assert_eq!(patch["nat"], "none");
    assert_eq!(change(None, &after).get("subnets"), None);
}

#[test]
fn that_a_spec_was_looked_at_is_written_once_a_rotation_is_over() {
    let written = status(&node(None), &identity(), &snapshot(&["a"]), &live(&["a"], 0)).unwrap();
    let mut later = node(Some(written.clone()));
    later.metadata.generation = Some(4);
    let wave = api::Wave { number: 1, nodes: vec![], digest: None };
    let phase = api::RotationPhase::Publishing;
    let rotation = Rotation { uid: "r".into(), epoch: KeyEpoch(2), phase, wave };
    let during = |up: &[&str]| Live { rotation: Some(rotation.clone()), ..live(up, 0) };
    let next = |live: &Live| status(&later, &identity(), &snapshot(&["a"]), live);

    assert_eq!(next(&during(&["a"])), None);
    let other = next(&during(&[])).unwrap();
    assert_eq!((other.observed_generation, other.peers.as_deref()), (Some(4), Some("0/1")));
    assert_eq!(next(&live(&["a"], 0)).unwrap().observed_generation, Some(4));
}

#[test]
fn what_a_newer_release_wrote_into_the_status_stays() {
    let text = r#"{"bootID": "old", "learnedLater": {"a": 1}, "publicKeys": []}"#;
    let before: MeshNodeStatus = serde_json::from_str(text).unwrap();
    let node = node(Some(before.clone()));

    let after = status(&node, &identity(), &snapshot(&["a"]), &live(&["a"], 0)).unwrap();
    let patch = change(Some(&before), &after);

    assert_eq!(patch["bootID"], "boot");
    assert_eq!(patch.get("learnedLater"), None, "a merge patch leaves it as it is");
}
