use super::*;

const BRIDGE: &str = r#"{"cniVersion":"0.4.0","name":"podnet","disableCheck":true,"plugins":[
    {"type":"bridge","bridge":"cni0","isGateway":true,"ipMasq":true,
     "ipam":{"type":"host-local","ranges":[[{"subnet":"10.244.1.0/24"}]]}},
    {"type":"portmap","capabilities":{"portMappings":true}}]}"#;

fn chain(files: &[(&str, &str)]) -> Result<Chain, Unchained> {
    let files = files.iter().map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec()));
    configuration(&files.collect(), Ours { state: Path::new("/var/lib/hawser"), mtu: 1420 })
}

fn text(files: &[(&str, &str)]) -> Value {
    serde_json::from_str(&chain(files).unwrap().text).unwrap()
}

#[test]
fn ours_is_the_last_of_their_plugins_and_all_else_is_as_they_have_it() {
    let made = text(&[("10-bridge.conflist", BRIDGE)]);

    let mut wanted: Value = serde_json::from_str(BRIDGE).unwrap();
    wanted["plugins"][0]["ipMasq"] = false.into();
    wanted["plugins"][0]["mtu"] = 1420.into();
    let ours = json!({"type": "hawser-cni", "chained": true, "state": "/var/lib/hawser"});
    wanted["plugins"].as_array_mut().unwrap().push(ours);
    assert_eq!(made, wanted);
}

#[test]
fn a_file_of_one_plugin_becomes_a_list() {
    let single = r#"{"cniVersion":"1.0.0","name":"n","type":"ptp","mtu":1400,"dns":{}}"#;

    let made = text(&[("20-ptp.conf", single)]);

    assert_eq!((&made["name"], &made["cniVersion"]), (&json!("n"), &json!("1.0.0")));
    assert_eq!(made["plugins"][0], json!({"type": "ptp", "mtu": 1400, "dns": {}}));
    assert_eq!(made["plugins"][1]["type"], "hawser-cni");
}

#[test]
fn the_first_that_can_be_read_and_is_not_ours_is_the_one() {
    let second = BRIDGE.replace("podnet", "second");
    let main = r#"{"cniVersion":"1.0.0","name":"h","plugins":[{"type":"hawser-cni"}]}"#;
    let files = [
        (CONFIGURATION, main),
        ("01-copy.conflist", main),
        ("02-empty.conflist", r#"{"cniVersion":"1.0.0","name":"x","plugins":[]}"#),
        ("03-list.conf", BRIDGE),
        ("04-nameless.json", r#"{"cniVersion":"1.0.0","type":"bridge"}"#),
        (MAIN, main),
        ("06-torn.conflist", r#"{"cniVersion":"1.0.0","na"#),
        ("10-bridge.conflist", second.as_str()),
        ("20-bridge.conflist", BRIDGE),
    ];

    let made = chain(&files).unwrap();

    assert_eq!(made.theirs, "10-bridge.conflist");
    assert!(made.text.contains("second"));
    let skipped = match chain(&files[..7]) {
        Err(Unchained::Nobody(skipped)) => skipped,
        other => panic!("{other:?}"),
    };
    assert_eq!(skipped.len(), 5, "{skipped:?}");
    assert!(skipped[0].contains("already"), "{skipped:?}");
    assert!(skipped[4].contains("06-torn.conflist") && skipped[4].contains("JSON"), "{skipped:?}");
}

#[test]
fn what_cannot_be_followed_says_what_to_do() {
    let early = chain(&[("00-calico.conflist", BRIDGE)]).unwrap_err();
    assert_eq!(early, Unchained::SortsBefore("00-calico.conflist".into()));
    assert!(early.to_string().contains("such as 10-00-calico.conflist"), "{early}");

    for version in [r#""cniVersion":"0.2.0","#, ""] {
        let old = BRIDGE.replace(r#""cniVersion":"0.4.0","#, version);
        let old = chain(&[("10-old.conflist", &old)]).unwrap_err();
        assert!(matches!(old, Unchained::Version { .. }), "{old}");
        assert!(old.to_string().contains("0.3.1"), "{old}");
    }
    let nobody = chain(&[]).unwrap_err();
    assert!(nobody.to_string().contains("cni.mode: Main"), "{nobody}");
}

#[test]
fn an_mtu_of_theirs_stays_and_plugins_without_one_get_none() {
    let theirs = r#"{"cniVersion":"1.0.0","name":"n","plugins":[
        {"type":"bridge","mtu":9000,"ipMasq":false},{"type":"tuning","mtu":0},{"type":"ptp","mtu":0}]}"#;

    let made = text(&[("10.conflist", theirs)]);

    let mtus: Vec<&Value> =
        made["plugins"].as_array().unwrap().iter().map(|one| &one["mtu"]).collect();
    assert_eq!(mtus, [&json!(9000), &json!(0), &json!(1420), &Value::Null]);
}
