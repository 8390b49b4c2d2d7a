//! The borrowed kinds: a Lease for the controllers, Events for people.
//!
//! Events are stored once, as `events.k8s.io/v1`; `kubectl describe` and `kubectl get events` read
//! the older `v1` view of the same store.

use crate::kind::{Kind, KindError};
use crate::selector::EVENT_FIELDS;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Map, Value, json};

/// The group of the kind that events are stored as.
pub(crate) const EVENTS: &str = "events.events.k8s.io";

pub(crate) fn kinds() -> Result<Vec<Kind>, KindError> {
    let lease = Kind::from_crd(&crd(
        "coordination.k8s.io",
        "Lease",
        "leases",
        &[
            ("Holder", "string", ".spec.holderIdentity"),
            ("Age", "date", ".metadata.creationTimestamp"),
        ],
    ))?;
    let mut events = Kind::from_crd(&crd(
        "events.k8s.io",
        "Event",
        "events",
        &[
            ("Last Seen", "date", ".metadata.creationTimestamp"),
            ("Type", "string", ".type"),
            ("Reason", "string", ".reason"),
            ("Object", "string", ".regarding.name"),
            ("Message", "string", ".note"),
        ],
    ))?;
    events.fields = EVENT_FIELDS;
    let mut core = Kind::from_crd(&crd(
        "",
        "Event",
        "events",
        &[
            ("Last Seen", "date", ".lastTimestamp"),
            ("Type", "string", ".type"),
            ("Reason", "string", ".reason"),
            ("Object", "string", ".involvedObject.name"),
            ("Message", "string", ".message"),
        ],
    ))?;
    core.fields = EVENT_FIELDS;
    core.short_names = vec!["ev".to_owned()];
    EVENTS.clone_into(&mut core.stored_as);
    core.view = Some(core_event);
    let mut kinds = vec![lease, events, core];
    for kind in &mut kinds {
        kind.has_generation = false;
    }
    Ok(kinds)
}

/// A kind that is taken as it comes.
fn crd(
    group: &str,
    kind: &str,
    plural: &str,
    columns: &[(&str, &str, &str)],
) -> CustomResourceDefinition {
    let columns: Vec<Value> = columns
        .iter()
        .map(|(name, r#type, path)| json!({"name": name, "type": r#type, "jsonPath": path}))
        .collect();
    serde_json::from_value(json!({
        "metadata": {"name": format!("{plural}.{group}")},
        "spec": {
            "group": group, "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase()},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {
                    "type": "object", "x-kubernetes-preserve-unknown-fields": true,
                }},
                "additionalPrinterColumns": columns,
            }],
        },
    }))
    .expect("the CRD above is well formed")
}

/// `events.k8s.io/v1` → `v1`.
fn core_event(stored: &Value) -> Value {
    let mut event = Map::new();
    event.insert("kind".into(), "Event".into());
    event.insert("apiVersion".into(), "v1".into());
    let renamed = [
        ("metadata", "metadata"),
        ("regarding", "involvedObject"),
        ("related", "related"),
        ("note", "message"),
        ("reason", "reason"),
        ("type", "type"),
        ("action", "action"),
        ("eventTime", "eventTime"),
        ("series", "series"),
        ("reportingController", "reportingComponent"),
        ("reportingInstance", "reportingInstance"),
    ];
    for (from, to) in renamed {
        if let Some(value) = stored.get(from).filter(|v| !v.is_null()) {
            event.insert(to.into(), value.clone());
        }
    }
    let first = stored.get("eventTime").filter(|t| !t.is_null());
    let first = first.unwrap_or(&stored["metadata"]["creationTimestamp"]).clone();
    let last = stored.pointer("/series/lastObservedTime").unwrap_or(&first).clone();
    let count = stored.pointer("/series/count").cloned().unwrap_or(1.into());
    event.insert("firstTimestamp".into(), first);
    event.insert("lastTimestamp".into(), last);
    event.insert("count".into(), count);
    event.insert("source".into(), json!({"component": stored["reportingController"]}));
    Value::Object(event)
}
