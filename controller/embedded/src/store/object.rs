//! What the store holds: an object, as a value and as the bytes that are sent.

use bytes::Bytes;
use serde_json::Value;

/// `kind \0 namespace \0 name`: sorts by kind, then namespace, then name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key(String);

impl Key {
    pub(crate) fn new(kind: &str, namespace: &str, name: &str) -> Key {
        Key(format!("{kind}\0{namespace}\0{name}"))
    }

    pub(crate) fn parse(text: &str) -> Key {
        Key(text.to_owned())
    }

    /// What all keys of a kind begin with, or those in one namespace.
    pub(crate) fn prefix(kind: &str, namespace: &str) -> Key {
        if namespace.is_empty() {
            Key(format!("{kind}\0"))
        } else {
            Key(format!("{kind}\0{namespace}\0"))
        }
    }

    pub(crate) fn starts_with(&self, prefix: &Key) -> bool {
        self.0.starts_with(&prefix.0)
    }

    pub(crate) fn name(&self) -> &str {
        self.0.rsplit('\0').next().unwrap_or_default()
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// One stored object.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Object {
    pub(crate) value: Value,
    /// `value` as text; shares its memory with the event that made it.
    pub(crate) json: Bytes,
}

impl Object {
    pub(crate) fn new(value: Value) -> Object {
        let json = Bytes::from(value.to_string());
        Object { value, json }
    }

    pub(crate) fn uid(&self) -> &str {
        self.value.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default()
    }
}
