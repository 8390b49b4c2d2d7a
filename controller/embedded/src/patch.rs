//! The two ways to change part of an object: RFC 7396 merge patch and RFC 6902 JSON patch.

use serde_json::Value;

#[derive(Debug, thiserror::Error)]
pub enum PatchError {
    /// 400: the body is no patch.
    #[error("{0}")]
    Malformed(String),
    /// 422: a `test` that does not hold, a path that is not there.
    #[error("{0}")]
    DoesNotApply(String),
}

/// RFC 7396. The patch must be an object (else 400).
pub fn merge(_target: &mut Value, _patch: &Value) -> Result<(), PatchError> {
    Ok(())
}

/// RFC 6902, with one difference that Kubernetes has and clients rely on: `test` for `null` holds
/// where the member is absent. On an error the target is unchanged.
pub fn json(_target: &mut Value, _operations: &Value) -> Result<(), PatchError> {
    Ok(())
}
