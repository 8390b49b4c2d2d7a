//! Conditions: what holds of an object, since when, and why.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// The condition of a MeshNode whose agent has taken down all that it made, because the Mesh is
/// being removed.
pub const REMOVED: &str = "Removed";

/// One aspect of an object's state. The type is an adjective or a past participle (`Ready`,
/// `SubnetAllocated`), the status `True`, `False` or `Unknown`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What is judged, in CamelCase.
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 64))]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    #[schemars(regex(pattern = r"^(True|False|Unknown)$"))]
    pub status: String,
    /// The cause in one CamelCase word, for programs.
    #[schemars(length(min = 1, max = 128))]
    pub reason: String,
    /// The cause in a sentence, for people; says what to check.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub message: String,
    /// The generation of the object that was judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// When the status last changed (RFC 3339).
    #[schemars(length(max = 64), extend("format" = "date-time"))]
    pub last_transition_time: String,
}

impl Condition {
    /// A condition as of `now`.
    pub fn new(
        type_: &str,
        holds: bool,
        (reason, message): (&str, impl Into<String>),
        now: jiff::Timestamp,
    ) -> Self {
        Self {
            type_: type_.to_owned(),
            status: if holds { "True" } else { "False" }.to_owned(),
            reason: reason.to_owned(),
            message: clip(message.into()),
            observed_generation: None,
            last_transition_time: rfc3339(now),
        }
    }

    pub fn observed(mut self, generation: Option<i64>) -> Self {
        self.observed_generation = generation;
        self
    }

    pub fn is_true(&self) -> bool {
        self.status == "True"
    }
}

/// Whole seconds, as Kubernetes writes times.
pub fn rfc3339(now: jiff::Timestamp) -> String {
    jiff::Timestamp::from_second(now.as_second()).unwrap_or(now).to_string()
}

/// Puts `new` in its place in `list` and says whether anything but a repeated observation changed.
/// The transition time moves only when the status does.
pub fn set(list: &mut Vec<Condition>, mut new: Condition) -> bool {
    let Some(old) = list.iter_mut().find(|c| c.type_ == new.type_) else {
        list.push(new);
        return true;
    };
    if old.status == new.status {
        new.last_transition_time.clone_from(&old.last_transition_time);
    }
    let changed = *old != new;
    *old = new;
    changed
}

/// True if the lists differ at most in the generation that was looked at.
pub fn same_but_observed(one: &[Condition], other: &[Condition]) -> bool {
    let unseen = |condition: &Condition| condition.clone().observed(None);
    one.iter().map(unseen).eq(other.iter().map(unseen))
}

/// The condition of a type, if it has been judged.
pub fn get<'a>(list: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    list.iter().find(|c| c.type_ == type_)
}

/// True only if the condition is there and holds.
pub fn holds(list: &[Condition], type_: &str) -> bool {
    get(list, type_).is_some_and(Condition::is_true)
}

fn clip(mut message: String) -> String {
    if let Some((at, _)) = message.char_indices().nth(1000) {
        message.truncate(at);
        message.push('…');
    }
    message
}
