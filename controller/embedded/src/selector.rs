//! `labelSelector=` and `fieldSelector=`: which objects a list or a watch shows.

use serde_json::Value;

/// `a=b,c!=d,e in (f,g),h,!i`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabelSelector {}

/// `metadata.name=a`, and the fields of events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldSelector {}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SelectorError {
    #[error("unable to parse requirement: {0}")]
    Label(String),
    #[error("field label not supported: {0}")]
    Field(String),
}

impl LabelSelector {
    pub fn parse(_text: &str) -> Result<LabelSelector, SelectorError> {
        Ok(LabelSelector {})
    }

    pub fn is_empty(&self) -> bool {
        true
    }

    /// Looks at `metadata.labels` of the object.
    pub fn matches(&self, _object: &Value) -> bool {
        true
    }
}

impl FieldSelector {
    /// `allowed` are the paths besides `metadata.name` and `metadata.namespace`
    /// (see [`EVENT_FIELDS`]).
    pub fn parse(_text: &str, _allowed: &[&str]) -> Result<FieldSelector, SelectorError> {
        Ok(FieldSelector {})
    }

    pub fn is_empty(&self) -> bool {
        true
    }

    /// The value required of `metadata.name`, for a list that is really a get.
    pub fn name(&self) -> Option<&str> {
        None
    }

    /// An absent field is the empty string.
    pub fn matches(&self, _object: &Value) -> bool {
        true
    }
}

/// What may be asked of events besides name and namespace, in the words of `v1` and of
/// `events.k8s.io/v1`.
pub const EVENT_FIELDS: &[&str] = &[];
