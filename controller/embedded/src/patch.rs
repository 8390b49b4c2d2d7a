//! The two ways to change part of an object: RFC 7396 merge patch and RFC 6902 JSON patch.

use json_patch::{PatchOperation, TestOperation};
use serde_json::Value;

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PatchError {
    /// 400: the body is no patch.
    #[error("error decoding patch: {0}")]
    Malformed(String),
    /// 422: a `test` that does not hold, a path that is not there.
    #[error("the patch does not apply: {0}")]
    DoesNotApply(String),
}

/// One request must not keep the one writer busy for long.
const MAX_OPERATIONS: usize = 10_000;

/// RFC 7396. The patch must be an object.
pub fn merge(target: &mut Value, patch: &Value) -> Result<(), PatchError> {
    if !patch.is_object() {
        return Err(PatchError::Malformed("a merge patch is an object".to_owned()));
    }
    json_patch::merge(target, patch);
    Ok(())
}

/// RFC 6902, with one difference that Kubernetes has and clients rely on: `test` for `null` holds
/// where the member is absent. On an error the target is unchanged.
pub fn json(target: &mut Value, operations: &Value) -> Result<(), PatchError> {
    let operations: Vec<PatchOperation> = serde_json::from_value(operations.clone())
        .map_err(|error| PatchError::Malformed(error.to_string()))?;
    if operations.len() > MAX_OPERATIONS {
        let count = operations.len();
        let text = format!("{count} operations; at most {MAX_OPERATIONS} are taken");
        return Err(PatchError::Malformed(text));
    }
    let mut changed = target.clone();
    for operation in operations {
        if let PatchOperation::Test(test) = &operation
            && is_null_where_absent(test, &changed)
        {
            continue;
        }
        json_patch::patch(&mut changed, &[operation])
            .map_err(|error| PatchError::DoesNotApply(error.to_string()))?;
    }
    *target = changed;
    Ok(())
}

/// The object that would hold the member must be there.
fn is_null_where_absent(test: &TestOperation, document: &Value) -> bool {
    let path = test.path.as_str();
    let Some((parent, _)) = path.rsplit_once('/') else {
        return false;
    };
    test.value.is_null()
        && document.pointer(path).is_none()
        && document.pointer(parent).is_some_and(Value::is_object)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object() -> Value {
        json!({"metadata": {"name": "a"}, "spec": {"size": 1, "tags": ["a"]}})
    }

    #[test]
    fn a_merge_patch_sets_removes_and_replaces_lists() {
        let mut target = object();

        merge(&mut target, &json!({"spec": {"size": null, "tags": ["b"], "new": {"x": 1}}}))
            .unwrap();

        assert_eq!(target["spec"], json!({"tags": ["b"], "new": {"x": 1}}));
    }

    #[test]
    fn a_merge_patch_that_is_no_object_is_refused() {
        for patch in [json!(null), json!([1]), json!("x"), json!(3)] {
            let mut target = object();

            assert!(matches!(merge(&mut target, &patch), Err(PatchError::Malformed(_))));
            assert_eq!(target, object());
        }
    }

    #[test]
    fn a_test_for_null_holds_where_the_member_is_absent() {
        let patch = json!([
            {"op": "test", "path": "/metadata/finalizers", "value": null},
            {"op": "add", "path": "/metadata/finalizers", "value": ["x/y"]},
        ]);
        let mut target = object();

        json(&mut target, &patch).unwrap();
        assert_eq!(target["metadata"]["finalizers"], json!(["x/y"]));

        let again = json(&mut target, &patch);
        assert!(matches!(again, Err(PatchError::DoesNotApply(_))), "it is there now: {again:?}");
    }

    #[test]
    fn a_patch_that_fails_halfway_changes_nothing() {
        for operations in [
            json!([{"op": "remove", "path": "/spec/size"}, {"op": "remove", "path": "/spec/gone"}]),
            json!([{"op": "add", "path": "/spec/x", "value": 1},
                   {"op": "test", "path": "/spec/size", "value": 9}]),
            json!([{"op": "test", "path": "/metadata/x/y", "value": null}]),
            json!([{"op": "test", "path": "/metadata/finalizers", "value": ["a"]}]),
            json!([{"op": "replace", "path": "/spec/low", "value": 1}]),
            json!([{"op": "add", "path": "/spec/tags/9", "value": "a"}]),
        ] {
            let mut target = object();

            let result = json(&mut target, &operations);

            assert!(matches!(result, Err(PatchError::DoesNotApply(_))), "{operations}: {result:?}");
            assert_eq!(target, object(), "{operations}");
        }
    }

    #[test]
    fn what_is_no_json_patch_is_refused_as_such() {
        for operations in [
            json!({"op": "add"}),
            json!([{"op": "frob", "path": "/a", "value": 1}]),
            json!([{"op": "add", "path": "/a"}]),
        ] {
            let result = json(&mut object(), &operations);

            assert!(matches!(result, Err(PatchError::Malformed(_))), "{operations}: {result:?}");
        }
    }

    #[test]
    fn an_empty_json_patch_changes_nothing() {
        let mut target = object();

        json(&mut target, &json!([])).unwrap();

        assert_eq!(target, object());
    }
}
