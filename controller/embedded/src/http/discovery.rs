//! What is served, told to clients that ask: aggregated (one answer) and plain (one a group).

use crate::kind::{Kind, Kinds};
use serde_json::{Value, json};

const VERBS: [&str; 8] =
    ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
const VIEW_VERBS: [&str; 3] = ["get", "list", "watch"];
const STATUS_VERBS: [&str; 3] = ["get", "patch", "update"];

fn verbs(kind: &Kind) -> &'static [&'static str] {
    if kind.view.is_some() { &VIEW_VERBS } else { &VERBS }
}

pub(crate) fn version() -> Value {
    json!({
        "major": "1", "minor": "32", "gitVersion": "v1.32.0+hawser", "gitCommit": "",
        "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z", "goVersion": "none",
        "compiler": "rustc", "platform": "linux/amd64",
    })
}

/// `/api`.
pub(crate) fn core_versions() -> Value {
    json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})
}

/// `/apis`.
pub(crate) fn groups(kinds: &Kinds) -> Value {
    let named = kinds.group_versions().into_iter().filter(|(group, _)| !group.is_empty());
    let groups: Vec<Value> = named.map(|(group, version)| entry(group, version)).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `/apis/G`.
pub(crate) fn group(kinds: &Kinds, name: &str) -> Option<Value> {
    let (group, version) = kinds.group_versions().into_iter().find(|(group, _)| *group == name)?;
    let mut answer = entry(group, version);
    answer["kind"] = "APIGroup".into();
    answer["apiVersion"] = "v1".into();
    Some(answer)
}

fn entry(group: &str, version: &str) -> Value {
    let version = json!({"groupVersion": format!("{group}/{version}"), "version": version});
    json!({"name": group, "versions": [version], "preferredVersion": version})
}

/// `/apis/G/V`.
pub(crate) fn resources(kinds: &Kinds, group: &str, version: &str) -> Value {
    let mut resources = Vec::new();
    for kind in kinds.of(group, version) {
        resources.push(json!({
            "name": kind.plural, "singularName": kind.singular, "namespaced": kind.namespaced,
            "kind": kind.kind, "verbs": verbs(kind), "shortNames": kind.short_names,
            "categories": kind.categories,
        }));
        if kind.has_status {
            resources.push(json!({
                "name": format!("{}/status", kind.plural), "singularName": "",
                "namespaced": kind.namespaced, "kind": kind.kind, "verbs": STATUS_VERBS,
            }));
        }
    }
    let group_version =
        if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version,
        "resources": resources,
    })
}

/// `/api` or `/apis` for those who take it all at once.
pub(crate) fn aggregated(kinds: &Kinds, core: bool) -> Value {
    let pairs = kinds.group_versions().into_iter().filter(|(group, _)| group.is_empty() == core);
    let items: Vec<Value> = pairs
        .map(|(group, version)| {
            let resources: Vec<Value> =
                kinds.of(group, version).map(|kind| aggregated_resource(kind)).collect();
            let metadata = if core { json!({}) } else { json!({"name": group}) };
            json!({"metadata": metadata, "versions": [
                {"version": version, "freshness": "Current", "resources": resources},
            ]})
        })
        .collect();
    json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {}, "items": items,
    })
}

fn aggregated_resource(kind: &Kind) -> Value {
    let response = json!({"group": kind.group, "version": kind.version, "kind": kind.kind});
    let mut resource = json!({
        "resource": kind.plural, "responseKind": response, "singularResource": kind.singular,
        "scope": if kind.namespaced { "Namespaced" } else { "Cluster" },
        "verbs": verbs(kind), "shortNames": kind.short_names, "categories": kind.categories,
    });
    if kind.has_status {
        resource["subresources"] = json!([
            {"subresource": "status", "responseKind": response, "verbs": STATUS_VERBS},
        ]);
    }
    resource
}
