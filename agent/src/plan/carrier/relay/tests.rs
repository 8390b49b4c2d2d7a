use super::*;
use crate::plan::{
    Plan,
    tests::{facts, view},
};

fn mesh(change: impl Fn(&mut View)) -> View {
    let mut view = view([1, 2, 3, 4, 5]);
    view.relay = Relay::Auto;
    change(&mut view);
    view
}

fn nat(view: &mut View, name: &str, kind: &str) {
    view.nodes.get_mut(name).unwrap().nat = Some(kind.to_owned());
}

fn endpoints(view: &mut View, name: &str, all: &[&str]) {
    let all = all.iter().map(|at| at.parse().unwrap()).collect();
    view.nodes.get_mut(name).unwrap().endpoints = all;
}

#[test]
fn both_ends_come_to_the_same_relays_and_those_behind_a_nat_come_last() {
    let view = mesh(|view| {
        nat(view, "n3", "endpoint-independent");
        nat(view, "n4", "symmetric");
    });
    let candidates = candidates(&view);

    assert_eq!(of(&candidates, "n1", "n2"), ["n5", "n3", "n4"]);
    assert_eq!(of(&candidates, "n1", "n2"), of(&candidates, "n2", "n1"));
    assert!(!of(&candidates, "n1", "n5").contains(&"n5"));
}

#[test]
fn a_relay_between_two_families_has_both() {
    let view = mesh(|view| {
        endpoints(view, "n1", &["192.0.2.1:51820"]);
        endpoints(view, "n2", &["[2001:db8::2]:51820"]);
        endpoints(view, "n3", &["192.0.2.3:51820"]);
        endpoints(view, "n4", &["[2001:db8::4]:51820"]);
    });

    assert_eq!(of(&candidates(&view), "n1", "n2"), ["n5"]);
    assert!(of(&candidates(&view), "n1", "n3").contains(&"n5"));
}

/// What carries to n2 at the start, and what the data path is told of it.
fn start(view: &View) -> (Option<u8>, Option<SocketAddr>, bool) {
    let plan = Plan::new(view, &facts());
    let place = plan.relayed.get("n2").map(|(place, _)| *place);
    let endpoint = plan.peers.others.iter().find(|peer| peer.name == "n2").unwrap().endpoint;
    (place, endpoint, plan.apart.contains("n2"))
}

#[test]
fn where_no_direct_way_can_be_a_pair_begins_by_a_relay() {
    let direct = "192.0.2.2:51820".parse().ok();
    for (a, b, apart) in [
        (None, None, false),
        (Some("symmetric"), None, false),
        (Some("endpoint-independent"), Some("endpoint-independent"), false),
        (Some("endpoint-independent"), Some("present"), false),
        (Some("symmetric"), Some("endpoint-independent"), true),
        (Some("present"), Some("symmetric"), true),
        (Some("symmetric"), Some("symmetric"), true),
    ] {
        let view = mesh(|view| {
            for (name, kind) in [("n1", a), ("n2", b)] {
                view.nodes.get_mut(name).unwrap().nat = kind.map(str::to_owned);
            }
        });
        assert_eq!(start(&view), (apart.then_some(0), direct, apart), "{a:?} {b:?}");
        let never = View { relay: Relay::Never, ..view };
        assert_eq!(start(&never), (None, direct, false), "{a:?} {b:?}");
    }
}

#[test]
fn one_without_an_endpoint_that_can_be_sent_to_is_called_by_its_first_relay() {
    let by_relay = Some(crypto::relay::address(crypto::relay::id("n2"), 0));
    for all in [&[] as &[&str], &["[2001:db8::2]:51820"]] {
        let view = mesh(|view| endpoints(view, "n2", all));
        assert_eq!(start(&view), (Some(0), by_relay, true), "{all:?}");
    }
}

#[test]
fn an_engine_of_one_key_takes_no_part() {
    let view = mesh(|view| nat(view, "n1", "symmetric"));
    let plan = Plan::new(&view, &Facts { rotates: false, ..facts() });
    assert!(plan.peers.relays.is_none() && plan.ways.is_empty() && plan.apart.is_empty());
}
