//! `x-kubernetes-list-type`: a set has no value twice, a map no key twice.

use super::cause::Cause;
use super::node::{List, Node};
use super::path::Path;
use serde_json::{Map, Value};
use std::collections::HashSet;

pub(super) fn check(node: &Node, value: &Value, path: Path<'_>, causes: &mut Vec<Cause>) {
    match value {
        Value::Object(members) => {
            for (name, child) in members {
                if let Some(known) = node.properties.get(name) {
                    check(known, child, Path::Member(&path, name), causes);
                } else if let Some(additional) = node.additional.as_deref() {
                    check(additional, child, Path::Key(&path, name), causes);
                }
            }
        }
        Value::Array(items) => {
            let keys: Vec<Value> = match &node.list {
                List::Atomic => Vec::new(),
                List::Set => items.clone(),
                List::Map(keys) => items.iter().map(|item| keys_of(keys, item)).collect(),
            };
            for index in repeated(&keys) {
                let field = Path::Item(&path, index).bracketed();
                causes.push(Cause::duplicate(&field, &keys[index]));
            }
            if let Some(child) = node.items.as_deref() {
                for (index, item) in items.iter().enumerate() {
                    check(child, item, Path::Item(&path, index), causes);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The elements that stood there before.
pub(super) fn repeated(items: &[Value]) -> Vec<usize> {
    let mut seen = HashSet::with_capacity(items.len());
    (0..items.len()).filter(|index| !seen.insert(items[*index].to_string())).collect()
}

/// What `item` was before: only a map's items can be told apart.
pub(super) fn same_item<'a>(list: &List, item: &Value, old: &'a Value) -> Option<&'a Value> {
    let List::Map(keys) = list else {
        return None;
    };
    let wanted = keys_of(keys, item);
    old.as_array()?.iter().find(|before| keys_of(keys, before) == wanted)
}

fn keys_of(keys: &[String], item: &Value) -> Value {
    let present = keys.iter().filter_map(|key| Some((key.clone(), item.get(key)?.clone())));
    Value::Object(present.collect::<Map<_, _>>())
}
