//! Create, update and patch.

use super::metadata::{self, is_subdomain};
use super::strategy;
use crate::auth::{Identity, refuse_event};
use crate::builtin::EVENTS;
use crate::kind::Kind;
use crate::patch::{self, PatchError};
use crate::schema::FieldValidation;
use crate::status::Status;
use crate::store::{Decision, Object, Store, Written};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, PoisonError};

/// One write: of what, and how.
#[derive(Debug, Clone)]
pub(crate) struct Write {
    pub(crate) kind: Arc<Kind>,
    pub(crate) namespace: String,
    /// Empty in a create that leaves the name to the body.
    pub(crate) name: String,
    pub(crate) to_status: bool,
    pub(crate) dry_run: bool,
    pub(crate) validation: FieldValidation,
    pub(crate) author: Identity,
    pub(crate) now: Timestamp,
}

/// How an object is to change.
#[derive(Debug)]
pub(crate) enum Edit {
    Replace(Value),
    Merge(Value),
    Json(Value),
}

/// What was written, and what to warn about.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) object: Arc<Object>,
    pub(crate) warnings: Vec<String>,
}

/// Unknown fields, told by the writer.
type Warnings = Arc<Mutex<Vec<String>>>;

pub(crate) async fn create(store: &Store, write: Write, body: Value) -> Result<Outcome, Status> {
    let kind = write.kind.clone();
    check_type(&kind, &body)?;
    if body["metadata"]["resourceVersion"].as_str().is_some_and(|version| !version.is_empty()) {
        let why = "resourceVersion should not be set on objects to be created";
        return Err(Status::bad_request(why));
    }
    let mut body = body;
    let name = name_for(&write, &mut body)?;
    let warnings = shape(&write, &mut body)
        .map_err(|unknown| Status::bad_request(format!("{}: {unknown}", kind.not_handled())))?;
    let object = strategy::created(&kind, body, &uuid::Uuid::new_v4().to_string(), write.now);
    admit(&write, &name, &object)?;
    judge(&write, &name, &object, None)?;
    let dry_run = write.dry_run;
    let key = kind.key(&write.namespace, &name);
    let decide = move |current: Option<&Object>, _| match current {
        Some(_) => Err(Status::already_exists(kind.about(&name))),
        None if dry_run => Ok(Decision::Answer(object)),
        None => Ok(Decision::Put(object)),
    };
    let object = store.submit(key, decide).await?.object().clone();
    Ok(Outcome { object, warnings })
}

pub(crate) async fn edit(store: &Store, write: Write, edit: Edit) -> Result<Outcome, Status> {
    let warnings = Warnings::default();
    let key = write.kind.key(&write.namespace, &write.name);
    let told = warnings.clone();
    let decide = move |current: Option<&Object>, _| {
        let Some(current) = current else {
            return Err(write.kind.not_found(&write.name));
        };
        let (decision, unknown) = decide(&write, &current.value, &edit)?;
        *told.lock().unwrap_or_else(PoisonError::into_inner) = unknown;
        Ok(decision)
    };
    let written = store.submit(key, decide).await?;
    let warnings = std::mem::take(&mut *warnings.lock().unwrap_or_else(PoisonError::into_inner));
    match written {
        Written::Stored(object) | Written::Removed(object) => Ok(Outcome { object, warnings }),
    }
}

fn decide(write: &Write, old: &Value, edit: &Edit) -> Result<(Decision, Vec<String>), Status> {
    admit(write, &write.name, old)?;
    let mut asked = edited(write, old, edit)?;
    check_type(&write.kind, &asked)?;
    check_name(write, &asked)?;
    // Before the generation is counted: what is pruned is no change.
    let warnings = shape(write, &mut asked).map_err(|unknown| match edit {
        Edit::Replace(_) => Status::bad_request(format!("{}: {unknown}", write.kind.not_handled())),
        Edit::Merge(_) | Edit::Json(_) => Status::invalid(format!("patch: {unknown}")),
    })?;
    strategy::check_preconditions(&write.kind, old, &asked)?;
    let new = if write.to_status {
        strategy::status_updated(old, &asked)
    } else {
        strategy::updated(&write.kind, old, asked)
    };
    strategy::check_finalizers(old, &new)?;
    admit(write, &write.name, &new)?;
    judge(write, &write.name, &new, Some(old))?;
    let decision = if strategy::is_finished(&new) && !write.dry_run {
        Decision::Remove(new)
    } else if write.dry_run {
        Decision::Answer(new)
    } else if new == *old {
        Decision::Same
    } else {
        Decision::Put(new)
    };
    Ok((decision, warnings))
}

/// The object as the client wants it.
fn edited(write: &Write, old: &Value, edit: &Edit) -> Result<Value, Status> {
    let mut new = old.clone();
    match edit {
        Edit::Replace(body) => {
            check_replacement(write, old, body)?;
            return Ok(body.clone());
        }
        Edit::Merge(patch) => patch::merge(&mut new, patch),
        Edit::Json(operations) => patch::json(&mut new, operations),
    }
    .map_err(|error| match error {
        PatchError::Malformed(why) => Status::bad_request(why),
        PatchError::DoesNotApply(why) => Status::invalid(why),
    })?;
    Ok(new)
}

/// A replacement must say what it replaces.
fn check_replacement(write: &Write, old: &Value, body: &Value) -> Result<(), Status> {
    check_type(&write.kind, body)?;
    check_name(write, body)?;
    strategy::check_preconditions(&write.kind, old, body)?;
    if body["metadata"]["resourceVersion"].as_str().is_none_or(str::is_empty) {
        let cause = crate::schema::Cause {
            reason: "FieldValueInvalid",
            message: "Invalid value: 0: must be specified for an update".to_owned(),
            field: "metadata.resourceVersion".to_owned(),
        };
        return Err(write.kind.invalid(&write.name, vec![cause]));
    }
    Ok(())
}

/// Prunes and fills in defaults; what is unknown is told, or in strict mode the error.
fn shape(write: &Write, object: &mut Value) -> Result<Vec<String>, String> {
    let unknown = write.kind.structural.shape(object);
    match write.validation {
        FieldValidation::Ignore => Ok(Vec::new()),
        FieldValidation::Strict if !unknown.is_empty() => {
            Err(format!("strict decoding error: {}", unknown.join(", ")))
        }
        FieldValidation::Strict | FieldValidation::Warn => Ok(unknown),
    }
}

/// What rights over a kind leave open: whose events a node may write.
fn admit(write: &Write, name: &str, object: &Value) -> Result<(), Status> {
    if write.kind.stored_as != EVENTS {
        return Ok(());
    }
    match refuse_event(&write.author, object) {
        None => Ok(()),
        Some(why) => {
            let about = write.kind.about(name);
            Err(Status::forbidden(format!("{} {name:?} is forbidden: {why}", about.resource()))
                .about(about))
        }
    }
}

/// Metadata, schema and rules.
fn judge(write: &Write, name: &str, object: &Value, old: Option<&Value>) -> Result<(), Status> {
    let mut causes = metadata::validate(&object["metadata"]);
    causes.extend(write.kind.structural.judge(object, old));
    if causes.is_empty() {
        return Ok(());
    }
    Err(write.kind.invalid(name, causes))
}

/// `kind` and `apiVersion` must be the path's.
fn check_type(kind: &Kind, body: &Value) -> Result<(), Status> {
    if !body.is_object() {
        return Err(Status::bad_request("the body is not a JSON object"));
    }
    let (wanted_kind, wanted_version) = (kind.kind.as_str(), kind.api_version());
    if body["kind"] != wanted_kind || body["apiVersion"] != wanted_version.as_str() {
        return Err(Status::bad_request(format!(
            "the object in the data ({} {}) does not match the expected type ({wanted_version} \
             {wanted_kind})",
            body["apiVersion"], body["kind"],
        )));
    }
    match &body["metadata"] {
        Value::Object(_) => Ok(()),
        _ => Err(Status::bad_request("metadata is not a JSON object")),
    }
}

/// Name and namespace never change.
fn check_name(write: &Write, body: &Value) -> Result<(), Status> {
    let metadata = &body["metadata"];
    let name = metadata["name"].as_str().unwrap_or_default();
    if name != write.name {
        return Err(Status::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            write.name
        )));
    }
    check_namespace(write, body)
}

fn check_namespace(write: &Write, body: &Value) -> Result<(), Status> {
    let namespace = body["metadata"]["namespace"].as_str().unwrap_or_default();
    if !namespace.is_empty() && namespace != write.namespace {
        let why = "the namespace of the provided object does not match the namespace sent on the \
                   request";
        return Err(Status::bad_request(why));
    }
    Ok(())
}

/// The new object's name, made up if only its beginning is given.
fn name_for(write: &Write, body: &mut Value) -> Result<String, Status> {
    if !body["metadata"].is_object() {
        body["metadata"] = json!({});
    }
    check_namespace(write, body)?;
    let metadata = &mut body["metadata"];
    if !write.namespace.is_empty() {
        metadata["namespace"] = write.namespace.clone().into();
    }
    let name = metadata["name"].as_str().unwrap_or_default();
    if !name.is_empty() {
        return Ok(name.to_owned());
    }
    let begin = metadata["generateName"].as_str().unwrap_or_default();
    if begin.is_empty() || !is_subdomain(&format!("{begin}x")) {
        let why = "name or generateName is required";
        return Err(Status::invalid(format!("metadata.name: Required value: {why}")));
    }
    let name = format!("{begin}{}", &uuid::Uuid::new_v4().simple().to_string()[..5]);
    metadata["name"] = name.clone().into();
    Ok(name)
}
