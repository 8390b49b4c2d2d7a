//! A node that is deleted and made again under its name: the same machine, or another one.

use super::single::{bound, claim, net, node, pools};
use crate::allocate::*;

const SUBNET: &str = "10.42.0.0/24";

/// A node of the name `a` that is not the owner `uid-a`, and the keys that it tells.
fn again(keys: &[&str]) -> Node {
    let keys = keys.iter().map(|key| (*key).into()).collect();
    Node { uid: "again".into(), keys, ..node("a", &[]) }
}

fn of_a(claim: Claim) -> Claim {
    let former = Former { node: "a".into(), keys: vec!["old key".into(), "its key".into()] };
    Claim { former: Some(former), ..claim }
}

fn look(node: Node, claims: Vec<Claim>) -> Plan {
    let pools = pools(&[("10.42.0.0/16", 24)]);
    plan(&View { pools, nodes: vec![node], claims, ..View::default() })
}

fn bind() -> Write {
    let owner = Owner { node: "a".into(), uid: "again".into() };
    Write::Bind { subnet: net(SUBNET), generation: 7, owner }
}

#[test]
fn the_same_machine_gets_its_subnet_back_without_a_rest_and_at_the_next_generation() {
    for state in [State::Resting, State::Rested] {
        let plan = look(again(&["its key"]), vec![of_a(claim(SUBNET, state))]);

        assert_eq!(plan.writes, [bind()]);
    }
}

#[test]
fn nothing_is_given_out_before_the_agent_has_told_its_key() {
    let unreleased = look(again(&[]), vec![of_a(bound(SUBNET, "a"))]);
    let silent = look(again(&[]), vec![of_a(claim(SUBNET, State::Resting))]);
    let told_early = look(again(&["its key"]), vec![of_a(bound(SUBNET, "a"))]);

    let returning = NodeVerdict::Returning(net(SUBNET));
    for plan in [&unreleased, &told_early] {
        assert!(matches!(&plan.writes[..], [Write::Release { .. }]), "{:?}", plan.writes);
        assert_eq!(plan.verdicts["a"], returning);
    }
    assert_eq!((&silent.writes[..], &silent.verdicts["a"]), (&[][..], &returning));
}

#[test]
fn another_machine_of_the_name_gets_another_subnet_and_the_old_one_rests() {
    let stranger = look(again(&["another key"]), vec![of_a(claim(SUBNET, State::Resting))]);
    let thief = Node { name: "b".into(), ..again(&["its key"]) };
    let elsewhere = look(thief, vec![of_a(claim(SUBNET, State::Resting))]);

    for plan in [stranger, elsewhere] {
        let create = matches!(&plan.writes[..], [Write::Create { subnet, .. }]
            if *subnet == net("10.42.1.0/24"));
        assert!(create, "{:?}", plan.writes);
    }
}

#[test]
fn a_machine_that_says_nothing_until_the_rest_is_over_waits_no_longer() {
    let plan = look(again(&[]), vec![of_a(claim(SUBNET, State::Rested))]);

    assert_eq!(plan.writes, [bind()], "as any other node would get it");
}

#[test]
fn a_subnet_that_overlaps_what_somebody_holds_is_not_given_back() {
    let wider = bound("10.42.0.0/23", "b");
    let nodes = vec![again(&["its key"]), node("b", &["10.42.0.0/23"])];
    let claims = vec![of_a(claim(SUBNET, State::Resting)), wider];
    let pools = pools(&[("10.42.0.0/16", 24)]);

    let plan = plan(&View { pools, nodes, claims, ..View::default() });

    assert!(!plan.writes.contains(&bind()), "{:?}", plan.writes);
}

#[test]
fn after_a_restore_only_what_the_machine_says_it_uses_is_given_back() {
    let released = || vec![of_a(claim(SUBNET, State::Resting))];
    let pools = || pools(&[("10.42.0.0/16", 24)]);
    let in_use = Node { in_force: vec![net(SUBNET)], ..again(&["its key"]) };
    let look = |node: Node| {
        plan(&View {
            pools: pools(),
            nodes: vec![node],
            claims: released(),
            paused: true,
            ..View::default()
        })
    };

    assert_eq!(look(again(&["its key"])).verdicts["a"], NodeVerdict::Paused);
    assert_eq!(look(in_use).writes, [bind()]);
}

#[test]
fn a_podcidr_of_the_cluster_decides_which_one_comes_back() {
    let assigned = |subnet| Node { assigned: Some(vec![net(subnet)]), ..again(&["its key"]) };
    let released = || vec![of_a(claim(SUBNET, State::Resting))];

    let same = look(assigned(SUBNET), released());
    let other = look(assigned("10.42.9.0/24"), released());

    assert_eq!(same.writes, [bind()]);
    assert!(matches!(&other.writes[..], [Write::Create { subnet, .. }]
        if *subnet == net("10.42.9.0/24")));
}
