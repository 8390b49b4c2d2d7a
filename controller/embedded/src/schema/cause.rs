//! Why an object is not admitted, in the API server's words: scripts and people know them.

use super::path::Path;
use serde_json::Value;

/// One entry of `details.causes` in a 422.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// `FieldValueInvalid`, `FieldValueRequired`, …
    pub reason: &'static str,
    /// Without the path: `Invalid value: 3: should be …`.
    pub message: String,
    /// `spec.pools[0].cidr`; `<nil>` for the object itself.
    pub field: String,
}

/// Why an object is not admitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rejection {
    /// `strict decoding error: unknown field "spec.x"`: 400, on a patch 422.
    Strict(Vec<String>),
    /// 422 Invalid.
    Invalid(Vec<Cause>),
}

/// The message of a 422: `MeshNode.hawser.dev "a" is invalid: spec.x: Invalid value: …`.
pub fn invalid_message(kind_and_group: &str, name: &str, causes: &[Cause]) -> String {
    let mut texts: Vec<String> =
        causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
    texts.dedup();
    let list = match texts.as_slice() {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    };
    format!("{kind_and_group} {name:?} is invalid: {list}")
}

impl Cause {
    /// `detail` is the whole sentence, path included, as the schema checks of Kubernetes write it.
    pub fn invalid(field: &str, value: &Value, detail: &str) -> Cause {
        let shown = shown(value);
        Cause::new("FieldValueInvalid", field, format!("Invalid value: {shown}: {detail}"))
    }

    pub fn required(field: &str, detail: &str) -> Cause {
        let colon = if detail.is_empty() { "" } else { ": " };
        Cause::new("FieldValueRequired", field, format!("Required value{colon}{detail}"))
    }

    pub fn not_supported(field: &str, value: &Value, supported: &[String]) -> Cause {
        let quoted: Vec<String> = supported.iter().map(|word| format!("{word:?}")).collect();
        let shown = shown(value);
        let list = quoted.join(", ");
        Cause::new(
            "FieldValueNotSupported",
            field,
            format!("Unsupported value: {shown}: supported values: {list}"),
        )
    }

    pub fn forbidden(field: &str, detail: &str) -> Cause {
        Cause::new("FieldValueForbidden", field, format!("Forbidden: {detail}"))
    }

    pub fn duplicate(field: &str, value: &Value) -> Cause {
        Cause::new("FieldValueDuplicate", field, format!("Duplicate value: {value}"))
    }

    pub fn too_long(field: &str, max: u64) -> Cause {
        Cause::new(
            "FieldValueTooLong",
            field,
            format!("Too long: may not be more than {max} bytes"),
        )
    }

    pub fn too_many(field: &str, count: usize, max: u64) -> Cause {
        let noun = if max == 1 { "item" } else { "items" };
        Cause::new(
            "FieldValueTooMany",
            field,
            format!("Too many: {count}: must have at most {max} {noun}"),
        )
    }

    pub(super) fn type_invalid(path: Path<'_>, wanted: &str, got: &str) -> Cause {
        let field = path.dotted();
        let message =
            format!("Invalid value: {got:?}: {field} in body must be of type {wanted}: {got:?}");
        Cause::new("FieldValueTypeInvalid", &path.bracketed(), message).at(path)
    }

    /// Said instead of running the rules on an object whose shape they could not rely on.
    pub(super) fn rules_not_checked() -> Cause {
        Cause::invalid(
            "<nil>",
            &Value::Null,
            "some validation rules were not checked because the object was invalid; \
             correct the existing errors to complete validation",
        )
    }

    pub(super) fn blocks_rules(&self) -> bool {
        matches!(
            self.reason,
            "FieldValueRequired"
                | "FieldValueTooLong"
                | "FieldValueTooMany"
                | "FieldValueTypeInvalid"
                | "FieldValueNotSupported"
        )
    }

    pub(super) fn new(reason: &'static str, field: &str, message: String) -> Cause {
        Cause { reason, message, field: field.to_owned() }
    }

    /// Schema checks name the place with dots alone, and the object itself `<nil>`.
    fn at(mut self, path: Path<'_>) -> Cause {
        let dotted = path.dotted();
        self.field = if dotted.is_empty() { "<nil>".to_owned() } else { dotted };
        self
    }
}

/// A value as an error shows it: whole numbers without a point, text quoted.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{text:?}"),
        other => other.to_string(),
    }
}
