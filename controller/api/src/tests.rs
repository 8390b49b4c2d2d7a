use std::{fs, path::Path};

use ipnet::IpNet;
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::Value;

use crate::*;

fn schemas() -> Vec<(String, Value)> {
    crds()
        .into_iter()
        .map(|crd| {
            let schema = crd.spec.versions[0].schema.clone().unwrap().open_api_v3_schema.unwrap();
            (crd.spec.names.kind, serde_json::to_value(schema).unwrap())
        })
        .collect()
}

/// Calls `see` with the path and the schema of every field.
fn walk(path: &str, schema: &Value, see: &mut impl FnMut(&str, &Value)) {
    see(path, schema);
    if let Some(properties) = schema["properties"].as_object() {
        for (name, property) in properties {
            walk(&format!("{path}.{name}"), property, see);
        }
    }
    if schema["items"].is_object() {
        walk(&format!("{path}[]"), &schema["items"], see);
    }
}

fn fields(mut see: impl FnMut(&str, &Value)) {
    for (kind, schema) in schemas() {
        for part in ["spec", "status"] {
            walk(&format!("{kind}.{part}"), &schema["properties"][part], &mut see);
        }
    }
}

#[test]
fn every_field_is_documented() {
    fields(|path, schema| {
        let written = schema["description"].as_str().is_some_and(|d| !d.contains("derived type"));
        assert!(written || path.ends_with("[]"), "{path} has no description");
    });
}

#[test]
fn every_list_and_every_string_is_bounded() {
    fields(|path, schema| match schema["type"].as_str() {
        Some("array") => assert!(schema["maxItems"].is_u64(), "{path} has no maxItems"),
        Some("string") => {
            let bounded = schema["maxLength"].is_u64()
                || schema["enum"].is_array()
                || schema["pattern"].as_str().is_some_and(|p| !p.contains(['*', '+']));
            assert!(bounded, "{path} has no maxLength");
        }
        _ => {}
    });
}

#[test]
fn nothing_stands_in_a_schema_that_an_old_server_refuses() {
    fields(|path, schema| {
        assert_ne!(schema["default"], "", "{path}: 1.20 reads an empty default as null");
        let words = schema["enum"].as_array();
        let null = words.is_some_and(|words| words.contains(&Value::Null));
        assert!(!null, "{path}: 1.20 refuses null among an enum's words");
    });
}

#[test]
fn deploy_holds_what_the_program_prints() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/crds");
    let mut held: Vec<String> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".yaml"))
        .collect();
    held.sort();
    let mut printed: Vec<String> = manifests().into_iter().map(|(name, _)| name).collect();
    printed.sort();
    assert_eq!(held, printed);

    for (name, text) in manifests() {
        let held = fs::read_to_string(folder.join(&name)).unwrap();
        assert!(
            held == text,
            "deploy/crds/{name} is old; run: cargo run -p api --example crds deploy/crds"
        );
    }
}

#[test]
fn a_prefix_with_host_bits_is_refused_with_the_one_that_was_meant() {
    let error = parse_prefix("10.42.1.7/24").unwrap_err().to_string();
    assert_eq!(error, "10.42.1.7/24 has bits set behind its length; did you mean 10.42.1.0/24?");
    assert!(matches!(parse_prefix("10.42.1.0"), Err(BadPrefix::Malformed(_))));
}

#[test]
fn a_node_is_the_first_host_of_its_subnet() {
    for (subnet, host) in [
        ("10.42.1.0/24", "10.42.1.1"),
        ("fd42:0:0:1::/64", "fd42:0:0:1::1"),
        ("10.42.1.7/32", "10.42.1.7"),
        ("fd42::7/128", "fd42::7"),
    ] {
        assert_eq!(first_host(subnet.parse().unwrap()).to_string(), host);
    }
}

#[test]
fn a_condition_keeps_its_time_until_its_status_changes() {
    let at = |s| Timestamp::from_second(s).unwrap();
    let ready = |holds, why, now| Condition::new("Ready", holds, (why, ""), at(now));
    let mut list = Vec::new();

    assert!(conditions::set(&mut list, ready(true, "Up", 1)));
    assert!(!conditions::set(&mut list, ready(true, "Up", 2)));
    assert!(conditions::set(&mut list, ready(true, "Better", 3)));
    assert_eq!(list[0].last_transition_time, "1970-01-01T00:00:01Z");
    assert!(conditions::set(&mut list, ready(false, "Down", 4)));
    assert_eq!(list[0].last_transition_time, "1970-01-01T00:00:04Z");
    assert_eq!(list.len(), 1);
}

fn subnets() -> impl Strategy<Value = IpNet> {
    prop_oneof![
        (any::<u32>(), 0u8..=32).prop_map(|(a, l)| IpNet::new(
            std::net::Ipv4Addr::from(a).into(),
            l
        )
        .unwrap()
        .trunc()),
        (any::<u128>(), 0u8..=128).prop_map(|(a, l)| IpNet::new(
            std::net::Ipv6Addr::from(a).into(),
            l
        )
        .unwrap()
        .trunc()),
    ]
}

proptest! {
    #[test]
    fn one_subnet_has_one_name(subnet in subnets()) {
        let name = claim_name(&subnet);
        prop_assert!(name.len() <= 63);
        prop_assert!(name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'));
        prop_assert_eq!(subnet_of_claim(&name), Ok(subnet));
    }

    #[test]
    fn no_name_makes_the_parser_panic(name in "[0-9a-f-]{0,40}") {
        let _ = subnet_of_claim(&name);
    }
}
