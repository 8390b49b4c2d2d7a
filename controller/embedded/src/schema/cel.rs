//! `x-kubernetes-validations`: rules in CEL, evaluated by kube-cel within a dialect.
//!
//! The library walks objects itself, but in random order and pairing the items of a list with
//! what stood at the same index before; so we walk, and hand it one rule and one value at a time.
//! Functions that are not in [`FUNCTIONS`] are refused when a schema is compiled: what no test has
//! seen reject an object is not trusted to do so.

use super::cause::Cause;
use super::lists;
use super::node::Node;
use super::path::Path;
use kube_cel::{CompiledSchema, ErrorKind, ValidationError, compile_schema};
use serde_json::{Map, Value, json};

/// What rules may call, each shown by a test to work and to reject. Absent on purpose, because
/// the library has them not or wrong: `dyn`, `cel.bind`, comprehensions with two variables (their
/// macros stay calls, and so are refused as functions).
pub(super) const FUNCTIONS: &[&str] = &[
    "!_",
    "-_",
    "@in",
    "@not_strictly_false",
    "_!=_",
    "_%_",
    "_&&_",
    "_*_",
    "_+_",
    "_-_",
    "_/_",
    "_<=_",
    "_<_",
    "_==_",
    "_>=_",
    "_>_",
    "_?_:_",
    "_[_]",
    "_||_",
    "cidr",
    "contains",
    "containsCIDR",
    "containsIP",
    "duration",
    "endsWith",
    "family",
    "find",
    "int",
    "ip",
    "isCIDR",
    "isIP",
    "join",
    "lowerAscii",
    "masked",
    "matches",
    "prefixLength",
    "replace",
    "size",
    "split",
    "startsWith",
    "string",
    "timestamp",
];

pub(super) struct Rule {
    /// One rule and the shape of the value it sees, without the rules below.
    compiled: CompiledSchema,
    transition: bool,
}

impl std::fmt::Debug for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rule").field("transition", &self.transition).finish_non_exhaustive()
    }
}

impl Rule {
    /// Compares with the object as it was.
    pub(super) fn is_transition(&self) -> bool {
        self.transition
    }
}

/// `rule` is one entry of the `x-kubernetes-validations` of `schema`.
pub(super) fn compile(schema: &Value, rule: &Value) -> Result<Rule, String> {
    if rule.get("optionalOldSelf").is_some() {
        return Err("optionalOldSelf is not supported".to_owned());
    }
    let mut alone = without_rules(schema);
    alone["x-kubernetes-validations"] = json!([rule]);
    let compiled = compile_schema(&alone);
    let result = match compiled.validations.first() {
        Some(Ok(result)) => result,
        Some(Err(error)) => return Err(error.to_string()),
        None => return Err("a rule is an object".to_owned()),
    };
    for program in std::iter::once(&result.program).chain(&result.message_program) {
        let references = program.references();
        if let Some(name) = references.functions().iter().find(|name| !FUNCTIONS.contains(name)) {
            return Err(format!(
                "the rule {:?} calls {name}, which is not in the dialect",
                result.rule.rule
            ));
        }
    }
    let transition = result.is_transition_rule;
    Ok(Rule { compiled, transition })
}

/// The same schema, so that dates and durations become what rules expect, but with no rule in it.
fn without_rules(schema: &Value) -> Value {
    match schema {
        Value::Object(words) => {
            let kept = words.iter().filter(|(word, _)| *word != "x-kubernetes-validations");
            kept.map(|(word, value)| (word.clone(), without_rules(value)))
                .collect::<Map<_, _>>()
                .into()
        }
        Value::Array(items) => items.iter().map(without_rules).collect(),
        other => other.clone(),
    }
}

/// A rule is not asked again about what did not change, unless it is about change itself.
pub(super) fn check(
    node: &Node,
    value: &Value,
    old: Option<&Value>,
    path: Path<'_>,
    causes: &mut Vec<Cause>,
) {
    if value.is_null() {
        return;
    }
    let unchanged = old == Some(value);
    for rule in node.rules.iter().filter(|rule| !unchanged || rule.transition) {
        let Err(errors) = kube_cel::validate_compiled(&rule.compiled, value, old) else {
            continue;
        };
        causes.extend(errors.iter().map(|error| cause(error, value, path)));
    }
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                let before = old.and_then(|old| old.get(name));
                if let Some(known) = node.properties.get(name) {
                    check(known, member, before, Path::Member(&path, name), causes);
                } else if let Some(additional) = node.additional.as_deref() {
                    check(additional, member, before, Path::Key(&path, name), causes);
                }
            }
        }
        Value::Array(items) => {
            let Some(child) = node.items.as_deref() else {
                return;
            };
            for (index, item) in items.iter().enumerate() {
                let before = old.and_then(|old| lists::same_item(&node.list, item, old));
                check(child, item, before, Path::Item(&path, index), causes);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn cause(error: &ValidationError, value: &Value, path: Path<'_>) -> Cause {
    let here = path.bracketed();
    // The path below the rule's own place, from the rule's `fieldPath`.
    let field = match error.field_path.trim_matches('.') {
        "" => here,
        below if here == "<nil>" => below.to_owned(),
        below => format!("{here}.{below}"),
    };
    if error.kind != ErrorKind::ValidationFailure {
        return broken(error, value, &field);
    }
    let message = &error.message;
    match error.reason.as_deref() {
        Some("FieldValueForbidden") => Cause::forbidden(&field, message),
        Some("FieldValueRequired") => Cause::required(&field, message),
        Some("FieldValueDuplicate") => Cause::duplicate(&field, value),
        _ if value.is_object() || value.is_array() => {
            Cause::new("FieldValueInvalid", &field, format!("Invalid value: {message}"))
        }
        _ => Cause::invalid(&field, value, message),
    }
}

/// A rule that cannot be evaluated rejects the object: fail closed.
fn broken(error: &ValidationError, value: &Value, field: &str) -> Cause {
    let kind = match value {
        Value::Object(_) => "object",
        Value::Array(_) => "array",
        Value::String(_) => "string",
        Value::Bool(_) => "boolean",
        Value::Number(_) | Value::Null => "number",
    };
    let what = error.message.trim_start_matches("rule evaluation error: ");
    let detail = format!("{what} evaluating rule: {}", error.rule);
    Cause::invalid(field, &Value::from(kind), &detail)
}
