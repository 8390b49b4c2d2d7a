use super::*;

fn release() -> Release {
    Release {
        place: Place { release: "mesh".into(), namespace: "net".into() },
        values: vec!["mine.yaml".into()],
        set: vec!["mtu=1400".into()],
        profile: Some(Profile::Ha),
        skip_crds: false,
        wait: Duration::from_secs(90),
    }
}

#[test]
fn both_charts_are_in_this_program_with_every_definition() {
    let definitions = DEFINITIONS.get_dir("files").unwrap();

    assert!(ADD_ON.get_file("templates/agent-daemonset.yaml").is_some());
    assert!(
        ADD_ON.get_file("values-ha.yaml").is_some()
            && ADD_ON.get_file("values-airgap.yaml").is_some()
    );
    assert_eq!(definitions.files().count(), api::crds().len());
}

#[test]
fn it_waits_for_the_add_on_as_long_as_it_is_told_and_only_if_something_is_done() {
    let waits = |chart, verb, dry| {
        flags(chart, verb, &release(), dry).windows(2).any(|pair| pair == ["--timeout", "90s"])
    };

    assert!(waits(Chart::AddOn, Verb::Install, false) && waits(Chart::AddOn, Verb::Upgrade, false));
    assert!(!waits(Chart::Definitions, Verb::Install, false), "they have a time of their own");
    assert!(
        !waits(Chart::AddOn, Verb::Install, true) && !waits(Chart::AddOn, Verb::Template, false)
    );
    let at_once = Release { wait: Duration::ZERO, ..release() };
    assert!(!flags(Chart::AddOn, Verb::Install, &at_once, false).contains(&"--wait".to_owned()));
}

#[test]
fn a_refusal_has_the_exit_code_that_scripts_act_on() {
    for (said, exit) in [
        ("Error: INSTALLATION FAILED: cannot re-use a name that is still in use", Exit::Failed),
        ("Error: INSTALLATION FAILED: Kubernetes cluster unreachable: Get ...", Exit::Unreachable),
        ("Error: UPGRADE FAILED: context deadline exceeded", Exit::TimedOut),
        ("Error: secrets is forbidden: User \"bob\" cannot list resource", Exit::Forbidden),
    ] {
        let failure = refusal("install", said);
        assert_eq!(failure.exit, exit, "{failure}");
        assert!(failure.what.starts_with("helm install: ") && !failure.what.contains("Error: "));
    }
}
