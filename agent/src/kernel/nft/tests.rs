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
        behind: BTreeSet::new(),
        forwards: false,
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
    let added = |kind: &str| all.iter().filter(|command| command["add"][kind].is_object()).count();
    let size = ruleset::size(&guard(&["10.42.0.0/16", "fd42::/48"]), ruleset::Turn::A);
    assert_eq!(["rule", "chain", "set"].map(added), size);
}

#[test]
fn connections_are_tracked_only_on_a_node_with_pods() {
    let with = guard(&["10.42.0.0/16", "fd42::/48"]);
    let without = Guard { masquerade: BTreeSet::new(), ..with.clone() };
    let tracks = |commands: &[Value]| {
        let rules = commands.iter().filter(|command| command["add"]["rule"].is_object());
        rules
            .map(Value::to_string)
            .any(|rule| rule.contains("masquerade") || rule.contains("\"ct\""))
    };

    let leaving = commands(ruleset::switch(&without, ruleset::Turn::B));
    assert!(tracks(&commands(ruleset::switch(&with, ruleset::Turn::A))));
    assert!(!tracks(&leaving));
    for chain in ["source_nat", "machines", "marked", "from_pods"] {
        let gone = leaving.iter().any(|command| command["delete"]["chain"]["name"] == chain);
        assert!(gone, "{chain} stays with its hook: {leaving:?}");
    }
    assert_eq!(
        ruleset::size(&without, ruleset::Turn::A)[1] + 4,
        ruleset::size(&with, ruleset::Turn::A)[1]
    );
}

#[test]
fn a_gateway_without_pods_marks_what_it_hands_on_and_tracks_nothing() {
    let gateway = Guard {
        masquerade: BTreeSet::new(),
        forwards: true,
        ..guard(&["10.42.0.0/16", "fd42::/48"])
    };

    let all = commands(ruleset::switch(&gateway, ruleset::Turn::A));

    let rules: Vec<_> = all.iter().filter_map(|command| command["add"].get("rule")).collect();
    let marks = rules.iter().filter(|rule| rule["chain"] == "machines").count();
    assert_eq!(marks, 2, "one a family, and none of pods: {rules:?}");
    assert!(rules.iter().all(|rule| !rule.to_string().contains("\"ct\"")), "{rules:?}");
    let gone = |chain: &str| all.iter().any(|one| one["delete"]["chain"]["name"] == chain);
    // The CNI plugin starts the first pod when source_nat is there.
    assert!(gone("source_nat") && gone("from_pods") && !gone("machines") && !gone("marked"));
}

#[test]
fn many_ranges_are_asked_of_a_set() {
    let ranges: Vec<String> = (0..9).map(|third| format!("10.{}.0.0/16", 2 * third)).collect();
    let ranges: Vec<&str> = ranges.iter().map(String::as_str).collect();
    let text =
        Value::from(commands(ruleset::switch(&guard(&ranges), ruleset::Turn::A))).to_string();

    assert!(text.contains("\"right\":\"@mesh4_a\"") && !text.contains("10.16.0.0"), "{text}");
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
    let counts = ["rule", "chain"].map(|kind| kinds(&second, kind));
    assert_eq!(counts, ruleset::size(&guard, turn)[..2]);
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
    let nets = (1..9)
        .map(|node| 2 * node)
        .flat_map(|node| [format!("10.42.{node}.0/24"), format!("fd42:0:0:{node}::/64")]);
    let peers: BTreeSet<_> = nets.map(|net| net.parse().unwrap()).collect();
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
    let size = |guard: &Guard| ruleset::size(guard, ruleset::Turn::A)[0];
    let closed = size(&guard);
    let peers = BTreeSet::from(["10.42.2.0/24", "10.42.3.0/24"].map(|net| net.parse().unwrap()));
    guard.open.insert("eth0".into(), Open { to: peers.clone(), from: peers });

    let commands = installed(&guard);

    let is_open = |rule: &&Value| rule.to_string().contains("eth0");
    let all = commands["nftables"].as_array().unwrap();
    let rules: Vec<_> = all.iter().filter_map(|command| command["add"].get("rule")).collect();
    assert_eq!((rules.len(), size(&guard)), (closed + 3, closed + 3));
    let known = rules.iter().find(|rule| rule["chain"] == "source_nat" && is_open(rule)).unwrap();
    assert!(known["expr"][2]["accept"].is_null(), "pods are there who they are: {known}");
    let rules = rules.into_iter().filter(|rule| rule["chain"] != "source_nat");
    let rules: Vec<_> = rules.collect();
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
    let [more, fewer] = [&guard, &plain].map(|guard| ruleset::size(guard, ruleset::Turn::B)[0]);
    assert_eq!((rules.len(), more - fewer), (more, 1 + 2 + 3 + 1 + 1));
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
    let all = commands(ruleset::switch(&guard(&["10.42.0.0/16", "fd42::/48"]), ruleset::Turn::A));
    let rules: Vec<&Value> = all.iter().filter_map(|command| command["add"].get("rule")).collect();

    for (chain, judge) in [("ingress", "arrives"), ("egress", "leaves")] {
        for (protocol, range) in [("ip", "10.42.0.0"), ("ip6", "fd42::")] {
            for field in ["daddr", "saddr"] {
                let judged = rules.iter().any(|rule| {
                    let (there, to) =
                        (&rule["expr"][0]["match"], &rule["expr"][1]["goto"]["target"]);
                    rule["chain"] == chain
                        && there["left"]["payload"]["protocol"] == protocol
                        && there["left"]["payload"]["field"] == field
                        && there["right"]["prefix"]["addr"] == range
                        && there["op"] == "=="
                        && to == judge
                });
                assert!(judged, "{chain} {protocol} {field}: {rules:?}");
            }
        }
        let last = rules.iter().rfind(|rule| rule["chain"] == judge).unwrap();
        assert!(
            last["expr"][0]["counter"].is_string() && last["expr"][1]["drop"].is_null(),
            "{last}"
        );
        assert_eq!(last["expr"].as_array().unwrap().len(), 2);
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
    let (egress, marked): (Vec<_>, Vec<_>) = rules
        .filter(|rule| ["egress", "marked"].contains(&rule["chain"].as_str().unwrap()))
        .partition(|rule| rule["chain"] == "egress");
    let leads = egress.iter().filter(|rule| rule.to_string().contains("\"mark\"")).count();
    assert_eq!(leads, 1, "{egress:?}");
    let drops: Vec<String> =
        marked.iter().map(|rule| rule.to_string()).filter(|rule| rule.contains("drop")).collect();
    assert_eq!(drops.len(), 2, "{drops:?}");
    for (rule, machines) in drops.iter().zip(["@machines4_a", "@machines6_a"]) {
        assert!(rule.contains("daddr") && rule.contains(machines), "{rule}");
    }
}
