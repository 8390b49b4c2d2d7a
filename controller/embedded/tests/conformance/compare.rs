//! What of two answers counts, and where they differ.

use regex::Regex;
use serde_json::{Map, Value};
use std::sync::LazyLock;

/// Without what differs from run to run: versions, times and uids become `*`, causes are sorted,
/// and a message that lists several of them ends before the list.
pub(crate) fn normalised(value: Value) -> Value {
    match value {
        Value::Object(members) => object(members),
        Value::Array(items) => items.into_iter().map(normalised).collect(),
        Value::String(text) => age(&text).map_or_else(|| steady(&text), str::to_owned).into(),
        other => other,
    }
}

/// A sentence without the uids, the versions and the whole objects that it tells.
fn steady(text: &str) -> String {
    static PARTS: LazyLock<[(Regex, &str); 3]> = LazyLock::new(|| {
        [
            (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "*"),
            (r"record \(\d+\)", "record (*)"),
            (r#"Invalid value: "\{.*\}": strict"#, r#"Invalid value: "*": strict"#),
        ]
        .map(|(pattern, instead)| (Regex::new(pattern).unwrap(), instead))
    });
    PARTS.iter().fold(text.to_owned(), |text, (pattern, instead)| {
        pattern.replace_all(&text, *instead).into_owned()
    })
}

/// `12s` or `6y327d`, as a column of dates shows it; other days have other numbers.
fn age(text: &str) -> Option<&'static str> {
    static AGES: LazyLock<[(Regex, &str); 2]> = LazyLock::new(|| {
        [(r"^\d+s$", "*age"), (r"^\d+y\d+d$", "*years")]
            .map(|(pattern, instead)| (Regex::new(pattern).unwrap(), instead))
    });
    AGES.iter().find(|(pattern, _)| pattern.is_match(text)).map(|(_, instead)| *instead)
}

fn object(members: Map<String, Value>) -> Value {
    let mut kept = Map::new();
    for (name, value) in members {
        let is_text = value.as_str().is_some_and(|text| !text.is_empty());
        let is_empty = value.as_str() == Some("");
        match name.as_str() {
            // Bookkeeping of a cluster that no client of ours reads.
            "managedFields" | "selfLink" | "storageVersionHash" | "serverAddressByClientCIDRs" => {}
            "continue" if is_empty => {}
            "uid" | "resourceVersion" | "creationTimestamp" | "deletionTimestamp" | "continue"
                if is_text =>
            {
                kept.insert(name, "*".into());
            }
            // In discovery, where the order differs from start to start.
            "verbs" | "resources" => {
                let Value::Array(mut items) = normalised(value) else {
                    continue;
                };
                items.sort_by_key(|item| item["name"].to_string() + &item.to_string());
                kept.insert(name, items.into());
            }
            _ => {
                kept.insert(name, normalised(value));
            }
        }
    }
    // Its text is Kubernetes' documentation of ObjectMeta.
    if kept.get("format").is_some_and(|format| format == "name") {
        kept.remove("description");
    }
    sort_causes(&mut kept);
    kept.into()
}

fn sort_causes(status: &mut Map<String, Value>) {
    let Some(causes) = status.get_mut("details").and_then(|details| details.get_mut("causes"))
    else {
        return;
    };
    let Some(causes) = causes.as_array_mut() else {
        return;
    };
    causes.sort_by_key(|cause| (cause["field"].to_string(), cause["message"].to_string()));
    let several = causes.len() > 1;
    if let (true, Some(Value::String(message))) = (several, status.get_mut("message"))
        && let Some(end) = message.find(" is invalid: [")
    {
        message.truncate(end + " is invalid: [".len());
    }
}

/// Pointers to what differs in two answers; one with another code is another answer altogether.
pub(crate) fn differing(expected: &Value, actual: &Value) -> Vec<String> {
    if expected["code"] != actual["code"] {
        return vec!["/code".to_owned()];
    }
    let mut found = Vec::new();
    descend(expected, actual, "", &mut found);
    found
}

fn descend(expected: &Value, actual: &Value, at: &str, found: &mut Vec<String>) {
    match (expected, actual) {
        (Value::Object(expected), Value::Object(actual)) => {
            let names: std::collections::BTreeSet<_> =
                expected.keys().chain(actual.keys()).collect();
            for name in names {
                let (a, b) = (expected.get(name), actual.get(name));
                let at = format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"));
                match (a, b) {
                    (Some(a), Some(b)) => descend(a, b, &at, found),
                    _ => found.push(at),
                }
            }
        }
        (Value::Array(expected), Value::Array(actual)) if expected.len() == actual.len() => {
            for (index, (a, b)) in expected.iter().zip(actual).enumerate() {
                descend(a, b, &format!("{at}/{index}"), found);
            }
        }
        _ if expected == actual => {}
        _ => found.push(at.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_differs_from_run_to_run_does_not_count() {
        let one = json!({"metadata": {"uid": "a", "resourceVersion": "1", "continue": ""},
            "details": {"causes": [{"field": "b", "message": "y"}, {"field": "a", "message": "x"}]},
            "message": "T \"a\" is invalid: [b: y, a: x]", "rows": [{"cells": ["a", "3s"]}]});
        let two = json!({"metadata": {"uid": "b", "resourceVersion": "2", "managedFields": []},
            "details": {"causes": [{"field": "a", "message": "x"}, {"field": "b", "message": "y"}]},
            "message": "T \"a\" is invalid: [a: x, b: y]", "rows": [{"cells": ["a", "4s"]}]});

        assert_eq!(normalised(one), normalised(two));
    }

    #[test]
    fn everything_else_does() {
        let expected = json!({"code": 200, "body": {"a": [1, {"b": 2}], "gone": 1, "x/y": 1}});
        let actual = json!({"code": 200, "body": {"a": [1, {"b": 3}], "new": 1, "x/y": [1]}});

        let all = ["/body/a/1/b", "/body/gone", "/body/new", "/body/x~1y"];
        assert_eq!(differing(&expected, &actual), all);
        assert_eq!(differing(&expected, &json!({"code": 404, "body": {}})), ["/code"]);
        assert!(differing(&expected, &expected).is_empty());
    }
}
