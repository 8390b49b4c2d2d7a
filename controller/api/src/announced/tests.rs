use proptest::prelude::*;

use super::*;

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

/// A node that asks for `asked` and has `routed` of it already.
fn node(name: &str, asked: &[&str], routed: &[&str]) -> Announcer {
    let texts = |all: &[&str]| all.iter().map(ToString::to_string).collect();
    let since = "2026-11-22T10:00:00Z".to_owned();
    Announcer {
        name: name.to_owned(),
        since,
        asked: texts(asked),
        routed: texts(routed),
        ..Announcer::default()
    }
}

fn pool() -> Vec<Taken> {
    let of = |prefix| Taken { prefix: net(prefix), by: "a pool of Mesh default".to_owned() };
    vec![of("10.42.0.0/16"), of("fd42::/48")]
}

/// Why `node` does not get the one prefix that it asks for, beside `others`.
fn refusal(asking: Announcer, others: &[Announcer]) -> Option<String> {
    let name = asking.name.clone();
    let all: Vec<_> = others.iter().cloned().chain([asking]).collect();
    let verdict = announced(&pool(), &all).remove(&name).unwrap();
    assert_eq!(verdict.routed.len() + verdict.refused.len(), 1);
    verdict.refused.first().map(ToString::to_string)
}

#[test]
fn a_prefix_that_overlaps_nothing_is_routed_in_either_family() {
    let verdict = announced(&pool(), &[node("a", &["192.168.7.0/24", "fd07::/64"], &[])]);

    assert_eq!(verdict["a"].routed, [net("192.168.7.0/24"), net("fd07::/64")]);
    assert!(announced(&pool(), &[node("a", &[], &["192.168.7.0/24"])]).is_empty(), "not asked for");
}

#[test]
fn what_the_mesh_or_a_machine_has_is_refused_and_its_holder_named() {
    let subnet = Announcer { subnets: vec![net("172.20.0.0/24")], ..node("b", &[], &[]) };
    let machine = Announcer {
        machine: vec!["192.168.7.10".parse().unwrap()],
        endpoints: vec!["2001:db8:7::10".parse().unwrap()],
        ..node("c", &[], &[])
    };
    let other = node("d", &["172.21.0.0/16"], &["172.21.0.0/16"]);
    let others = [subnet, machine, other];
    for (asked, words) in [
        ("10.42.7.0/24", "overlaps 10.42.0.0/16, which is a pool of Mesh default"),
        ("10.0.0.0/8", "a pool of Mesh default"),
        ("fd42::/16", "a pool of Mesh default"),
        ("172.20.0.128/25", "172.20.0.0/24, which is node b's subnet"),
        ("192.168.7.0/24", "192.168.7.10/32, which is node c's address"),
        ("2001:db8:7::/64", "2001:db8:7::10/128, which is node c's endpoint"),
        ("172.21.3.0/24", "172.21.0.0/16, which is announced by node d"),
        ("0.0.0.0/0", "the whole address space"),
        ("::/0", "the whole address space"),
        ("127.0.0.0/8", "loopback"),
        ("fe80::/64", "link-local"),
        ("192.168.7.1/24", "did you mean 192.168.7.0/24"),
        ("lan", "is no prefix"),
    ] {
        let said = refusal(node("edge", &[asked], &[]), &others).expect(asked);
        assert!(said.contains(words), "{asked}: {said}");
    }
}

#[test]
fn who_came_first_keeps_it_whatever_its_name_and_whoever_publishes_what() {
    let first = node("z", &["192.168.7.0/24"], &["192.168.7.0/24"]);
    let endpoints = vec!["192.168.7.9".parse().unwrap()];
    let second = Announcer { endpoints, ..node("a", &["192.168.7.0/25"], &[]) };

    let verdict = announced(&pool(), &[second, first]);

    assert_eq!(verdict["z"].routed, [net("192.168.7.0/24")]);
    assert_eq!(verdict["a"].routed, []);
}

#[test]
fn of_two_that_ask_at_once_the_older_node_gets_it() {
    let young =
        Announcer { since: "2026-11-22T10:00:01Z".into(), ..node("a", &["fd07::/64"], &[]) };

    let verdict = announced(&pool(), &[young, node("b", &["fd07::/64"], &[])]);

    assert_eq!((verdict["b"].routed.len(), verdict["a"].routed.len()), (1, 0));
}

#[test]
fn a_site_gateway_may_stand_in_its_own_lan_if_it_is_called_elsewhere() {
    let at = |endpoints: &[&str]| Announcer {
        endpoints: endpoints.iter().map(|at| at.parse().unwrap()).collect(),
        ..node("edge", &["192.168.7.0/24"], &["192.168.7.0/24"])
    };

    assert_eq!(refusal(at(&["192.168.7.10", "203.0.113.7"]), &[]), None);
    assert!(refusal(at(&["192.168.7.10"]), &[]).unwrap().contains("every endpoint of this very"));
}

/// Blocks of a small space, so that many overlap.
fn any_prefix() -> impl Strategy<Value = String> {
    (0u32..16, 26u8..31).prop_map(|(at, length)| {
        let address = std::net::Ipv4Addr::from(0xC0A8_0700 + at * 8);
        ipnet::Ipv4Net::new(address, length).unwrap().trunc().to_string()
    })
}

fn any_nodes() -> impl Strategy<Value = Vec<Announcer>> {
    let prefixes = || prop::collection::vec(any_prefix(), 0..3);
    let host = (0u8..128).prop_map(|last| IpAddr::from([192, 168, 7, last]));
    let hosts = prop::collection::vec(host, 0..2);
    let node = (prefixes(), prop::collection::vec(any_prefix(), 0..1), hosts, 0u8..3);
    prop::collection::vec(node, 0..6).prop_map(|nodes| {
        let numbered = nodes.into_iter().enumerate();
        let node = numbered.map(|(number, (asked, subnets, endpoints, since))| Announcer {
            name: format!("n{number}"),
            since: since.to_string(),
            asked,
            subnets: subnets.iter().map(|text| net(text)).collect(),
            endpoints,
            ..Announcer::default()
        });
        node.collect()
    })
}

fn written(nodes: &[Announcer]) -> Vec<Announcer> {
    let verdicts = announced(&[], nodes);
    let routed = |name: &String| {
        let routed = verdicts.get(name).map(|verdict| verdict.routed.clone()).unwrap_or_default();
        routed.iter().map(IpNet::to_string).collect()
    };
    nodes.iter().map(|n| Announcer { routed: routed(&n.name), ..n.clone() }).collect()
}

fn routed(nodes: &[Announcer]) -> Vec<(String, IpNet)> {
    let of = |node: &Announcer| {
        let (name, routed) = (node.name.clone(), node.routed.clone());
        routed.into_iter().map(move |text| (name.clone(), net(&text))).collect::<Vec<_>>()
    };
    nodes.iter().flat_map(of).collect()
}

proptest! {
    #[test]
    fn no_address_has_two_owners_and_every_wish_has_an_answer(nodes in any_nodes()) {
        let routed = routed(&written(&nodes));

        for (at, (name, prefix)) in routed.iter().enumerate() {
            for (other, theirs) in &routed[at + 1..] {
                prop_assert!(name == other || !overlap(prefix, theirs), "{name} {other}");
            }
            let subnets = nodes.iter().flat_map(|node| &node.subnets);
            prop_assert!(subnets.clone().all(|subnet| !overlap(subnet, prefix)));
        }
        for (name, verdict) in announced(&[], &nodes) {
            let node = nodes.iter().find(|node| node.name == name).unwrap();
            let asked: std::collections::BTreeSet<_> = node.asked.iter().collect();
            prop_assert_eq!(verdict.routed.len() + verdict.refused.len(), asked.len());
        }
    }

    #[test]
    fn what_is_routed_stays_whoever_comes_after(
        nodes in any_nodes(),
        late in any_nodes(),
        older in any::<bool>(),
    ) {
        let before = written(&nodes);
        let late = late.into_iter().map(|node| Announcer {
            name: format!("{}{}", if older { "a" } else { "z" }, node.name),
            since: String::new(),
            subnets: Vec::new(),
            ..node
        });
        let all: Vec<_> = late.chain(before.iter().cloned()).collect();

        let after = routed(&written(&all));

        for kept in routed(&before) {
            prop_assert!(after.contains(&kept), "{kept:?}");
        }
    }

    #[test]
    fn the_order_of_the_list_says_nothing(nodes in any_nodes()) {
        let backwards: Vec<_> = nodes.iter().rev().cloned().collect();

        let mut there = routed(&written(&nodes));
        let mut back = routed(&written(&backwards));

        there.sort();
        back.sort();
        prop_assert_eq!(there, back);
    }
}
