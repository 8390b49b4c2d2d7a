//! From the text of a schema to its nodes. What we cannot check is an error here: a schema that
//! seems to promise something must not be served without it.

use super::cel::{self, Rule};
use super::format::{self, Format};
use super::node::{Bounds, Kind, Limit, List, Node};
use super::path::Path;
use super::shape;
use regex::Regex;
use serde_json::{Map, Number, Value};

/// Why a schema cannot be compiled; found when the server starts.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct SchemaError {
    pub path: String,
    pub problem: String,
}

impl SchemaError {
    pub(super) fn new(path: Path<'_>, problem: impl Into<String>) -> SchemaError {
        SchemaError { path: path.bracketed(), problem: problem.into() }
    }
}

/// Every word that [`node`] reads or that says nothing about an object.
const KNOWN: &[&str] = &[
    "additionalProperties",
    "allOf",
    "anyOf",
    "default",
    "description",
    "enum",
    "example",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "externalDocs",
    "format",
    "items",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "multipleOf",
    "not",
    "nullable",
    "oneOf",
    "pattern",
    "properties",
    "required",
    "title",
    "type",
    "uniqueItems",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-list-type",
    "x-kubernetes-map-type",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-validations",
];

pub(super) fn root(schema: &Value) -> Result<Node, SchemaError> {
    node(schema, Place { path: Path::Root, in_list: false })
}

#[derive(Clone, Copy)]
struct Place<'a> {
    path: Path<'a>,
    /// Below a list the old value of an item is not known for sure.
    in_list: bool,
}

impl<'a> Place<'a> {
    fn member(&'a self, name: &'a str) -> Place<'a> {
        Place { path: Path::Member(&self.path, name), in_list: self.in_list }
    }

    fn item(&'a self) -> Place<'a> {
        Place { path: Path::Member(&self.path, "items"), in_list: true }
    }

    fn wrong(&self, problem: impl Into<String>) -> SchemaError {
        SchemaError::new(self.path, problem)
    }
}

fn node(schema: &Value, place: Place<'_>) -> Result<Node, SchemaError> {
    let Value::Object(words) = schema else {
        return Err(place.wrong("a schema is an object"));
    };
    if let Some(unknown) = words.keys().find(|word| !KNOWN.contains(&word.as_str())) {
        return Err(place.wrong(format!("{unknown:?} is not supported here")));
    }
    let branch = |word: &str| branches(words, word, place);
    Ok(Node {
        kind: kind(words, place)?,
        nullable: flag(words, "nullable"),
        default: words.get("default").cloned(),
        preserve_unknown: flag(words, "x-kubernetes-preserve-unknown-fields"),
        properties: properties(words, place)?,
        required: strings(words, "required"),
        additional: additional(words, place)?,
        items: words.get("items").map(|items| node(items, place.item())).transpose()?.map(Box::new),
        list: list(words, place)?,
        format: format(words, place)?,
        allowed: words.get("enum").and_then(Value::as_array).cloned().unwrap_or_default(),
        bounds: bounds(words, place)?,
        rules: rules(schema, place)?,
        all_of: branch("allOf")?,
        any_of: branch("anyOf")?,
        one_of: branch("oneOf")?,
        not: words.get("not").map(|not| node(not, place)).transpose()?.map(Box::new),
    })
}

fn kind(words: &Map<String, Value>, place: Place<'_>) -> Result<Kind, SchemaError> {
    if flag(words, "x-kubernetes-int-or-string") {
        return Ok(Kind::IntOrString);
    }
    match words.get("type").and_then(Value::as_str) {
        None => Ok(Kind::Any),
        Some("object") => Ok(Kind::Object),
        Some("array") => Ok(Kind::Array),
        Some("string") => Ok(Kind::String),
        Some("integer") => Ok(Kind::Integer),
        Some("number") => Ok(Kind::Number),
        Some("boolean") => Ok(Kind::Boolean),
        Some(other) => Err(place.wrong(format!("no such type: {other:?}"))),
    }
}

fn properties(
    words: &Map<String, Value>,
    place: Place<'_>,
) -> Result<std::collections::BTreeMap<String, Node>, SchemaError> {
    let members = words.get("properties").and_then(Value::as_object).into_iter().flatten();
    members.map(|(name, schema)| Ok((name.clone(), node(schema, place.member(name))?))).collect()
}

fn additional(
    words: &Map<String, Value>,
    place: Place<'_>,
) -> Result<Option<Box<Node>>, SchemaError> {
    match words.get("additionalProperties") {
        None | Some(Value::Bool(false)) => Ok(None),
        Some(Value::Bool(true)) => Ok(Some(Box::default())),
        Some(schema) => Ok(Some(Box::new(node(schema, place.member("*"))?))),
    }
}

fn branches(
    words: &Map<String, Value>,
    word: &str,
    place: Place<'_>,
) -> Result<Vec<Node>, SchemaError> {
    let schemas = words.get(word).and_then(Value::as_array).into_iter().flatten();
    schemas.map(|schema| node(schema, place)).collect()
}

fn list(words: &Map<String, Value>, place: Place<'_>) -> Result<List, SchemaError> {
    match words.get("x-kubernetes-list-type").and_then(Value::as_str) {
        None | Some("atomic") => Ok(List::Atomic),
        Some("set") => Ok(List::Set),
        Some("map") => Ok(List::Map(strings(words, "x-kubernetes-list-map-keys"))),
        Some(other) => Err(place.wrong(format!("no such list type: {other:?}"))),
    }
}

fn format(words: &Map<String, Value>, place: Place<'_>) -> Result<Option<Format>, SchemaError> {
    match words.get("format").and_then(Value::as_str) {
        None => Ok(None),
        Some(name) if format::UNCHECKED.contains(&name) => Ok(None),
        Some(name) => match Format::named(name) {
            Some(format) => Ok(Some(format)),
            None => Err(place.wrong(format!("the format {name:?} is not supported here"))),
        },
    }
}

fn bounds(words: &Map<String, Value>, place: Place<'_>) -> Result<Bounds, SchemaError> {
    let count = |word: &str| words.get(word).and_then(Value::as_u64);
    let limit = |word: &str, exclusive: &str| {
        let value = number(words, word)?;
        Some(Limit { value, exclusive: flag(words, exclusive) })
    };
    let pattern = words.get("pattern").and_then(Value::as_str).map(Regex::new).transpose();
    Ok(Bounds {
        minimum: limit("minimum", "exclusiveMinimum"),
        maximum: limit("maximum", "exclusiveMaximum"),
        multiple_of: number(words, "multipleOf"),
        min_length: count("minLength"),
        max_length: count("maxLength"),
        pattern: pattern.map_err(|error| place.wrong(error.to_string()))?,
        min_items: count("minItems"),
        max_items: count("maxItems"),
        unique_items: flag(words, "uniqueItems"),
        min_properties: count("minProperties"),
        max_properties: count("maxProperties"),
    })
}

fn rules(schema: &Value, place: Place<'_>) -> Result<Vec<Rule>, SchemaError> {
    let rules = schema.get("x-kubernetes-validations").and_then(Value::as_array);
    let compiled = rules.into_iter().flatten().map(|rule| {
        let rule = cel::compile(schema, rule).map_err(|problem| place.wrong(problem))?;
        if rule.is_transition() && place.in_list {
            return Err(place.wrong("oldSelf inside a list: items have no sure predecessor"));
        }
        Ok(rule)
    });
    compiled.collect()
}

/// A whole number without its point: `65535.0` is how generated schemas write 65535.
fn number(words: &Map<String, Value>, word: &str) -> Option<Number> {
    let number = words.get(word)?.as_number()?;
    Some(shape::whole(number).unwrap_or_else(|| number.clone()))
}

fn flag(words: &Map<String, Value>, word: &str) -> bool {
    words.get(word) == Some(&Value::Bool(true))
}

fn strings(words: &Map<String, Value>, word: &str) -> Vec<String> {
    let list = words.get(word).and_then(Value::as_array).into_iter().flatten();
    list.filter_map(Value::as_str).map(str::to_owned).collect()
}
