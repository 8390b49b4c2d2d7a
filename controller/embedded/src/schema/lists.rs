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
            let repeated = match &node.list {
                List::Atomic => None,
                List::Set => first_repeated(items, |item| item).map(|i| (i, items[i].clone())),
                List::Map(keys) => {
                    let of: Vec<Value> = items.iter().map(|item| keys_of(keys, item)).collect();
                    first_repeated(&of, |key| key).map(|index| (index, of[index].clone()))
                }
            };
            if let Some((index, value)) = repeated {
                let field = Path::Item(&path, index).bracketed();
                causes.push(Cause::duplicate(&field, &value));
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

/// The index of the first element that stood there before.
pub(super) fn first_repeated<'a, T>(
    items: &'a [T],
    of: impl Fn(&'a T) -> &'a Value,
) -> Option<usize> {
    let mut seen = HashSet::with_capacity(items.len());
    items.iter().position(|item| !seen.insert(of(item).to_string()))
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
