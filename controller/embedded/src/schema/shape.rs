//! Pruning and defaults in one walk: afterwards the object holds what the schema knows, and
//! nothing else.

use super::node::{Kind, Node};
use super::path::Path;
use serde_json::{Map, Number, Value};

/// The members of ObjectMeta; a schema does not list them.
const METADATA: &[&str] = &[
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

pub(super) fn root(node: &Node, object: &mut Value) -> Vec<String> {
    let Value::Object(members) = object else {
        return Vec::new();
    };
    let mut unknown = prune_metadata(members);
    let mut walk = Walk { unknown: Vec::new(), is_root: true };
    walk.object(node, members, Path::Root);
    walk.unknown.sort();
    unknown.append(&mut walk.unknown);
    unknown
}

fn prune_metadata(members: &mut Map<String, Value>) -> Vec<String> {
    let Some(Value::Object(metadata)) = members.get_mut("metadata") else {
        return Vec::new();
    };
    let mut unknown = Vec::new();
    metadata.retain(|name, value| {
        let known = METADATA.contains(&name.as_str());
        if !known {
            unknown.push(named(&format!("metadata.{name}")));
        }
        known && !value.is_null()
    });
    unknown
}

fn named(path: &str) -> String {
    format!("unknown field \"{path}\"")
}

struct Walk {
    unknown: Vec<String>,
    is_root: bool,
}

impl Walk {
    fn value(&mut self, node: &Node, value: &mut Value, path: Path<'_>) {
        match value {
            Value::Object(members) => self.object(node, members, path),
            Value::Array(items) => {
                let Some(child) = node.items.as_deref() else {
                    return;
                };
                for (index, item) in items.iter_mut().enumerate() {
                    if let (Value::Null, false, Some(default)) =
                        (&item, child.nullable, &child.default)
                    {
                        *item = default.clone();
                    }
                    self.value(child, item, Path::Item(&path, index));
                }
            }
            Value::Number(number) => {
                if let (Kind::Integer | Kind::Number, Some(whole)) = (node.kind, whole(number)) {
                    *value = Value::Number(whole);
                }
            }
            Value::Null | Value::Bool(_) | Value::String(_) => {}
        }
    }

    fn object(&mut self, node: &Node, members: &mut Map<String, Value>, path: Path<'_>) {
        let is_root = std::mem::replace(&mut self.is_root, false);
        if !node.preserve_unknown {
            members.retain(|name, _| {
                let known = node.of_key(name).is_some()
                    || (is_root && matches!(name.as_str(), "apiVersion" | "kind" | "metadata"));
                if !known {
                    self.unknown.push(named(&Path::Member(&path, name).dotted()));
                }
                known
            });
        }
        fill(node, members);
        members.retain(|name, value| {
            !value.is_null() || node.of_key(name).is_none_or(|child| child.nullable)
        });
        for (name, value) in members.iter_mut() {
            if is_root && name == "metadata" {
                continue;
            }
            if let Some(child) = node.of_key(name) {
                self.value(child, value, Path::Member(&path, name));
            }
        }
    }
}

/// A default stands in for what is absent, and for a null where none may be.
fn fill(node: &Node, members: &mut Map<String, Value>) {
    for (name, child) in &node.properties {
        let Some(default) = &child.default else {
            continue;
        };
        let absent = match members.get(name) {
            None => true,
            Some(value) => value.is_null() && !child.nullable,
        };
        if absent {
            members.insert(name.clone(), default.clone());
        }
    }
    let Some(additional) = node.additional.as_deref().filter(|child| !child.nullable) else {
        return;
    };
    let Some(default) = &additional.default else {
        return;
    };
    for (name, value) in members.iter_mut() {
        if value.is_null() && !node.properties.contains_key(name) {
            *value = default.clone();
        }
    }
}

/// `1.0` is `1` to a cluster; `None` when there is nothing to change.
#[allow(clippy::float_cmp, reason = "a whole number compares exactly")]
pub(super) fn whole(number: &Number) -> Option<Number> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if !number.is_f64() {
        return None;
    }
    let value = number.as_f64()?;
    (value.trunc() == value && value.abs() < EXACT).then(|| Number::from(value as i64))
}
