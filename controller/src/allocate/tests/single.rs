//! One promise a test.

use ipnet::IpNet;

use crate::allocate::*;

pub(super) fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

pub(super) fn owner(name: &str) -> Owner {
    Owner { node: name.into(), uid: format!("uid-{name}").into() }
}

pub(super) fn node(name: &str, subnets: &[&str]) -> Node {
    Node {
        name: name.into(),
        uid: format!("uid-{name}").into(),
        subnets: subnets.iter().map(|s| net(s)).collect(),
        tidy: true,
        in_force: Vec::new(),
        underlay: Vec::new(),
        revoked: false,
        keys: Vec::new(),
        pool: None,
        assigned: None,
    }
}

pub(super) fn claim(subnet: &str, state: State) -> Claim {
    Claim { subnet: net(subnet), generation: 7, state, former: None }
}

pub(super) fn bound(subnet: &str, name: &str) -> Claim {
    claim(subnet, State::Bound(owner(name)))
}

pub(super) fn create(subnet: &str, name: &str) -> Write {
    Write::Create { subnet: net(subnet), owner: owner(name) }
}

pub(super) fn publish(name: &str, subnets: &[&str]) -> Write {
    Write::Publish { owner: owner(name), subnets: subnets.iter().map(|s| net(s)).collect() }
}

pub(super) fn pools(list: &[(&str, u8)]) -> Vec<Pool> {
    Pools::judge(list.iter().copied(), []).usable
}

fn both() -> Vec<Pool> {
    pools(&[("10.42.0.0/16", 24), ("fd42::/48", 64)])
}

#[test]
fn a_new_node_gets_a_claim_of_each_family_before_its_spec_is_written() {
    let mut view = View { pools: both(), nodes: vec![node("a", &[])], ..View::default() };

    let first = plan(&view);
    view.claims = vec![bound("10.42.0.0/24", "a"), bound("fd42::/64", "a")];
    let second = plan(&view);
    view.nodes = vec![node("a", &["10.42.0.0/24", "fd42::/64"])];
    let third = plan(&view);

    assert_eq!(first.writes, [create("10.42.0.0/24", "a"), create("fd42::/64", "a")]);
    assert_eq!(second.writes, [publish("a", &["10.42.0.0/24", "fd42::/64"])]);
    assert_eq!(third.writes, []);
    assert_eq!(third.verdicts["a"], NodeVerdict::Allocated);
}

#[test]
fn a_crash_between_claim_and_spec_is_finished_by_whoever_comes_next() {
    let view = View {
        pools: both(),
        nodes: vec![node("a", &[])],
        claims: vec![bound("10.42.0.0/24", "a")],
        ..View::default()
    };

    assert_eq!(plan(&view).writes, [create("fd42::/64", "a")]);
}

#[test]
fn a_hundred_nodes_get_a_hundred_blocks_in_one_plan() {
    let view = View {
        pools: both(),
        nodes: (0..100).map(|i| node(&format!("n{i}"), &[])).collect(),
        ..View::default()
    };

    let writes = plan(&view).writes;
    let distinct: std::collections::BTreeSet<_> = writes.iter().map(Write::subnet).collect();

    assert_eq!((writes.len(), distinct.len()), (200, 200));
}

#[test]
fn the_claim_of_a_node_that_is_gone_is_released() {
    let view = View { pools: both(), claims: vec![bound("10.42.0.0/24", "a")], ..View::default() };

    let release = Write::Release { subnet: net("10.42.0.0/24"), generation: 7, owner: owner("a") };
    assert_eq!(plan(&view).writes, [release]);
}

#[test]
fn a_node_made_again_under_its_name_gets_another_block() {
    let mut again = node("a", &[]);
    again.uid = "another".into();
    let view = View {
        pools: pools(&[("10.42.0.0/16", 24)]),
        nodes: vec![again],
        claims: vec![bound("10.42.0.0/24", "a")],
        ..View::default()
    };

    let writes = plan(&view).writes;

    assert!(matches!(&writes[0], Write::Release { subnet, .. } if *subnet == net("10.42.0.0/24")));
    assert!(matches!(&writes[1], Write::Create { subnet, .. } if *subnet == net("10.42.1.0/24")));
}

#[test]
fn a_rested_block_is_bound_and_a_resting_one_is_not() {
    let mut view = View {
        pools: pools(&[("10.42.0.0/24", 24)]),
        nodes: vec![node("a", &[])],
        claims: vec![claim("10.42.0.0/24", State::Resting)],
        ..View::default()
    };

    let before = plan(&view);
    view.claims[0].state = State::Rested;
    let after = plan(&view);

    let exhausted = NodeVerdict::Exhausted { family: Family::V4, resting: true };
    assert_eq!((before.writes, &before.verdicts["a"]), (vec![], &exhausted));
    let bind = Write::Bind { subnet: net("10.42.0.0/24"), generation: 7, owner: owner("a") };
    assert_eq!(after.writes, [bind]);
}

#[test]
fn a_block_set_aside_is_never_given_out() {
    let view = View {
        pools: pools(&[("10.42.0.0/23", 24)]),
        nodes: vec![node("a", &[])],
        claims: vec![claim("10.42.0.0/24", State::Reserved)],
        ..View::default()
    };

    assert_eq!(plan(&view).writes, [create("10.42.1.0/24", "a")]);
}

#[test]
fn the_next_pool_serves_when_the_first_is_full() {
    let view = View {
        pools: pools(&[("10.1.0.0/24", 24), ("10.2.0.0/24", 26)]),
        nodes: vec![node("a", &["10.1.0.0/24"]), node("b", &[])],
        claims: vec![bound("10.1.0.0/24", "a")],
        ..View::default()
    };

    assert_eq!(plan(&view).writes, [create("10.2.0.0/26", "b")]);
}

#[test]
fn an_exhausted_pool_writes_nothing_and_heals_when_a_pool_is_added() {
    let mut view = View {
        pools: pools(&[("10.1.0.0/24", 24)]),
        nodes: vec![node("a", &["10.1.0.0/24"]), node("b", &[])],
        claims: vec![bound("10.1.0.0/24", "a")],
        ..View::default()
    };

    let full = plan(&view);
    view.pools = pools(&[("10.1.0.0/24", 24), ("10.2.0.0/24", 24)]);
    let grown = plan(&view);

    let exhausted = NodeVerdict::Exhausted { family: Family::V4, resting: false };
    assert_eq!((full.writes, &full.verdicts["b"]), (vec![], &exhausted));
    assert_eq!(grown.writes, [create("10.2.0.0/24", "b")]);
}

#[test]
fn subnets_outside_a_shrunk_pool_stay_and_are_reported() {
    let view = View {
        pools: pools(&[("10.9.0.0/16", 24)]),
        nodes: vec![node("a", &["10.42.0.0/24"])],
        claims: vec![bound("10.42.0.0/24", "a")],
        ..View::default()
    };

    let plan = plan(&view);

    assert_eq!(plan.writes, []);
    assert_eq!(plan.outside, [net("10.42.0.0/24")]);
}

#[test]
fn a_block_in_another_nodes_spec_is_not_given_out_even_without_a_claim() {
    let view = View {
        pools: pools(&[("10.42.0.0/16", 24)]),
        nodes: vec![node("a", &[]), node("b", &["10.42.0.0/24"])],
        ..View::default()
    };

    assert_eq!(
        plan(&view).writes,
        [create("10.42.1.0/24", "a"), create("10.42.0.0/24", "b")],
        "and the node that uses it gets its lost claim back"
    );
}

#[test]
fn a_node_gets_nothing_from_a_pool_that_covers_its_own_address() {
    let mut covered = node("a", &[]);
    covered.underlay = vec!["10.42.0.7".parse().unwrap()];
    let view = View {
        pools: pools(&[("10.42.0.0/16", 24)]),
        nodes: vec![covered, node("b", &[])],
        ..View::default()
    };

    let plan = plan(&view);

    let why = NodeVerdict::PoolCoversNode {
        pool: net("10.42.0.0/16"),
        address: "10.42.0.7".parse().unwrap(),
    };
    assert_eq!(plan.verdicts["a"], why);
    assert_eq!(plan.writes, [create("10.42.0.0/24", "b")]);
}

#[test]
fn after_a_restore_only_what_agents_use_is_claimed() {
    let mut user = node("a", &[]);
    user.in_force = vec![net("10.42.5.0/24")];
    let view = View {
        pools: pools(&[("10.42.0.0/16", 24)]),
        nodes: vec![user, node("b", &[])],
        paused: true,
        ..View::default()
    };

    let plan = plan(&view);

    assert_eq!(plan.writes, [create("10.42.5.0/24", "a")]);
    assert_eq!(plan.verdicts["b"], NodeVerdict::Paused);
}

#[test]
fn a_revoked_node_keeps_its_block_and_gets_no_new_one() {
    let mut revoked = node("a", &["10.42.0.0/24"]);
    revoked.revoked = true;
    let view = View {
        pools: both(),
        nodes: vec![revoked],
        claims: vec![bound("10.42.0.0/24", "a")],
        ..View::default()
    };

    let plan = plan(&view);

    assert_eq!(plan.writes, []);
    assert_eq!(plan.verdicts["a"], NodeVerdict::Revoked);
}

#[test]
fn of_two_claims_of_one_node_the_one_in_its_spec_stays() {
    let mut view = View {
        pools: pools(&[("10.42.0.0/16", 24)]),
        nodes: vec![node("a", &[])],
        claims: vec![bound("10.42.0.0/24", "a"), bound("10.42.1.0/24", "a")],
        ..View::default()
    };

    let first = plan(&view).writes;
    view.nodes = vec![node("a", &["10.42.1.0/24"])];
    let second = plan(&view).writes;

    assert_eq!(first, [publish("a", &["10.42.0.0/24"])]);
    assert!(
        matches!(&second[..], [Write::Release { subnet, .. }] if *subnet == net("10.42.0.0/24"))
    );
}

#[test]
fn overlapping_claims_are_not_published() {
    let mut view = View {
        pools: pools(&[("10.42.0.0/22", 26)]),
        nodes: vec![node("a", &[]), node("b", &["10.42.0.0/24"])],
        claims: vec![bound("10.42.0.0/26", "a"), bound("10.42.0.0/24", "b")],
        ..View::default()
    };

    let first = plan(&view).writes;
    view.claims.push(bound("10.42.1.0/26", "a"));
    let second = plan(&view).writes;
    view.nodes[0] = node("a", &["10.42.1.0/26"]);
    let third = plan(&view).writes;

    assert_eq!(first, [create("10.42.1.0/26", "a")]);
    assert_eq!(second, [publish("a", &["10.42.1.0/26"])]);
    assert!(
        matches!(&third[..], [Write::Release { subnet, .. }] if *subnet == net("10.42.0.0/26"))
    );
}

#[test]
fn every_unusable_pool_is_refused_with_a_reason() {
    let service = ["10.96.0.0/12"];
    for (cidr, node_prefix, says) in [
        ("10.42.0.0/33", 24, "not a network"),
        ("garbage", 24, "not a network"),
        ("10.42.0.1/16", 24, "host bits set; write 10.42.0.0/16"),
        ("::/0", 64, "whole address space"),
        ("0.0.0.0/0", 24, "whole address space"),
        ("127.0.0.0/8", 24, "loopback"),
        ("224.0.0.0/8", 24, "multicast"),
        ("fe80::/10", 64, "link-local"),
        ("::ffff:0:0/97", 128, "mapped"),
        ("10.42.0.0/24", 16, "cannot be cut into /16"),
        ("10.42.0.0/24", 33, "from 24 to 32"),
        ("10.100.0.0/16", 24, "service range 10.96.0.0/12"),
    ] {
        let judged = Pools::judge([(cidr, node_prefix)], service);

        assert_eq!(judged.usable, [], "{cidr}");
        let text = judged.problems[0].to_string();
        assert!(text.contains(says), "{cidr}: {text}");
    }
}

#[test]
fn of_two_overlapping_pools_the_first_stands() {
    let judged = Pools::judge([("10.42.0.0/16", 24), ("10.42.128.0/17", 24)], []);

    assert_eq!(judged.usable, pools(&[("10.42.0.0/16", 24)]));
    assert!(judged.problems[0].to_string().contains("overlaps pool 10.42.0.0/16"));
}

#[test]
fn a_pool_with_a_name_is_for_those_that_name_it_and_they_get_nothing_else() {
    let edge = |name: &str| Node { pool: Some("edge".into()), ..node(name, &[]) };
    let mut view = View {
        pools: pools(&[("10.42.0.0/16", 24), ("10.43.0.0/31", 32), ("fd43::/127", 128)]),
        names: ["10.43.0.0/31", "fd43::/127"].map(|pool| (net(pool), "edge".into())).into(),
        nodes: vec![edge("a"), node("b", &[])],
        ..View::default()
    };

    let wanted =
        [create("10.43.0.0/32", "a"), create("fd43::/128", "a"), create("10.42.0.0/24", "b")];
    assert_eq!(plan(&view).writes, wanted);

    // Used up: nobody takes from the others.
    view.claims = vec![bound("10.43.0.0/32", "x"), bound("10.43.0.1/32", "y")];
    view.nodes = ["x", "y"].map(|name| node(name, &[])).to_vec();
    view.nodes.push(edge("a"));
    let exhausted = NodeVerdict::Exhausted { family: Family::V4, resting: false };
    assert!(plan(&view).writes.contains(&create("fd43::/128", "a")));
    view.claims.push(bound("fd43::/128", "a"));
    view.nodes[2].subnets = vec![net("fd43::/128")];
    assert_eq!(plan(&view).verdicts["a"], exhausted);

    view.names.clear();
    view.nodes[2].subnets.clear();
    view.claims.pop();
    assert_eq!(plan(&view).verdicts["a"], NodeVerdict::NoSuchPool("edge".into()));
}

#[test]
fn a_node_keeps_what_it_has_when_its_pools_get_a_name() {
    let view = View {
        pools: pools(&[("10.42.0.0/16", 24)]),
        names: [(net("10.42.0.0/16"), "edge".into())].into(),
        nodes: vec![node("a", &["10.42.0.0/24"])],
        claims: vec![bound("10.42.0.0/24", "a")],
        ..View::default()
    };

    let plan = plan(&view);

    assert_eq!((plan.writes, &plan.verdicts["a"]), (vec![], &NodeVerdict::Allocated));
}
