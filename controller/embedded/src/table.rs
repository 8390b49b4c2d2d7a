//! `as=Table`: the rows that `kubectl get` prints, made by the server.

mod age;

use crate::jsonpath::{JsonPath, JsonPathError};
use jiff::Timestamp;
use serde_json::{Value, json};

/// The columns of one kind: Name, then `additionalPrinterColumns`, or Age without any.
#[derive(Debug)]
pub struct Columns {
    definitions: Value,
    cells: Vec<(Kind, JsonPath)>,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    String,
    Integer,
    Number,
    Boolean,
    Date,
}

/// `includeObject=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IncludeObject {
    None,
    #[default]
    Metadata,
    Object,
}

impl IncludeObject {
    /// `None` for an unknown word (400).
    pub fn parse(word: &str) -> Option<IncludeObject> {
        match word {
            "None" => Some(IncludeObject::None),
            "" | "Metadata" => Some(IncludeObject::Metadata),
            "Object" => Some(IncludeObject::Object),
            _ => None,
        }
    }
}

impl Columns {
    /// From the `additionalPrinterColumns` array of a CRD version (`Null` if it declares none).
    pub fn compile(columns: &Value) -> Result<Columns, JsonPathError> {
        let age = [json!({
            "name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp",
            "description": "How long ago the object was created.",
        })];
        let declared = match columns.as_array() {
            Some(columns) if !columns.is_empty() => columns.as_slice(),
            _ => age.as_slice(),
        };
        let mut definitions = vec![definition(&json!({
            "name": "Name", "type": "string", "format": "name",
            "description": "The object's name, unique among its kind.",
        }))];
        definitions.extend(declared.iter().map(definition));
        let cells = declared.iter().map(|column| {
            let path = JsonPath::parse(column["jsonPath"].as_str().unwrap_or_default())?;
            Ok((Kind::named(&column["type"]), path))
        });
        Ok(Columns { cells: cells.collect::<Result<_, _>>()?, definitions: definitions.into() })
    }

    /// The answer to a list: `list_meta` is the list's own `metadata`.
    pub fn list<'a>(
        &self,
        objects: impl IntoIterator<Item = &'a Value>,
        list_meta: Value,
        include: IncludeObject,
        now: Timestamp,
    ) -> Value {
        let rows = objects.into_iter().map(|object| self.row(object, include, now)).collect();
        self.table(true, rows, list_meta)
    }

    /// The answer to a get, or the `object` of one watch event. `with_definitions` is true for a
    /// get and for the first event of a watch.
    pub fn one(
        &self,
        object: &Value,
        include: IncludeObject,
        with_definitions: bool,
        now: Timestamp,
    ) -> Value {
        let meta = json!({ "resourceVersion": object["metadata"]["resourceVersion"] });
        self.table(with_definitions, vec![self.row(object, include, now)], meta)
    }

    /// The `object` of a BOOKMARK on a Table watch: no rows.
    pub fn bookmark(&self, resource_version: &str) -> Value {
        self.table(false, Vec::new(), json!({ "resourceVersion": resource_version }))
    }

    fn table(&self, with_definitions: bool, rows: Vec<Value>, meta: Value) -> Value {
        json!({
            "kind": "Table",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": meta,
            "columnDefinitions": if with_definitions { self.definitions.clone() } else { json!([]) },
            "rows": rows,
        })
    }

    fn row(&self, object: &Value, include: IncludeObject, now: Timestamp) -> Value {
        let mut cells = vec![object["metadata"]["name"].clone()];
        cells.extend(self.cells.iter().map(|(kind, path)| kind.cell(&path.find(object), now)));
        let object = match include {
            IncludeObject::None => Value::Null,
            IncludeObject::Metadata => partial_metadata(object),
            IncludeObject::Object => object.clone(),
        };
        json!({ "cells": cells, "object": object })
    }
}

impl Kind {
    fn named(word: &Value) -> Kind {
        match word.as_str() {
            Some("integer") => Kind::Integer,
            Some("number") => Kind::Number,
            Some("boolean") => Kind::Boolean,
            Some("date") => Kind::Date,
            _ => Kind::String,
        }
    }

    /// `null` is what kubectl prints as `<none>`.
    fn cell(self, found: &[&Value], now: Timestamp) -> Value {
        let Some(first) = found.first() else {
            return Value::Null;
        };
        match self {
            Kind::String => {
                let texts: Vec<String> = found.iter().map(|value| text(value)).collect();
                Value::String(texts.join(","))
            }
            Kind::Integer => match (first.as_i64(), first.as_f64()) {
                (Some(whole), _) => whole.into(),
                (None, Some(float)) => (float as i64).into(),
                (None, None) => Value::Null,
            },
            Kind::Number => first.as_f64().map_or(Value::Null, Value::from),
            Kind::Boolean => first.as_bool().map_or(Value::Null, Value::from),
            Kind::Date => match first.as_str() {
                Some(date) => Value::String(age::since(date, now)),
                None => Value::Null,
            },
        }
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn definition(column: &Value) -> Value {
    let path = column["jsonPath"].as_str().unwrap_or_default();
    let word = |name: &str| column[name].as_str().unwrap_or_default().to_owned();
    let description = match column["description"].as_str() {
        Some(description) => description.to_owned(),
        None => format!("Custom resource definition column (in JSONPath format): {path}"),
    };
    json!({
        "name": word("name"),
        "type": word("type"),
        "format": word("format"),
        "description": description,
        "priority": column["priority"].as_i64().unwrap_or(0),
    })
}

/// `metadata` alone: `as=PartialObjectMetadata`.
pub fn partial_metadata(object: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": object["metadata"],
    })
}

#[cfg(test)]
mod tests;
