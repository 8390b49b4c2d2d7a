use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::plan::Open;

fn guard(ranges: &[&str]) -> Guard {
    Guard {
        ranges: ranges.iter().map(|range| range.parse().unwrap()).collect(),
        tun: "hawser0".into(),
        masquerade: ["10.42.1.0/24".parse().unwrap()].into(),
        machines: ["192.0.2.2/32".parse().unwrap()].into(),
        devices: BTreeSet::new(),
        open: BTreeMap::new(),
    }
}

fn installed(guard: &Guard) -> Value {
    serde_json::to_value(ruleset::install(guard, Blocked { out: 7, into: 9, forged: 2 })).unwrap()
}

#[test]
fn the_table_is_replaced_as_a_whole_in_one_transaction() {
    let commands = installed(&guard(&["10.42.0.0/16", "fd42::/48"]));

    let all = commands["nftables"].as_array().unwrap();
    assert!(all[0]["add"]["table"].is_object());
    assert!(all[1]["delete"]["table"].is_object());
    assert!(all[2]["add"]["table"].is_object());
    let rules = all.iter().filter(|command| command["add"]["rule"].is_object()).count();
    assert_eq!(rules, ruleset::rules(&guard(&["10.42.0.0/16", "fd42::/48"])));
}

fn commands(batch: Nftables<'static>) -> Vec<Value> {
    let commands = serde_json::to_value(batch).unwrap();
    commands["nftables"].as_array().unwrap().clone()
}

#[test]
fn another_guards_sets_are_filled_before_its_rules_ask_them_and_chains_stay() {
    let guard = guard(&["10.42.0.0/16", "fd42::/48"]);
    let turn = ruleset::Turn::after(&["mesh4_a".into(), "mesh6_a".into()]);
    assert_eq!(turn, ruleset::Turn::B);

    let first = commands(ruleset::prepare(&guard, turn));
    let second = commands(ruleset::switch(&guard, turn));

    let kinds =
        |all: &[Value], kind: &str| all.iter().filter(|c| c["add"][kind].is_object()).count();
    assert_eq!((kinds(&first, "rule"), kinds(&first, "chain")), (0, 0));
    assert!(first.iter().any(|c| c["add"]["set"]["name"] == "mesh4_b"), "{first:?}");
    assert!(second[0]["flush"]["table"].is_object());
    assert!(second.iter().all(|command| command.get("delete").is_none()));
    assert_eq!(kinds(&second, "set"), 0);
    let counts = (kinds(&second, "rule"), kinds(&second, "chain"));
    assert_eq!(counts, (ruleset::rules(&guard), ruleset::CHAINS));
    let text = Value::from(second).to_string();
    assert!(text.contains("@mesh4_b") && !text.contains("_a\""), "{text}");
}

#[test]
fn a_prefix_and_an_address_in_it_are_one_interval_of_their_set() {
    let mut guard = guard(&["10.42.0.0/16"]);
    let to = ["10.42.2.0/24".parse().unwrap(), "10.42.2.1/32".parse().unwrap()].into();
    guard.open.insert("hawser-vx".into(), Open { to, from: BTreeSet::new() });

    let sets = commands(ruleset::prepare(&guard, ruleset::Turn::A));

    let set = sets.iter().rfind(|c| c["add"]["set"]["name"] == "to_0_4_a").unwrap();
    assert_eq!(set["add"]["set"]["elem"].as_array().unwrap().len(), 1, "{set}");
}

#[test]
fn no_rule_has_a_set_of_its_own_that_would_be_empty_when_it_begins() {
    let mut guard = guard(&["10.42.0.0/16", "fd42::/48"]);
    let peers = BTreeSet::from(["10.42.2.0/24", "fd42:0:0:2::/64"].map(|net| net.parse().unwrap()));
    guard.open.insert("eth0".into(), Open { to: peers.clone(), from: peers });

    let rules = commands(ruleset::switch(&guard, ruleset::Turn::A));

    assert!(rules.iter().all(|rule| !rule.to_string().contains("\"set\":")), "{rules:?}");
    let names = ruleset::set_names(&guard, ruleset::Turn::A);
    for set in ["from_0_4_a", "from_0_6_a", "to_0_4_a", "to_0_6_a"] {
        assert!(names.contains(&set.to_owned()), "{names:?}");
        assert!(rules.iter().any(|rule| rule.to_string().contains(&format!("@{set}"))), "{set}");
    }
}

#[test]
fn a_backend_in_clear_may_carry_to_and_from_its_peers_on_its_device_and_nothing_else() {
    let mut guard = guard(&["10.42.0.0/16", "fd42::/48"]);
    let closed = ruleset::rules(&guard);
    let peers = BTreeSet::from(["10.42.2.0/24", "10.42.3.0/24"].map(|net| net.parse().unwrap()));
    guard.open.insert("eth0".into(), Open { to: peers.clone(), from: peers });

    let commands = installed(&guard);

    let all = commands["nftables"].as_array().unwrap();
    let rules: Vec<_> = all.iter().filter_map(|command| command["add"].get("rule")).collect();
    assert_eq!((rules.len(), ruleset::rules(&guard)), (closed + 2, closed + 2));
    let open = rules.iter().filter(|rule| rule.to_string().contains("eth0"));
    let open: Vec<String> = open.map(|rule| rule["expr"][1]["match"]["left"].to_string()).collect();
    assert!(open[0].contains("saddr") && open[1].contains("daddr"), "{open:?}");
}

#[test]
fn other_plugins_pods_are_judged_like_ours_by_a_set_of_their_devices() {
    let plain = guard(&["10.42.0.0/16", "fd42::/48"]);
    let guard = Guard { devices: ["cni0".into(), "veth1".into()].into(), ..plain.clone() };

    let sets = commands(ruleset::prepare(&guard, ruleset::Turn::B));
    let rules = commands(ruleset::switch(&guard, ruleset::Turn::B));

    let set = sets.iter().rfind(|c| c["add"]["set"]["name"] == "devices_b").unwrap();
    assert_eq!(set["add"]["set"]["type"], "ifname");
    assert_eq!(set["add"]["set"]["elem"], serde_json::json!(["cni0", "veth1"]));
    let rules: Vec<String> =
        rules.iter().filter(|c| c["add"]["rule"].is_object()).map(Value::to_string).collect();
    assert_eq!(rules.len(), ruleset::rules(&guard));
    assert_eq!(rules.len(), ruleset::rules(&plain) + 9);
    let theirs: Vec<String> =
        rules.iter().filter(|rule| rule.contains("@devices_b")).cloned().collect();
    let ours: Vec<String> = rules.iter().filter(|rule| rule.contains("hwp*")).cloned().collect();
    let as_ours: Vec<String> =
        theirs.iter().map(|rule| rule.replace("@devices_b", "hwp*")).collect();
    assert_eq!(as_ours, ours, "each rule for our pods' devices is there for theirs");
    let none = commands(ruleset::switch(&plain, ruleset::Turn::A));
    assert!(none.iter().all(|rule| !rule.to_string().contains("devices")), "{none:?}");
}

#[test]
fn both_families_are_dropped_by_destination_and_by_source_in_both_directions() {
    let text = installed(&guard(&["10.42.0.0/16", "fd42::/48"])).to_string();

    for chain in ["ingress", "egress"] {
        for (protocol, set) in [("ip", "@mesh4_a"), ("ip6", "@mesh6_a")] {
            for field in ["daddr", "saddr"] {
                let matches = format!(
                    r#""left":{{"payload":{{"field":"{field}","protocol":"{protocol}"}}}},"op":"==","right":"{set}""#
                );
                assert!(text.contains(&matches), "{chain} {matches}\n{text}");
            }
        }
    }
}

#[test]
fn counters_are_read_and_do_not_count_as_a_difference() {
    let listing = |packets: u64| {
        serde_json::json!({"nftables": [
            {"counter": {"name": "blocked_out", "packets": packets, "bytes": 5}},
            {"counter": {"name": "blocked_in", "packets": 3, "bytes": 5}},
            {"counter": {"name": "forged_source", "packets": 4, "bytes": 5}},
            {"rule": {"chain": "egress", "handle": 12}}]})
    };
    let (mut first, mut second) = (listing(1), listing(2));

    assert_eq!(take_counters(&mut first), Some(Blocked { out: 1, into: 3, forged: 4 }));
    assert_eq!(take_counters(&mut second), Some(Blocked { out: 2, into: 3, forged: 4 }));

    assert_eq!(first, second);
}

#[test]
fn a_mark_is_dropped_only_on_its_way_to_a_machine() {
    let commands = installed(&guard(&["10.42.0.0/16", "fd42::/48"]));

    let all = commands["nftables"].as_array().unwrap();
    let rules = all.iter().filter_map(|command| command["add"].get("rule"));
    let egress = rules.filter(|rule| rule["chain"] == "egress").map(Value::to_string);
    let marked: Vec<String> = egress.filter(|rule| rule.contains("mark")).collect();
    assert_eq!(marked.len(), 2, "{marked:?}");
    for (rule, machines) in marked.iter().zip(["@machines4_a", "@machines6_a"]) {
        assert!(rule.contains("daddr") && rule.contains(machines), "{rule}");
    }
}
