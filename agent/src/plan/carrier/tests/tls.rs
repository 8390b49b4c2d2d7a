//! Nodes that are called over TLS, and those that can only call.

use super::*;
use crate::view::{Listener, Relay};

fn listener() -> Listener {
    Listener { endpoints: vec!["198.51.100.7:443".parse().unwrap()], fingerprint: [7; 32] }
}

fn planned(change: impl FnOnce(&mut View, &mut Facts)) -> Plan {
    plan(Encryption::Required, Backend::Wireguard, change)
}

fn in_tls() -> Way {
    Way { tls: true, ..Backend::Wireguard.into() }
}

#[test]
fn a_pair_has_the_way_in_tls_if_one_of_the_two_listens_and_uses_it_when_told() {
    let of_2 = planned(|view, _| view.nodes.get_mut("n2").unwrap().tls = Some(listener()));
    assert_eq!(of_2.ways["n2"], [Backend::Wireguard.into(), in_tls()]);
    assert!(!of_2.ways.contains_key("n3"));
    assert!(of_2.bridged.is_empty());

    let here = planned(|view, facts| {
        view.nodes.get_mut("n1").unwrap().tls = Some(listener());
        facts.chosen.insert("n3".to_owned(), in_tls());
    });
    assert_eq!(here.ways.len(), 2);
    assert_eq!(here.bridged, ["n3".to_owned()].into());
    let relays = here.peers.relays.unwrap();
    let bridged = |name: &str| relays.peers[&crypto::relay::id(name)].bridged;
    assert!(bridged("n3") && !bridged("n2"));
    assert_eq!(relays.quota, None, "nobody asked for relays");

    let boringtun = planned(|view, facts| {
        view.nodes.get_mut("n2").unwrap().tls = Some(listener());
        facts.rotates = false;
    });
    assert!(boringtun.ways.is_empty());
}

#[test]
fn a_node_that_can_only_call_is_reached_through_whom_it_is_connected_to_and_passes_nothing_on() {
    let of = |through: &[&str]| {
        planned(|view, _| {
            *view = View { relay: Relay::Auto, ..crate::plan::tests::view([1, 2, 3, 4, 5]) };
            view.nodes.get_mut("n2").unwrap().relays =
                through.iter().map(ToString::to_string).collect();
        })
    };
    let relays = |plan: &Plan, name: &str| {
        plan.peers.relays.as_ref().unwrap().peers[&crypto::relay::id(name)].relays.clone()
    };
    let id = crypto::relay::id;

    let as_usual = of(&[]);
    assert_eq!(relays(&as_usual, "n2").len(), 3);
    assert!(relays(&as_usual, "n3").contains(&id("n2")));
    let calls = of(&["n4"]);
    assert_eq!(relays(&calls, "n2"), [id("n4")]);
    assert!(relays(&calls, "n4").is_empty() || !relays(&calls, "n4").contains(&id("n2")));
    assert!(!relays(&calls, "n3").contains(&id("n2")));
    assert_eq!(relays(&of(&["nobody"]), "n2"), [0_u64; 0]);
}
