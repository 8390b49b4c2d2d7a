//! The chart's admission policies in an interpreter of Kubernetes' CEL: what they accept, what they
//! refuse, and that the embedded server refuses the same in the same words.
//!
//! No API server of those that the tests start has ValidatingAdmissionPolicy, so this is as near as
//! it gets: the expressions run here, the machinery around them does not.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use kube_cel::KubeCelExt;
use kube_cel::cel::{Context, Program, Value as Cel};
use serde_json::{Value, json};

const RENDERED: &str = include_str!("../../../deploy/charts/snapshots/default.yaml");
const AGENT: &str = "system:serviceaccount:hawser:hawser-agent";
const NODE_CLAIM: &str = "authentication.kubernetes.io/node-name";

/// One policy of the rendered chart.
struct Policy {
    name: String,
    conditions: Vec<String>,
    /// (expression, message)
    validations: Vec<(String, String)>,
}

impl Policy {
    fn named(name: &str) -> Policy {
        let all: Vec<Value> = serde_saphyr::from_multiple(RENDERED).unwrap();
        let is = |object: &&Value| {
            object["kind"] == "ValidatingAdmissionPolicy" && object["metadata"]["name"] == name
        };
        let spec = &all.iter().find(is).unwrap()["spec"];
        let bound = all.iter().any(|object| {
            object["kind"] == "ValidatingAdmissionPolicyBinding"
                && object["spec"]["policyName"] == name
                && object["spec"]["validationActions"] == json!(["Deny"])
        });
        assert!(bound, "{name} is bound to nothing");
        assert_eq!(spec["failurePolicy"], "Fail");
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let conditions = spec["matchConditions"].as_array().unwrap();
        let validations = spec["validations"].as_array().unwrap();
        assert!(validations.iter().all(|one| one["reason"] == "Forbidden"));
        Policy {
            name: name.to_owned(),
            conditions: conditions.iter().map(|one| text(&one["expression"])).collect(),
            validations: validations
                .iter()
                .map(|one| (text(&one["expression"]), text(&one["message"])))
                .collect(),
        }
    }

    /// Why a request is denied; an expression that fails denies too.
    fn denies(&self, attempt: &Attempt) -> Option<String> {
        let holds = |expression: &String| attempt.evaluates(expression) == Some(true);
        if !self.conditions.iter().all(holds) {
            return None;
        }
        let broken = self.validations.iter().find(|(expression, _)| !holds(expression))?;
        let Policy { name, .. } = self;
        let why = &broken.1;
        Some(format!(
            "ValidatingAdmissionPolicy '{name}' with binding '{name}' denied request: {why}"
        ))
    }
}

#[derive(Clone)]
struct Attempt {
    request: Value,
    object: Value,
    old: Value,
}

impl Attempt {
    fn evaluates(&self, expression: &str) -> Option<bool> {
        let mut context = Context::default().with_all();
        for (name, value) in
            [("request", &self.request), ("object", &self.object), ("oldObject", &self.old)]
        {
            context.add_variable(name, value.clone()).unwrap();
        }
        match Program::compile(expression).unwrap().execute(&context) {
            Ok(Cel::Bool(holds)) => Some(holds),
            Ok(_) | Err(_) => None,
        }
    }

    fn with(mut self, at: &str, value: Value) -> Attempt {
        let (part, pointer) = at.split_once('/').unwrap();
        let part = match part {
            "request" => &mut self.request,
            "object" => &mut self.object,
            _ => &mut self.old,
        };
        *part.pointer_mut(&format!("/{pointer}")).unwrap() = value;
        self
    }
}

/// What the API server tells the policies of an agent's request on node `a`.
fn request(operation: &str, name: &str, subresource: &str) -> Value {
    json!({
        "operation": operation, "name": name, "subResource": subresource,
        "userInfo": {"username": AGENT, "groups": [], "extra": {NODE_CLAIM: ["a"]}},
    })
}

fn status_of(name: &str) -> Attempt {
    let node = json!({"metadata": {"name": name}, "spec": {"keyEpoch": 1}, "status": {}});
    Attempt { request: request("UPDATE", name, "status"), object: node.clone(), old: node }
}

fn event() -> Attempt {
    let object = json!({
        "metadata": {"name": "e", "namespace": "default"},
        "regarding": {"apiVersion": "hawser.dev/v1alpha1", "kind": "MeshNode", "name": "a"},
        "reportingController": "hawser.dev/agent", "reportingInstance": "a",
    });
    Attempt { request: request("CREATE", "e", ""), object, old: Value::Null }
}

#[test]
fn an_agent_writes_the_status_of_its_own_node_only() {
    let policy = Policy::named("hawser-agent-status");

    assert_eq!(policy.denies(&status_of("a")), None);
    let other = policy.denies(&status_of("b")).unwrap();
    assert!(other.ends_with("the status of its own node only"), "{other}");
    for attempt in [
        status_of("a").with("request/subResource", json!("")),
        status_of("a").with("request/operation", json!("CREATE")),
        status_of("a").with("request/operation", json!("DELETE")),
        // A token that says nothing of a node, as an old one does, or too much.
        status_of("a").with("request/userInfo/extra", json!({})),
        status_of("a").with("request/userInfo", json!({"username": AGENT})),
        status_of("a").with("request/userInfo/extra", json!({NODE_CLAIM: []})),
        status_of("a").with("request/userInfo/extra", json!({NODE_CLAIM: ["b", "a"]})),
    ] {
        assert!(policy.denies(&attempt).is_some(), "{}", attempt.request);
    }
}

#[test]
fn an_agent_reports_about_itself_only() {
    let policy = Policy::named("hawser-agent-events");
    let node = json!({"apiVersion": "v1", "kind": "Node", "name": "a"});
    let repeated = Attempt { old: event().object, ..event() };

    assert_eq!(policy.denies(&event()), None);
    assert_eq!(policy.denies(&event().with("object/regarding", node)), None);
    assert_eq!(policy.denies(&repeated), None);
    for attempt in [
        event().with("object/regarding/name", json!("b")),
        event().with("object/regarding/kind", json!("Mesh")),
        event().with("object/regarding/kind", json!("Node")),
        event().with("object/regarding/apiVersion", json!("v1")),
        event().with("object/regarding", json!({"apiVersion": "v1", "kind": "Pod", "name": "a"})),
        event().with("object/regarding", Value::Null),
        event().with("object/reportingInstance", json!("b")),
        event().with("object/reportingController", json!("hawser.dev/controller")),
        event().with("request/userInfo/extra", json!({})),
        repeated.clone().with("old/reportingInstance", json!("b")),
        repeated.clone().with("old/reportingController", json!("kubelet")),
        repeated.clone().with("old/regarding/name", json!("b")),
    ] {
        assert!(policy.denies(&attempt).is_some(), "{} {}", attempt.object, attempt.old);
    }
}

#[test]
fn the_policies_are_about_agents_and_nobody_else() {
    for name in ["system:serviceaccount:hawser:hawser-controller", "system:node:a", "admin"] {
        let status = status_of("b").with("request/userInfo/username", json!(name));
        let event = event()
            .with("object/reportingInstance", json!("b"))
            .with("request/userInfo/username", json!(name));
        assert_eq!(Policy::named("hawser-agent-status").denies(&status), None);
        assert_eq!(Policy::named("hawser-agent-events").denies(&event), None);
    }
}

#[test]
fn the_embedded_server_refuses_in_the_same_words() {
    let source = include_str!("../src/auth/events.rs");
    let policy = Policy::named("hawser-agent-events");

    assert!(source.contains(&format!("const POLICY: &str = \"{}\";", policy.name)));
    let others = event().with("object/regarding/name", json!("b"));
    let why = policy.denies(&others).unwrap();
    let (_, why) = why.split_once("denied request: ").unwrap();
    assert!(source.contains(why), "{why}");
}
