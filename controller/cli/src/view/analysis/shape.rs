//! Whether an object has the form that its definition describes: no field that there is not, and no
//! word that a field does not take. An API server drops the former in silence.

use serde_json::Value;

/// Fields that every object has.
const EVERYBODYS: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// A line for each thing that does not fit.
pub(super) fn problems(object: &Value) -> Vec<String> {
    let definition = api::crds().into_iter().find(|crd| object["kind"] == *crd.spec.names.kind);
    let schema = definition.and_then(|crd| crd.spec.versions.into_iter().next()?.schema);
    let schema = schema.and_then(|schema| schema.open_api_v3_schema);
    let schema = serde_json::to_value(schema).unwrap_or_default();
    let mut found = Vec::new();
    for (field, value) in object.as_object().into_iter().flatten() {
        if !EVERYBODYS.contains(&field.as_str()) {
            walk((&schema["properties"][field], value), field, &mut found);
        }
    }
    found
}

fn walk((schema, value): (&Value, &Value), path: &str, found: &mut Vec<String>) {
    if schema.is_null() {
        found.push(format!("there is no field {path}"));
        return;
    }
    if let Some(words) = schema["enum"].as_array()
        && !words.contains(value)
    {
        let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
        found.push(format!("{path} is {value}; it takes {}", words.join(", ")));
    }
    match value {
        Value::Object(fields) if schema["properties"].is_object() => {
            for (field, value) in fields {
                let path = format!("{path}.{field}");
                walk((&schema["properties"][field], value), &path, found);
            }
        }
        Value::Array(items) if schema["items"].is_object() => {
            for (at, item) in items.iter().enumerate() {
                walk((&schema["items"], item), &format!("{path}[{at}]"), found);
            }
        }
        _ => {}
    }
}
