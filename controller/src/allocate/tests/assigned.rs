//! Subnets that the cluster assigns (`ipam: Kubernetes`).

use super::single::{bound, claim, create, net, node, owner, pools, publish};
use crate::allocate::*;

const POOL: (&str, u8) = ("10.244.0.0/16", 24);
const OTHER: (&str, u8) = ("10.42.0.0/16", 24);

fn assigned(name: &str, subnets: &[&str], podcidrs: &[&str]) -> Node {
    let podcidrs = podcidrs.iter().map(|text| net(text)).collect();
    Node { assigned: Some(podcidrs), ..node(name, subnets) }
}

fn look(pool: &[(&str, u8)], nodes: Vec<Node>, claims: Vec<Claim>) -> Plan {
    plan(&View { pools: pools(pool), nodes, claims, ..View::default() })
}

#[test]
fn a_node_gets_the_block_that_its_cluster_assigned_and_no_other() {
    let nodes = vec![assigned("a", &[], &["10.244.7.0/24"])];

    let first = look(&[POOL], nodes.clone(), vec![]);
    let second = look(&[POOL], nodes, vec![bound("10.244.7.0/24", "a")]);

    assert_eq!(first.writes, [create("10.244.7.0/24", "a")]);
    assert_eq!(second.writes, [publish("a", &["10.244.7.0/24"])]);
}

#[test]
fn a_node_without_a_podcidr_waits_for_one() {
    let plan = look(&[POOL], vec![assigned("a", &[], &[])], vec![]);

    assert_eq!(plan.verdicts["a"], NodeVerdict::Cluster(Assignment::Missing));
    assert!(!plan.writes.iter().any(|write| write.subnet().is_some()), "{:?}", plan.writes);
}

#[test]
fn a_family_that_the_cluster_does_not_assign_comes_from_our_pool() {
    let nodes = vec![assigned("a", &[], &["10.244.7.0/24"])];

    let plan = look(&[POOL, ("fd42::/48", 64)], nodes, vec![]);

    assert_eq!(plan.writes, [create("10.244.7.0/24", "a"), create("fd42::/64", "a")]);
}

#[test]
fn a_podcidr_that_is_no_block_of_a_pool_is_refused() {
    for foreign in ["10.9.7.0/24", "10.244.7.0/25", "10.244.6.0/23"] {
        let plan = look(&[POOL], vec![assigned("a", &[], &[foreign])], vec![]);

        assert_eq!(plan.verdicts["a"], NodeVerdict::Cluster(Assignment::Outside(net(foreign))));
    }
}

#[test]
fn a_podcidr_that_another_node_holds_or_that_rests_is_not_given_twice() {
    let nodes = || vec![assigned("a", &[], &["10.244.7.0/24"])];
    let mut with_b = nodes();
    with_b.push(assigned("b", &["10.244.7.0/24"], &["10.244.7.0/24"]));

    let held = look(&[POOL], with_b, vec![bound("10.244.7.0/24", "b")]);
    let rests = look(&[POOL], nodes(), vec![claim("10.244.7.0/24", State::Resting)]);
    let rested = look(&[POOL], nodes(), vec![claim("10.244.7.0/24", State::Rested)]);

    let taken =
        |resting| NodeVerdict::Cluster(Assignment::Taken { subnet: net("10.244.7.0/24"), resting });
    assert_eq!((&held.verdicts["a"], &rests.verdicts["a"]), (&taken(false), &taken(true)));
    let bind = Write::Bind { subnet: net("10.244.7.0/24"), generation: 7, owner: owner("a") };
    assert_eq!(rested.writes, [bind]);
}

#[test]
fn a_node_that_has_another_block_keeps_it_and_is_reported() {
    let nodes = vec![assigned("a", &["10.244.3.0/24"], &["10.244.7.0/24"])];

    let plan = look(&[POOL], nodes, vec![bound("10.244.3.0/24", "a")]);

    let (subnet, assigned) = (net("10.244.3.0/24"), net("10.244.7.0/24"));
    assert_eq!(plan.verdicts["a"], NodeVerdict::Cluster(Assignment::Other { subnet, assigned }));
    assert!(plan.writes.is_empty());
}

#[test]
fn machines_outside_of_the_cluster_take_nothing_from_its_pools() {
    let nodes = || vec![assigned("a", &[], &["10.244.7.0/24"]), node("edge", &[])];

    let alone = look(&[POOL], nodes(), vec![]);
    let beside = look(&[POOL, OTHER], nodes(), vec![]);

    assert_eq!(alone.verdicts["edge"], NodeVerdict::Cluster(Assignment::PoolsAssigned(Family::V4)));
    assert!(beside.writes.contains(&create("10.42.0.0/24", "edge")), "{:?}", beside.writes);
}
