use std::{collections::HashMap, ffi::OsString, os::unix::ffi::OsStringExt};

use serde_json::{Value, json};

use super::*;
use crate::Attachment;

fn call(variables: &[(&str, &str)]) -> Result<Call, Failure> {
    let map: HashMap<&str, &str> = variables.iter().copied().collect();
    Call::from_environment(&|name| map.get(name).map(OsString::from))
}

fn add(changed: &[(&str, &str)]) -> Result<Call, Failure> {
    let mut variables = vec![
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", "c1"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_NETNS", "/run/netns/pod"),
    ];
    variables.extend(changed);
    call(&variables)
}

fn config(text: &str) -> Result<NetworkConfig, Failure> {
    NetworkConfig::parse(text.as_bytes())
}

#[test]
fn every_command_is_understood_with_what_it_needs() {
    let who = Attachment::new("c1", "eth0");

    let netns = "/run/netns/pod".into();
    assert_eq!(add(&[]).unwrap(), Call::Add { who: who.clone(), netns });
    let netns = "/run/netns/pod".into();
    assert_eq!(add(&[("CNI_COMMAND", "CHECK")]).unwrap(), Call::Check { who: who.clone(), netns });
    assert_eq!(add(&[("CNI_COMMAND", "DEL"), ("CNI_NETNS", "")]).unwrap(), Call::Del { who });
    assert_eq!(call(&[("CNI_COMMAND", "GC")]).unwrap(), Call::Gc);
    assert_eq!(call(&[("CNI_COMMAND", "STATUS")]).unwrap(), Call::Status);
    assert_eq!(call(&[("CNI_COMMAND", "VERSION")]).unwrap(), Call::Version);
}

#[test]
fn a_bad_variable_is_named() {
    let long = "x".repeat(1025);
    let table = [
        ("CNI_COMMAND", "add"),
        ("CNI_COMMAND", ""),
        ("CNI_CONTAINERID", ""),
        ("CNI_CONTAINERID", "../../x"),
        ("CNI_CONTAINERID", ".hidden"),
        ("CNI_CONTAINERID", "a/b"),
        ("CNI_CONTAINERID", "a b"),
        ("CNI_CONTAINERID", "ü"),
        ("CNI_CONTAINERID", &long),
        ("CNI_IFNAME", ""),
        ("CNI_IFNAME", "."),
        ("CNI_IFNAME", ".."),
        ("CNI_IFNAME", "a/b"),
        ("CNI_IFNAME", "a:b"),
        ("CNI_IFNAME", "a b"),
        ("CNI_IFNAME", "a\tb"),
        ("CNI_IFNAME", "eth%d"),
        ("CNI_IFNAME", "all"),
        ("CNI_IFNAME", "sixteen-letters."),
        ("CNI_NETNS", ""),
        ("CNI_NETNS", "run/netns/pod"),
    ];
    for (name, value) in table {
        let failure = add(&[(name, value)]).unwrap_err();

        assert_eq!(failure.code, Code::InvalidEnvironment, "{name}={value}");
        assert!(failure.msg.contains(name), "{failure}");
    }
    assert!(add(&[("CNI_IFNAME", "fifteen-letters")]).is_ok());
}

#[test]
fn all_that_is_missing_is_named_at_once() {
    let failure = call(&[("CNI_COMMAND", "ADD")]).unwrap_err();

    for name in ["CNI_CONTAINERID", "CNI_IFNAME", "CNI_NETNS"] {
        assert!(failure.msg.contains(name), "{failure}");
    }
}

#[test]
fn a_variable_that_is_not_utf8_is_refused() {
    let failure = Call::from_environment(&|name| match name {
        "CNI_COMMAND" => Some("DEL".into()),
        _ => Some(OsString::from_vec(vec![b'a', 0xff])),
    });

    assert_eq!(failure.unwrap_err().code, Code::InvalidEnvironment);
}

#[test]
fn the_contracts_configuration_is_understood() {
    let config = config(r#"{"cniVersion":"1.0.0","name":"hawser","type":"hawser-cni"}"#).unwrap();

    assert_eq!(config.version, Version::V1_0_0);
    assert_eq!(config.state.to_str(), Some("/var/lib/hawser"));
    assert!(config.prev_result.is_none() && config.valid.is_none());
}

#[test]
fn what_we_do_not_know_is_passed_over() {
    let text = r#"{"cniVersion":"1.1.0","name":"n","cniVersions":["1.0.0","1.1.0"],"future":{"a":[1]},
        "args":{"cni":{"labels":[]}},"runtimeConfig":{"portMappings":[]},"prevResult":null,
        "dns":{"nameservers":["10.0.0.10"]},"state":"/tmp/s"}"#;

    let config = config(text).unwrap();

    assert_eq!(config.dns.unwrap().nameservers, ["10.0.0.10"]);
    assert_eq!(config.state.to_str(), Some("/tmp/s"));
}

#[test]
fn a_bad_configuration_gets_the_specifications_code() {
    let deep = format!(r#"{{"cniVersion":"1.0.0","name":"n","x":{}"#, "[".repeat(500_000));
    let table = [
        ("", Code::Decode),
        ("{", Code::Decode),
        ("[]", Code::Decode),
        (r#"{"cniVersion":1}"#, Code::Decode),
        (&deep, Code::Decode),
        ("{}", Code::IncompatibleVersion),
        (r#"{"cniVersion":"0.2.0","name":"n"}"#, Code::IncompatibleVersion),
        (r#"{"cniVersion":"2.0.0","name":7}"#, Code::IncompatibleVersion),
        (r#"{"cniVersion":"1.0.0"}"#, Code::InvalidConfig),
        (r#"{"cniVersion":"1.0.0","name":"a/b"}"#, Code::InvalidConfig),
        (r#"{"cniVersion":"1.0.0","name":""}"#, Code::InvalidConfig),
        (r#"{"cniVersion":"1.0.0","name":"n","state":"x"}"#, Code::InvalidConfig),
        (r#"{"cniVersion":"1.0.0","name":"n","state":7}"#, Code::Decode),
        (r#"{"cniVersion":"1.0.0","name":"n","prevResult":{"ips":[{}]}}"#, Code::Decode),
        (
            r#"{"cniVersion":"1.0.0","name":"n","runtimeConfig":{"ips":["10.9.9.9"]}}"#,
            Code::UnsupportedField,
        ),
    ];
    for (text, code) in table {
        let failure = config(text).unwrap_err();
        assert_eq!(failure.code, code, "{}: {failure}", &text[..text.len().min(60)]);
    }
    let long = format!(r#"{{"cniVersion":"1.0.0","name":"n","x":"{}"}}"#, "x".repeat(LARGEST));
    assert_eq!(config(&long).unwrap_err().code, Code::InvalidConfig);
}

#[test]
fn garbage_collection_takes_both_names_of_its_list() {
    for key in ["cni.dev/valid-attachments", "cni.dev/attachments"] {
        let text = json!({"cniVersion": "1.1.0", "name": "n",
            key: [{"containerID": "c1", "ifname": "eth0"}]});

        let valid = config(&text.to_string()).unwrap().valid.unwrap();

        assert_eq!(valid, [Attachment::new("c1", "eth0")]);
    }
}

#[test]
fn both_names_of_the_list_at_once_are_understood() {
    let list = json!([{"containerID": "c1", "ifname": "eth0"}]);
    let text = json!({"cniVersion": "1.1.0", "name": "n",
        "cni.dev/valid-attachments": list, "cni.dev/attachments": list});

    let valid = config(&text.to_string()).unwrap().valid.unwrap();

    assert_eq!(valid, [Attachment::new("c1", "eth0")]);
}

fn sample() -> AddResult {
    AddResult {
        host_device: "hwp1".into(),
        host_mac: "0a:00:00:00:00:00".into(),
        ifname: "eth0".into(),
        pod_mac: "0a:00:00:00:00:01".into(),
        netns: "/run/netns/pod".into(),
        mtu: 1400,
        addresses: vec![
            ("10.42.1.2/32".parse().unwrap(), "169.254.1.1".parse().unwrap()),
            ("fd42::2/128".parse().unwrap(), "fe80::1".parse().unwrap()),
        ],
        routes: vec![Route {
            dst: "0.0.0.0/0".parse().unwrap(),
            gateway: "169.254.1.1".parse().unwrap(),
        }],
        dns: Dns::default(),
    }
}

fn result(version: Version) -> Value {
    serde_json::from_str(&sample().to_json(version)).unwrap()
}

#[test]
fn a_result_has_the_form_of_the_version_asked_for() {
    for version in Version::ALL {
        let result = result(version);

        assert_eq!(result["cniVersion"], version.as_str());
        assert_eq!(result["interfaces"][0], {
            let mut host = json!({"name": "hwp1", "mac": "0a:00:00:00:00:00"});
            if version >= Version::V1_1_0 {
                host["mtu"] = 1400.into();
            }
            host
        });
        assert_eq!(result["interfaces"][1]["sandbox"], "/run/netns/pod");
        assert_eq!(result["ips"][1]["address"], "fd42::2/128");
        assert_eq!(result["ips"][1]["interface"], 1);
        let says_family = version < Version::V1_0_0;
        assert_eq!(result["ips"][0].get("version").is_some(), says_family);
        assert_eq!(result["routes"], json!([{"dst": "0.0.0.0/0", "gw": "169.254.1.1"}]));
        assert_eq!(result["dns"], json!({}));
    }
    assert_eq!(result(Version::V0_3_1)["ips"][1]["version"], "6");
}

#[test]
fn a_result_can_be_read_back_as_prev_result() {
    for version in Version::ALL {
        let text =
            json!({"cniVersion": version.as_str(), "name": "n", "prevResult": result(version)});

        let prev = config(&text.to_string()).unwrap().prev_result.unwrap();

        assert_eq!(prev.ips.len(), 2);
        assert_eq!(prev.interfaces[prev.ips[0].interface.unwrap()].name, "eth0");
    }
}

#[test]
fn a_failure_is_the_specifications_object() {
    let failure = Failure { details: "why".into(), ..Failure::new(Code::TryAgainLater, "what") };

    let value: Value = serde_json::from_str(&failure.to_json(Version::V1_0_0)).unwrap();

    assert_eq!(value, json!({"cniVersion": "1.0.0", "code": 11, "msg": "what", "details": "why"}));
}

#[test]
fn commands_came_with_versions() {
    assert!(Version::V0_3_1.at_least(Version::V0_4_0, "CHECK").is_err());
    assert!(Version::V0_4_0.at_least(Version::V0_4_0, "CHECK").is_ok());
    assert!(Version::V1_0_0.at_least(Version::V1_1_0, "GC").is_err());
}
