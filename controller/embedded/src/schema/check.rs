//! Types and bounds. Ours to write, because no schema library knows null, lists and messages as
//! Kubernetes has them; the texts are measured on a 1.36 API server.

use super::cause::Cause;
use super::lists;
use super::node::{Kind, Limit, Node};
use super::path::Path;
use serde_json::{Map, Number, Value};

/// What is equal in `old` is not judged again.
pub(super) fn check(
    node: &Node,
    value: &Value,
    old: Option<&Value>,
    path: Path<'_>,
    causes: &mut Vec<Cause>,
) {
    if old == Some(value) {
        return;
    }
    if value.is_null() && node.nullable {
        return;
    }
    if !type_holds(node, value, path, causes) {
        supported(node, value, path, causes);
        return;
    }
    supported(node, value, path, causes);
    match value {
        Value::String(text) => string(node, text, path, causes),
        Value::Number(number) => numeric(node, number, path, causes),
        Value::Array(items) => array(node, items, old, path, causes),
        Value::Object(members) => object(node, members, old, path, causes),
        Value::Null | Value::Bool(_) => {}
    }
    branches(node, value, path, causes);
}

fn type_holds(node: &Node, value: &Value, path: Path<'_>, causes: &mut Vec<Cause>) -> bool {
    let holds = match (node.kind, value) {
        (Kind::Any, _)
        | (Kind::Object, Value::Object(_))
        | (Kind::Array, Value::Array(_))
        | (Kind::Boolean, Value::Bool(_))
        | (Kind::String | Kind::IntOrString, Value::String(_))
        | (Kind::Number, Value::Number(_)) => true,
        (Kind::Integer | Kind::IntOrString, Value::Number(number)) => is_whole(number),
        _ => false,
    };
    if holds {
        return true;
    }
    // A schema with a format names it, and the value's own format, unless the value is text or a
    // list (kube-openapi's type validator).
    let (format, got) = (node.format.map(|format| format.name()), kind_of(value));
    match (format, value) {
        (Some(format), Value::Number(_) | Value::Bool(_) | Value::Object(_)) => {
            causes.push(Cause::type_invalid(path, format, format_of(value)));
        }
        _ => causes.push(Cause::type_invalid(path, node.kind.name(), got)),
    }
    if let (Kind::Integer, Value::Number(_)) = (node.kind, value) {
        causes.push(out_of_format(path, node));
    }
    false
}

/// What does not fit 64 bits is no integer to a cluster; `1.0` has become `1` before.
fn is_whole(number: &Number) -> bool {
    number.is_i64()
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_i64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn format_of(value: &Value) -> &'static str {
    match value {
        Value::Number(number) if number.is_i64() => "int64",
        Value::Number(_) => "float64",
        _ => "",
    }
}

fn out_of_format(path: Path<'_>, node: &Node) -> Cause {
    let (kind, place) = (node.kind.name(), path.dotted());
    let format = match node.format {
        Some(format) => format!("with format {}", format.name()),
        None => "(default format)".to_owned(),
    };
    let detail = format!("Checked value must be of type {kind} {format} in {place}");
    Cause::invalid("<nil>", &Value::String(String::new()), &detail)
}

fn supported(node: &Node, value: &Value, path: Path<'_>, causes: &mut Vec<Cause>) {
    if node.allowed.is_empty() || node.allowed.contains(value) {
        return;
    }
    let words: Vec<String> = node
        .allowed
        .iter()
        .map(|allowed| allowed.as_str().map_or_else(|| allowed.to_string(), str::to_owned))
        .collect();
    causes.push(Cause::not_supported(&path.dotted(), value, &words));
}

/// `spec.size in body should be …`.
fn invalid(path: Path<'_>, value: &Value, what: &str) -> Cause {
    let place = path.dotted();
    Cause::invalid(&place, value, &format!("{place} in body {what}"))
}

fn string(node: &Node, text: &str, path: Path<'_>, causes: &mut Vec<Cause>) {
    let bounds = &node.bounds;
    let value = || Value::String(text.to_owned());
    let length = text.chars().count() as u64;
    // The API server looks at one bound after the other and stops at the first that fails.
    if let Some(max) = bounds.max_length.filter(|max| length > *max) {
        causes.push(Cause::too_long(&path.dotted(), max));
    } else if let Some(min) = bounds.min_length.filter(|min| length < *min) {
        let what = format!("should be at least {min} chars long");
        causes.push(invalid(path, &value(), &what));
    } else if let Some(pattern) = bounds.pattern.as_ref().filter(|re| !re.is_match(text)) {
        let what = format!("should match '{}'", pattern.as_str());
        causes.push(invalid(path, &value(), &what));
    }
    if let Some(format) = node.format.filter(|format| !format.holds(text)) {
        causes.push(Cause::type_invalid(path, format.name(), text));
    }
}

fn numeric(node: &Node, number: &Number, path: Path<'_>, causes: &mut Vec<Cause>) {
    if node.format.is_some_and(|format| !format.fits(number)) {
        causes.push(out_of_format(path, node));
    }
    let value = Value::Number(number.clone());
    let bounds = &node.bounds;
    if let Some(factor) = &bounds.multiple_of
        && !is_multiple(number, factor)
    {
        causes.push(invalid(path, &value, &format!("should be a multiple of {factor}")));
    }
    if let Some(limit) = &bounds.maximum
        && !within(number, limit, std::cmp::Ordering::Less)
    {
        let or_equal = if limit.exclusive { "" } else { "or equal to " };
        let what = format!("should be less than {or_equal}{}", limit.value);
        causes.push(invalid(path, &value, &what));
    }
    if let Some(limit) = &bounds.minimum
        && !within(number, limit, std::cmp::Ordering::Greater)
    {
        let or_equal = if limit.exclusive { "" } else { "or equal to " };
        let what = format!("should be greater than {or_equal}{}", limit.value);
        causes.push(invalid(path, &value, &what));
    }
}

fn within(number: &Number, limit: &Limit, side: std::cmp::Ordering) -> bool {
    match compare(number, &limit.value) {
        Some(std::cmp::Ordering::Equal) => !limit.exclusive,
        Some(ordering) => ordering == side,
        None => false,
    }
}

/// Exact for whole numbers of any size, else as floating point.
fn compare(a: &Number, b: &Number) -> Option<std::cmp::Ordering> {
    match (a.as_i128(), b.as_i128()) {
        (Some(a), Some(b)) => Some(a.cmp(&b)),
        _ => a.as_f64()?.partial_cmp(&b.as_f64()?),
    }
}

fn is_multiple(number: &Number, factor: &Number) -> bool {
    match (number.as_i128(), factor.as_i128()) {
        (Some(_), Some(0)) => false,
        (Some(number), Some(factor)) => number % factor == 0,
        _ => match (number.as_f64(), factor.as_f64()) {
            (Some(number), Some(factor)) => (number / factor).fract() == 0.0,
            _ => false,
        },
    }
}

fn array(
    node: &Node,
    items: &[Value],
    old: Option<&Value>,
    path: Path<'_>,
    causes: &mut Vec<Cause>,
) {
    let (bounds, count) = (&node.bounds, items.len());
    if let Some(min) = bounds.min_items.filter(|min| (count as u64) < *min) {
        let what = format!("should have at least {min} items");
        causes.push(invalid(path, &Value::from(count), &what));
    }
    if let Some(max) = bounds.max_items.filter(|max| count as u64 > *max) {
        causes.push(Cause::too_many(&path.dotted(), count, max));
    }
    if bounds.unique_items && !lists::repeated(items).is_empty() {
        causes.push(invalid(path, &Value::Null, "shouldn't contain duplicates"));
    }
    let Some(child) = node.items.as_deref() else {
        return;
    };
    for (index, item) in items.iter().enumerate() {
        let before = old.and_then(|old| lists::same_item(&node.list, item, old));
        check(child, item, before, Path::Item(&path, index), causes);
    }
}

fn object(
    node: &Node,
    members: &Map<String, Value>,
    old: Option<&Value>,
    path: Path<'_>,
    causes: &mut Vec<Cause>,
) {
    let (bounds, count) = (&node.bounds, members.len());
    if let Some(min) = bounds.min_properties.filter(|min| (count as u64) < *min) {
        let what = format!("should have at least {min} properties");
        causes.push(invalid(path, &Value::from(count), &what));
    }
    if let Some(max) = bounds.max_properties.filter(|max| count as u64 > *max) {
        causes.push(Cause::too_many(&path.dotted(), count, max));
    }
    for name in node.required.iter().filter(|name| !members.contains_key(*name)) {
        causes.push(Cause::required(&Path::Member(&path, name).dotted(), ""));
    }
    for (name, value) in members {
        if let Some(child) = node.of_key(name) {
            let before = old.and_then(|old| old.get(name));
            check(child, value, before, Path::Member(&path, name), causes);
        }
    }
}

/// `allOf`, `anyOf`, `oneOf`, `not`: value checks only, as structural schemas allow.
fn branches(node: &Node, value: &Value, path: Path<'_>, causes: &mut Vec<Cause>) {
    for branch in &node.all_of {
        check(branch, value, None, path, causes);
    }
    let fits = |branch: &&Node| found(branch, value, path).is_empty();
    let place = path.dotted();
    let mut wrong = |what: &str| {
        let nothing = Value::String(String::new());
        causes.push(Cause::invalid("<nil>", &nothing, &format!("\"{place}\" {what}")));
    };
    if !node.any_of.is_empty() && !node.any_of.iter().any(|branch| fits(&branch)) {
        wrong("must validate at least one schema (anyOf)");
        causes.extend(found(&node.any_of[0], value, path));
        return;
    }
    let fitting = node.one_of.iter().filter(fits).count();
    if !node.one_of.is_empty() && fitting == 0 {
        wrong("must validate one and only one schema (oneOf). Found none valid");
        causes.extend(found(&node.one_of[0], value, path));
        return;
    }
    if fitting > 1 {
        wrong(&format!(
            "must validate one and only one schema (oneOf). Found {fitting} valid alternatives"
        ));
    }
    if node.not.as_deref().is_some_and(|branch| fits(&branch)) {
        wrong("must not validate the schema (not)");
    }
}

fn found(node: &Node, value: &Value, path: Path<'_>) -> Vec<Cause> {
    let mut causes = Vec::new();
    check(node, value, None, path, &mut causes);
    causes
}
