//! `metadata`: what a client may set, and what it must look like. Pure.

use crate::schema::Cause;
use serde_json::{Map, Value};

/// What is kept of what a client sends; the rest belongs to the server or to nobody.
const SETTABLE: [&str; 7] =
    ["name", "generateName", "namespace", "labels", "annotations", "ownerReferences", "finalizers"];

/// What only the server sets.
pub(super) const SERVERS: [&str; 5] =
    ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"];

/// The same limits as Kubernetes.
const ANNOTATION_BYTES: usize = 256 << 10;

/// The part of `metadata` that a client may set, without empty members.
pub(super) fn settable(metadata: &Value) -> Map<String, Value> {
    let mut kept = Map::new();
    for name in SETTABLE {
        let value = metadata.get(name).filter(|value| !is_empty(value));
        if let Some(value) = value {
            kept.insert(name.to_owned(), value.clone());
        }
    }
    kept
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

pub(super) fn validate(metadata: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let name = metadata["name"].as_str().unwrap_or_default();
    if !is_subdomain(name) {
        causes.push(invalid("metadata.name", name, "must be a lowercase RFC 1123 subdomain: letters, digits, '-' and '.', beginning and ending with a letter or digit"));
    }
    labels(&metadata["labels"], &mut causes);
    annotations(&metadata["annotations"], &mut causes);
    finalizers(&metadata["finalizers"], &mut causes);
    owners(&metadata["ownerReferences"], &mut causes);
    causes
}

fn owners(owners: &Value, causes: &mut Vec<Cause>) {
    let owners = match owners {
        Value::Null => return,
        Value::Array(owners) => owners,
        _ => return causes.push(invalid("metadata.ownerReferences", "", "must be a list")),
    };
    for owner in owners {
        for (name, why) in [
            ("apiVersion", "version must not be empty"),
            ("kind", "must not be empty"),
            ("name", "must not be empty"),
            ("uid", "must not be empty"),
        ] {
            if owner[name].as_str().is_none_or(str::is_empty) {
                causes.push(invalid(&format!("metadata.ownerReferences.{name}"), "", why));
            }
        }
    }
}

fn labels(labels: &Value, causes: &mut Vec<Cause>) {
    let Some(members) = map_of_strings("metadata.labels", labels, causes) else {
        return;
    };
    for (name, value) in members {
        let value = value.as_str().unwrap_or_default();
        if !is_qualified_name(name) {
            causes.push(invalid("metadata.labels", name, "not a valid label name"));
        }
        if !(value.is_empty() || is_word(value)) {
            causes.push(invalid("metadata.labels", value, "a valid label value is empty or at most 63 letters, digits, '-', '_' or '.', beginning and ending with a letter or digit"));
        }
    }
}

fn annotations(annotations: &Value, causes: &mut Vec<Cause>) {
    let Some(members) = map_of_strings("metadata.annotations", annotations, causes) else {
        return;
    };
    let mut bytes = 0;
    for (name, value) in members {
        bytes += name.len() + value.as_str().map_or(0, str::len);
        if !is_qualified_name(&name.to_lowercase()) {
            causes.push(invalid("metadata.annotations", name, "not a valid annotation name"));
        }
    }
    if bytes > ANNOTATION_BYTES {
        causes.push(Cause {
            reason: "FieldValueTooLong",
            message: format!("Too long: may not be more than {ANNOTATION_BYTES} bytes"),
            field: "metadata.annotations".to_owned(),
        });
    }
}

fn finalizers(finalizers: &Value, causes: &mut Vec<Cause>) {
    let names = match finalizers {
        Value::Null => return,
        Value::Array(names) => names,
        _ => return causes.push(invalid("metadata.finalizers", "", "must be a list")),
    };
    for name in names {
        let name = name.as_str().unwrap_or_default();
        if !is_qualified_name(name) {
            causes.push(invalid(
                "metadata.finalizers",
                name,
                "must be a qualified name, such as example.com/name",
            ));
        }
    }
}

fn map_of_strings<'a>(
    field: &str,
    value: &'a Value,
    causes: &mut Vec<Cause>,
) -> Option<&'a Map<String, Value>> {
    match value {
        Value::Null => None,
        Value::Object(members) if members.values().all(Value::is_string) => Some(members),
        _ => {
            causes.push(invalid(field, "", "must be a map of strings"));
            None
        }
    }
}

fn invalid(field: &str, value: &str, why: &str) -> Cause {
    Cause {
        reason: "FieldValueInvalid",
        message: format!("Invalid value: {value:?}: {why}"),
        field: field.to_owned(),
    }
}

/// `example.com/name` or `name`.
fn is_qualified_name(text: &str) -> bool {
    match text.split_once('/') {
        Some((domain, name)) => is_subdomain(domain) && is_word(name),
        None => is_word(text),
    }
}

fn is_word(text: &str) -> bool {
    text.len() <= 63
        && begins_and_ends_alphanumeric(text)
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

pub(super) fn is_subdomain(text: &str) -> bool {
    let label = |label: &str| {
        begins_and_ends_alphanumeric(label)
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

fn begins_and_ends_alphanumeric(text: &str) -> bool {
    let ok = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    ok(text.as_bytes().first()) && ok(text.as_bytes().last())
}
