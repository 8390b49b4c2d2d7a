use super::metadata;
use super::strategy::*;
use crate::kind::{Kind, Kinds};
use serde_json::{Value, json};
use std::sync::Arc;

fn kind() -> Arc<Kind> {
    let kinds = Kinds::new(&api::crds()).unwrap();
    kinds.find("hawser.dev", "v1alpha1", "meshnodes").unwrap().clone()
}

fn stored() -> Value {
    created(&kind(), json!({"metadata": {"name": "a"}, "spec": {"keyEpoch": 1}}), "u", now())
}

fn now() -> jiff::Timestamp {
    "2026-01-02T03:04:05.678Z".parse().unwrap()
}

#[test]
fn a_client_cannot_set_what_is_the_servers() {
    let body = json!({
        "metadata": {
            "name": "a", "uid": "mine", "generation": 9, "creationTimestamp": null,
            "deletionTimestamp": "2020-01-01T00:00:00Z", "managedFields": [{}], "selfLink": "x",
        },
        "spec": {"keyEpoch": 1},
        "status": {"version": "1"},
    });

    let new = created(&kind(), body.clone(), "u", now());

    let expected = json!({
        "metadata": {
            "name": "a", "uid": "u", "generation": 1, "creationTimestamp": "2026-01-02T03:04:05Z",
        },
        "spec": {"keyEpoch": 1},
    });
    assert_eq!(new, expected);
    assert_eq!(updated(&kind(), &stored(), body)["metadata"], stored()["metadata"]);
}

#[test]
fn only_what_is_asked_for_counts_as_a_generation() {
    let old = stored();
    for (change, generation) in [
        (json!({"metadata": {"labels": {"a": "b"}}}), 1),
        (json!({"status": {"version": "2"}}), 1),
        (json!({"spec": {"keyEpoch": 2}}), 2),
    ] {
        let mut new = old.clone();
        crate::patch::merge(&mut new, &change).unwrap();
        let new = updated(&kind(), &old, new);
        assert_eq!(new["metadata"]["generation"], generation, "{change}");
    }
}

#[test]
fn an_object_is_finished_when_it_is_marked_and_nothing_holds_it() {
    let mut held = stored();
    held["metadata"]["finalizers"] = json!(["hawser.dev/x"]);
    let marked = marked_deleted(&kind(), &held, now());
    let mut freed = marked.clone();
    freed["metadata"]["finalizers"] = json!([]);

    assert!(!is_finished(&stored()));
    assert!(!is_finished(&marked));
    assert_eq!(marked["metadata"]["generation"], 2);
    assert!(is_finished(&updated(&kind(), &marked, freed)));
}

#[test]
fn a_precondition_is_a_version_or_a_uid() {
    let mut old = stored();
    old["metadata"]["resourceVersion"] = "7".into();
    let check = |metadata: Value| {
        let asked = json!({"metadata": metadata});
        check_preconditions(&kind(), &old, &asked).map_err(|status| status.code)
    };

    assert_eq!(check(json!({})), Ok(()));
    assert_eq!(check(json!({"resourceVersion": "", "uid": ""})), Ok(()));
    assert_eq!(check(json!({"resourceVersion": "7", "uid": "u"})), Ok(()));
    assert_eq!(check(json!({"resourceVersion": "6"})), Err(409));
    assert_eq!(check(json!({"uid": "another"})), Err(409));
}

#[test]
fn metadata_is_judged_as_a_cluster_does() {
    for good in [
        json!({"name": "a"}),
        json!({"name": "10-42-3-0-24"}),
        json!({"name": "a.b", "labels": {"x/y": "", "z": "A_1.b"}}),
        json!({"name": "a", "annotations": {"hawser.dev/x": "any text\n"}}),
        json!({"name": "a", "finalizers": ["hawser.dev/x"]}),
    ] {
        assert_eq!(metadata::validate(&good), [], "{good}");
    }
    for bad in [
        json!({}),
        json!({"name": ""}),
        json!({"name": "A"}),
        json!({"name": "a_b"}),
        json!({"name": "fd42::/64"}),
        json!({"name": "-a"}),
        json!({"name": "a".repeat(254)}),
        json!({"name": "a", "labels": {"x": "no spaces"}}),
        json!({"name": "a", "labels": {"-": "x"}}),
        json!({"name": "a", "labels": {"x": 1}}),
        json!({"name": "a", "annotations": {"x": "y".repeat(300_000)}}),
        json!({"name": "a", "finalizers": "x"}),
        json!({"name": "a", "ownerReferences": {}}),
    ] {
        assert_eq!(metadata::validate(&bad).len(), 1, "{bad}");
    }
}
