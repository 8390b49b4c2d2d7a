use serde_json::json;

use super::*;

fn object(kind: &str, name: &str, rest: &Value) -> Value {
    let mut object = json!({
        "apiVersion": "hawser.dev/v1alpha1", "kind": kind, "metadata": {"name": name},
    });
    for (field, value) in rest.as_object().unwrap() {
        object[field] = value.clone();
    }
    object
}

fn mesh(change: &Value) -> Value {
    let mut spec = json!({"pools": [{"cidr": "10.42.0.0/16", "nodePrefixLength": 24}]});
    for (field, value) in change.as_object().unwrap() {
        spec[field] = value.clone();
    }
    object("Mesh", "default", &json!({ "spec": spec }))
}

fn found(objects: &[Value]) -> Vec<(&'static str, Verdict)> {
    let document = |object: &Value| Document { file: "f.yaml".into(), object: object.clone() };
    let documents: Vec<_> = objects.iter().map(document).collect();
    judge(&documents).iter().map(|finding| (finding.code, finding.verdict)).collect()
}

#[test]
fn what_is_good_is_said_and_what_is_not_ours_is_left_alone() {
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment"});
    let node = object("MeshNode", "a", &json!({"spec": {"subnets": ["10.42.1.0/24"]}}));
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [mesh(&json!({})), node]});

    assert_eq!(found(&[deployment, list]), [("HW6000", Verdict::Ok); 2]);
}

#[test]
fn each_mistake_has_its_code() {
    let node = |spec: Value| object("MeshNode", "a", &json!({ "spec": spec }));
    let status = |status: Value| object("MeshNode", "a", &json!({"spec": {}, "status": status}));
    let pools = |cidrs: &[&str]| {
        let pool = |cidr: &&str| json!({"cidr": cidr, "nodePrefixLength": 24});
        mesh(&json!({"pools": cidrs.iter().map(pool).collect::<Vec<_>>()}))
    };
    let cases = [
        (object("MeshGhost", "a", &json!({})), "HW6001"),
        (node(json!({"subnet": ["10.42.1.0/24"]})), "HW6003"),
        (mesh(&json!({"encryption": "Maybe"})), "HW6003"),
        (object("Mesh", "other", &json!({"spec": {"pools": []}})), "HW6003"),
        (mesh(&json!({"backend": "vxlan"})), "HW6004"),
        (mesh(&json!({"fallback": ["direct"]})), "HW6004"),
        (mesh(&json!({"siteEncryption": [{"sites": [], "encryption": "None"}]})), "HW6004"),
        (
            mesh(&json!({"siteEncryption": [{"sites": ["a", "b"], "encryption": "None"},
                                            {"sites": ["b", "a"], "encryption": "None"}]})),
            "HW6004",
        ),
        (pools(&["10.42.0.0/16", "10.42.8.0/21"]), "HW6005"),
        (pools(&["10.42.0.1/16"]), "HW6005"),
        (pools(&["10.42.0.0/28"]), "HW6005"),
        (mesh(&json!({"serviceCIDRs": ["10.42.128.0/17"]})), "HW6005"),
        (node(json!({"subnets": ["10.42.1.7/24"]})), "HW6006"),
        (status(json!({"endpoints": ["127.0.0.1:51820"]})), "HW6007"),
        (object("MeshPeer", "p", &json!({"spec": {"publicKey": "x", "addresses": []}})), "HW6007"),
        (
            object(
                "SubnetClaim",
                "x",
                &json!({"spec": {"subnet": "10.42.1.0/24", "generation": 1}}),
            ),
            "HW6008",
        ),
    ];

    for (object, code) in cases {
        let findings = found(std::slice::from_ref(&object));
        assert!(!findings.is_empty(), "{object}");
        assert!(
            findings.iter().all(|found| *found == (code, Verdict::Failed))
                || code == "HW6003" && findings.contains(&(code, Verdict::Failed)),
            "{object}: {findings:?}"
        );
    }
}

#[test]
fn objects_are_also_judged_together() {
    let node = |name: &str, subnet: &str| {
        object("MeshNode", name, &json!({"spec": {"subnets": [subnet]}}))
    };
    let overlap = found(&[node("a", "10.42.0.0/23"), node("b", "10.42.1.0/24")]);
    let twice = found(&[node("a", "10.42.0.0/24"), node("a", "10.42.0.0/24")]);

    assert_eq!(overlap[2], ("HW6006", Verdict::Failed));
    assert_eq!(twice[1], ("HW6002", Verdict::Failed));
}

#[test]
fn a_bad_condition_is_told_and_a_good_one_is_not() {
    let condition = |type_: &str, status: &str| {
        json!({"type": type_, "status": status, "reason": "Because", "message": "of that",
               "lastTransitionTime": "2026-11-22T10:00:00Z"})
    };
    let with = |all: Vec<Value>| {
        object("MeshNode", "a", &json!({"spec": {}, "status": {"conditions": all}}))
    };

    let good = found(&[with(vec![condition("Ready", "True"), condition("Degraded", "False")])]);
    let bad = found(&[with(vec![condition("Ready", "False"), condition("Degraded", "True")])]);

    assert_eq!(good, [("HW6000", Verdict::Ok)]);
    assert_eq!(bad, [("HW6009", Verdict::Warning); 2]);
}
