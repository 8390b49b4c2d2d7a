//! `labelSelector=` and `fieldSelector=`: which objects a list or a watch shows.

use serde_json::Value;

mod labels;
pub use labels::LabelSelector;

/// The errors' texts are the API server's own; each is a 400.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SelectorError {
    #[error("{0}")]
    Label(String),
    #[error("field label not supported: {0}")]
    Field(String),
    #[error("invalid selector: '{0}'; can't understand '{1}'")]
    Malformed(String, String),
}

/// What a namespaced kind may be asked for besides `metadata.name`.
pub const NAMESPACED_FIELDS: &[&str] = &["metadata.namespace"];

/// What may be asked of events, in the words of `v1` and of `events.k8s.io/v1`.
pub const EVENT_FIELDS: &[&str] = &[
    "metadata.namespace",
    "involvedObject.apiVersion",
    "involvedObject.fieldPath",
    "involvedObject.kind",
    "involvedObject.name",
    "involvedObject.namespace",
    "involvedObject.resourceVersion",
    "involvedObject.uid",
    "regarding.apiVersion",
    "regarding.fieldPath",
    "regarding.kind",
    "regarding.name",
    "regarding.namespace",
    "regarding.resourceVersion",
    "regarding.uid",
    "reason",
    "reportingComponent",
    "reportingController",
    "source",
    "type",
];

/// `metadata.name=a`, and the fields of events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldSelector {
    terms: Vec<FieldTerm>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct FieldTerm {
    path: String,
    value: String,
    equal: bool,
}

impl FieldSelector {
    /// `allowed` are the paths besides `metadata.name` (see [`EVENT_FIELDS`] and
    /// [`NAMESPACED_FIELDS`]).
    pub fn parse(text: &str, allowed: &[&str]) -> Result<FieldSelector, SelectorError> {
        let parts = split_unescaped(text);
        let terms = parts.into_iter().filter(|part| !part.is_empty()).map(|part| {
            let term = FieldTerm::parse(part)
                .ok_or_else(|| SelectorError::Malformed(text.to_owned(), part.to_owned()))?;
            if term.path != "metadata.name" && !allowed.contains(&term.path.as_str()) {
                return Err(SelectorError::Field(term.path));
            }
            Ok(term)
        });
        Ok(FieldSelector { terms: terms.collect::<Result<_, _>>()? })
    }

    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// The value required of `metadata.name`, for a list that is really a get.
    pub fn name(&self) -> Option<&str> {
        let term = self.terms.iter().find(|term| term.equal && term.path == "metadata.name");
        term.map(|term| term.value.as_str())
    }

    /// An absent field is the empty string.
    pub fn matches(&self, object: &Value) -> bool {
        self.terms.iter().all(|term| (field(object, &term.path) == term.value) == term.equal)
    }
}

impl FieldTerm {
    fn parse(text: &str) -> Option<FieldTerm> {
        let at = text.find('=')?;
        let (path, equal) = match text[..at].strip_suffix('!') {
            Some(path) => (path, false),
            None => (&text[..at], true),
        };
        let rest = &text[at + 1..];
        let value = rest.strip_prefix('=').filter(|_| equal).unwrap_or(rest);
        Some(FieldTerm { path: path.to_owned(), value: unescape(value), equal })
    }
}

/// At the commas that no backslash precedes.
fn split_unescaped(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut escaped) = (Vec::new(), 0, false);
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            b',' if !escaped => {
                parts.push(&text[start..index]);
                start = index + 1;
            }
            _ => escaped = byte == b'\\' && !escaped,
        }
    }
    parts.push(&text[start..]);
    parts
}

fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        plain.push(if c == '\\' { rest.next().unwrap_or(c) } else { c });
    }
    plain
}

/// Events are stored once and asked for in two vocabularies.
fn field(object: &Value, path: &str) -> String {
    let found = lookup(object, path).or_else(|| {
        let (head, tail) = path.split_once('.').unwrap_or((path, ""));
        let other = match head {
            "involvedObject" => "regarding",
            "regarding" => "involvedObject",
            "reportingComponent" | "source" => "reportingController",
            "reportingController" => "reportingComponent",
            _ => return None,
        };
        let other = if tail.is_empty() { other.to_owned() } else { format!("{other}.{tail}") };
        lookup(object, &other)
    });
    match found {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

fn lookup<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(object, |value, name| value.get(name))
}

#[cfg(test)]
mod tests;
