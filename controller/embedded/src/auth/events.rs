//! What a node may report: events about itself, in its own name, few and small.
//!
//! RBAC can only say "may create events"; in a cluster an admission policy says the rest (the chart
//! carries it), in the same words.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{GROUP, Identity};
use serde_json::Value;

/// Who writes an agent's events.
const AGENT: &str = "hawser.dev/agent";
/// The policy of the chart that says the same.
const POLICY: &str = "hawser-agent-events";
/// Bytes of JSON; a note is at most 1 KiB in Kubernetes.
const LARGEST: usize = 8 << 10;

/// Why `identity` may not write this event, in an admission policy's words. Both what was there and
/// what shall be there are asked about.
pub(crate) fn refuse_event(identity: &Identity, event: &Value) -> Option<String> {
    let Identity::Node { name, uid } = identity else {
        return None;
    };
    let why = judge(name, uid, event).err()?;
    Some(format!(
        "ValidatingAdmissionPolicy '{POLICY}' with binding '{POLICY}' denied request: {why}"
    ))
}

fn judge(name: &str, uid: &str, event: &Value) -> Result<(), &'static str> {
    let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let group = text("/regarding/apiVersion").split_once('/').map_or("", |(group, _)| group);
    let own_uid = ["", uid].contains(&text("/regarding/uid"));
    let own_kind = match (group, text("/regarding/kind")) {
        (GROUP, "MeshNode") => own_uid,
        ("", "Node") => true,
        _ => false,
    };
    if !own_kind || text("/regarding/name") != name || !text("/regarding/namespace").is_empty() {
        return Err("an agent reports events about its own node only");
    }
    if text("/reportingController") != AGENT || text("/reportingInstance") != name {
        return Err("an agent reports events in its own name only: reportingController is \
                    hawser.dev/agent, reportingInstance its node");
    }
    if text("/metadata/namespace") != "default" {
        return Err("an agent reports events in the namespace default only");
    }
    if event.to_string().len() > LARGEST {
        return Err("an agent's event has at most 8 KiB");
    }
    Ok(())
}

/// So many at once …
const BURST: f64 = 25.0;
/// … and afterwards one in this time. The same figures as client-go's event correlator, per node.
const EACH: Duration = Duration::from_secs(10);

/// How often each node has written events of late: a bucket of 25 that regains one in 10 s.
#[derive(Debug, Default)]
pub(crate) struct Pace(Mutex<HashMap<String, (f64, Instant)>>);

impl Pace {
    /// Whether this one is within the limit; if so, it counts.
    pub(crate) fn allows(&self, node: &str, now: Instant) -> bool {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let left = |(left, at): &(f64, Instant)| {
            let regained = now.saturating_duration_since(*at).as_secs_f64() / EACH.as_secs_f64();
            (left + regained).min(BURST)
        };
        // Who has been silent long enough needs no bucket.
        buckets.retain(|name, bucket| name == node || left(bucket) < BURST);
        let left = buckets.get(node).map_or(BURST, left);
        let allowed = left >= 1.0;
        buckets.insert(node.to_owned(), (if allowed { left - 1.0 } else { left }, now));
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node() -> Identity {
        Identity::Node { name: "a".to_owned(), uid: "u".to_owned() }
    }

    fn event() -> Value {
        json!({
            "metadata": {"name": "e", "namespace": "default"},
            "regarding": {"apiVersion": "hawser.dev/v1alpha1", "kind": "MeshNode", "name": "a", "uid": "u"},
            "reportingController": "hawser.dev/agent", "reportingInstance": "a", "note": "x",
        })
    }

    #[test]
    fn a_node_reports_about_its_mesh_node_and_its_node() {
        let mut of_node = event();
        of_node["regarding"] = json!({"apiVersion": "v1", "kind": "Node", "name": "a", "uid": "k"});

        assert_eq!(refuse_event(&node(), &event()), None);
        assert_eq!(refuse_event(&node(), &of_node), None);
    }

    #[test]
    fn a_node_reports_nothing_about_others_and_nothing_in_anothers_name() {
        for (at, value) in [
            ("/regarding/name", json!("b")),
            ("/regarding/uid", json!("of an earlier node of that name")),
            ("/regarding/kind", json!("Mesh")),
            ("/regarding/kind", json!("Node")),
            ("/regarding/apiVersion", json!("v1")),
            (
                "/regarding",
                json!({"apiVersion": "v1", "kind": "Pod", "name": "a", "namespace": "x"}),
            ),
            ("/regarding", Value::Null),
            ("/reportingInstance", json!("b")),
            ("/reportingController", json!("hawser.dev/controller")),
            ("/metadata/namespace", json!("kube-system")),
            ("/note", json!("x".repeat(9 << 10))),
        ] {
            let mut other = event();
            *other.pointer_mut(at).unwrap() = value.clone();

            let refusal = refuse_event(&node(), &other);

            assert!(
                refusal.is_some_and(|why| why.contains("denied request: an agent")),
                "{at} {value}"
            );
            assert_eq!(refuse_event(&Identity::Admin, &other), None);
        }
    }

    #[test]
    fn a_node_that_reports_too_often_waits_and_others_do_not() {
        let (pace, start) = (Pace::default(), Instant::now());
        let allowed = |node: &str, seconds| {
            (0..100).filter(|_| pace.allows(node, start + Duration::from_secs(seconds))).count()
        };

        assert_eq!(allowed("a", 0), 25);
        assert_eq!(allowed("b", 0), 25);
        assert_eq!(allowed("a", 31), 3);
        assert_eq!(allowed("a", 3600), 25);
        assert_eq!(pace.0.lock().unwrap().len(), 1);
    }
}
