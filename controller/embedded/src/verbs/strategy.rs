//! Whose word counts for which part of an object. Pure.
//!
//! | written through | metadata          | status      | everything else |
//! |-----------------|-------------------|-------------|-----------------|
//! | the object      | the client's part | stays       | the client's    |
//! | `/status`       | stays             | the client's | stays          |

use super::metadata::{SERVERS, settable};
use crate::kind::Kind;
use crate::status::Status;
use jiff::Timestamp;
use serde_json::{Map, Value};

/// Whole seconds, as Kubernetes writes times.
pub(super) fn seconds(now: Timestamp) -> Value {
    now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into()
}

/// A new object: the server's metadata, no status.
pub(super) fn created(kind: &Kind, mut body: Value, uid: &str, now: Timestamp) -> Value {
    let mut metadata = settable(&body["metadata"]);
    metadata.insert("uid".to_owned(), uid.into());
    metadata.insert("creationTimestamp".to_owned(), seconds(now));
    if kind.has_generation {
        metadata.insert("generation".to_owned(), 1.into());
    }
    body["metadata"] = metadata.into();
    if kind.has_status
        && let Some(members) = body.as_object_mut()
    {
        members.remove("status");
    }
    body
}

/// The object after an update through its main path.
pub(super) fn updated(kind: &Kind, old: &Value, mut new: Value) -> Value {
    let mut metadata = settable(&new["metadata"]);
    for name in SERVERS {
        if let Some(value) = old["metadata"].get(name) {
            metadata.insert(name.to_owned(), value.clone());
        }
    }
    for name in ["namespace", "resourceVersion"] {
        keep(&mut metadata, &old["metadata"], name);
    }
    new["metadata"] = metadata.into();
    if kind.has_status
        && let Some(members) = new.as_object_mut()
    {
        members.remove("status");
        keep(members, old, "status");
    }
    if kind.has_generation && asks_for_something_else(old, &new) {
        raise_generation(&mut new);
    }
    new
}

/// The object after an update through `/status`.
pub(super) fn status_updated(old: &Value, new: &Value) -> Value {
    let mut result = old.clone();
    let Some(members) = result.as_object_mut() else {
        return result;
    };
    members.remove("status");
    keep(members, new, "status");
    result
}

/// An object that waits for its finalizers.
pub(super) fn marked_deleted(kind: &Kind, old: &Value, now: Timestamp) -> Value {
    let mut marked = old.clone();
    marked["metadata"]["deletionTimestamp"] = seconds(now);
    marked["metadata"]["deletionGracePeriodSeconds"] = 0.into();
    if kind.has_generation {
        raise_generation(&mut marked);
    }
    marked
}

/// Nothing holds it any more.
pub(super) fn is_finished(object: &Value) -> bool {
    object["metadata"].get("deletionTimestamp").is_some()
        && object["metadata"].get("finalizers").is_none()
}

/// A version or uid in the body (or in a patch) is a condition.
pub(super) fn check_preconditions(kind: &Kind, old: &Value, asked: &Value) -> Result<(), Status> {
    let (asked, old) = (&asked["metadata"], &old["metadata"]);
    let about = kind.about(old["name"].as_str().unwrap_or_default());
    let differs = |name: &str| {
        let wanted = asked[name].as_str().filter(|wanted| !wanted.is_empty())?;
        (old[name] != wanted).then_some((wanted, old[name].as_str().unwrap_or_default()))
    };
    if let Some((wanted, is)) = differs("uid") {
        let why =
            format!("Precondition failed: UID in precondition: {wanted}, UID in object meta: {is}");
        return Err(Status::conflict(about, &why));
    }
    if differs("resourceVersion").is_some() {
        let why = "the object has been modified; please apply your changes to the latest version \
                   and try again";
        return Err(Status::conflict(about, why));
    }
    Ok(())
}

/// While it is being deleted, finalizers may go but none may come.
pub(super) fn check_finalizers(old: &Value, new: &Value) -> Result<(), Status> {
    if old["metadata"].get("deletionTimestamp").is_none() {
        return Ok(());
    }
    let none = Vec::new();
    let before = old["metadata"]["finalizers"].as_array().unwrap_or(&none);
    let after = new["metadata"]["finalizers"].as_array().unwrap_or(&none);
    match after.iter().find(|name| !before.contains(name)) {
        None => Ok(()),
        Some(added) => Err(Status::invalid(format!(
            "metadata.finalizers: Forbidden: no new finalizers can be added if the object is \
             being deleted, found new finalizer {added}"
        ))),
    }
}

fn keep(target: &mut Map<String, Value>, source: &Value, name: &str) {
    if let Some(value) = source.get(name) {
        target.insert(name.to_owned(), value.clone());
    }
}

fn asks_for_something_else(old: &Value, new: &Value) -> bool {
    let asked = |object: &Value| {
        let mut members = object.as_object().cloned().unwrap_or_default();
        members.remove("metadata");
        members.remove("status");
        members
    };
    asked(old) != asked(new)
}

fn raise_generation(object: &mut Value) {
    let generation = object["metadata"]["generation"].as_u64().unwrap_or(0);
    object["metadata"]["generation"] = (generation + 1).into();
}
