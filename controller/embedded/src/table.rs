//! `as=Table`: the rows that `kubectl get` prints, made by the server.

use crate::jsonpath::JsonPathError;
use jiff::Timestamp;
use serde_json::Value;

/// The columns of one kind: Name, then `additionalPrinterColumns`, or Age without any.
#[derive(Debug)]
pub struct Columns {}

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
    pub fn parse(_word: &str) -> Option<IncludeObject> {
        None
    }
}

impl Columns {
    /// From the `additionalPrinterColumns` array of a CRD version (`Null` if it declares none).
    pub fn compile(_columns: &Value) -> Result<Columns, JsonPathError> {
        Ok(Columns {})
    }

    /// The answer to a list: `list_meta` is the list's own `metadata`.
    pub fn list<'a>(
        &self,
        _objects: impl IntoIterator<Item = &'a Value>,
        _list_meta: Value,
        _include: IncludeObject,
        _now: Timestamp,
    ) -> Value {
        Value::Null
    }

    /// The answer to a get, or the `object` of one watch event. `with_definitions` is true for a
    /// get and for the first event of a watch.
    pub fn one(
        &self,
        _object: &Value,
        _include: IncludeObject,
        _with_definitions: bool,
        _now: Timestamp,
    ) -> Value {
        Value::Null
    }

    /// The `object` of a BOOKMARK on a Table watch: no rows.
    pub fn bookmark(&self, _resource_version: &str) -> Value {
        Value::Null
    }
}

/// `apiVersion`, `kind` and `metadata` alone: `as=PartialObjectMetadata`.
pub fn partial_metadata(_object: &Value) -> Value {
    Value::Null
}
