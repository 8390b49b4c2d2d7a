//! `/openapi/v3`: what kubectl reads for explain, for client-side apply and to learn that the
//! server validates.

use serde_json::Value;

/// One kind, as the document describes it.
#[derive(Debug, Clone)]
pub struct Resource {
    pub group: String,
    pub version: String,
    pub kind: String,
    pub plural: String,
    pub namespaced: bool,
    pub status_subresource: bool,
    /// `openAPIV3Schema`; `Null` for a kind that is taken as it comes.
    pub schema: Value,
}

/// The document of one group version, as text: the caller hashes it (see [`index`]).
pub fn document(_group_version: &str, _resources: &[Resource]) -> String {
    String::new()
}

/// The answer to `/openapi/v3`; `entries` are (`apis/hawser.dev/v1alpha1`, hash of its text).
pub fn index(_entries: &[(String, String)]) -> Value {
    Value::Null
}
