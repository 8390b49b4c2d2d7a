//! What people see: conditions, phases and usage, from the same values that decide. Pure.
//!
//! Every condition is set on the first visit, with `observedGeneration`; a status is written only
//! where it differs, and a [`Notice`] is born only where status or reason of a condition changes.

mod claim;
mod mesh;
mod node;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use api::announced::Announced;
use api::{Condition, conditions};
use jiff::Timestamp;
use kube::Resource;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub(super) use node::{ADMITTED, NodeReport};

use super::Seen;
use super::events::Notice;
use crate::admit::Fault;
use crate::allocate::{Plan, Pools, View};

/// A kind that carries a status of ours.
pub(super) trait Reported:
    Resource<DynamicType = (), Scope = kube::core::ClusterResourceScope>
    + Clone
    + Debug
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
}

impl Reported for api::Mesh {}
impl Reported for api::MeshNode {}
impl Reported for api::SubnetClaim {}

/// Everything that a report speaks of.
pub(super) struct Sight<'a> {
    pub(super) seen: &'a Seen,
    pub(super) pools: &'a Pools,
    pub(super) view: &'a View,
    pub(super) plan: &'a Plan,
    pub(super) faults: &'a BTreeMap<String, Vec<Fault>>,
    /// What comes of the prefixes that nodes ask for.
    pub(super) announced: &'a BTreeMap<String, Announced>,
    pub(super) now: Timestamp,
}

/// A status that differs from what stands.
#[derive(Clone, Debug)]
pub(super) struct Change<K> {
    pub(super) object: Arc<K>,
    /// As a merge patch.
    pub(super) status: Value,
    pub(super) notices: Vec<Notice>,
}

/// A judgement before it becomes a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Judged {
    status: Truth,
    reason: &'static str,
    message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Truth {
    True,
    False,
    Unknown,
}

impl Judged {
    fn good(reason: &'static str, message: impl Into<String>) -> Judged {
        Judged { status: Truth::True, reason, message: message.into() }
    }

    fn bad(reason: &'static str, message: impl Into<String>) -> Judged {
        Judged { status: Truth::False, reason, message: message.into() }
    }

    fn unknown(reason: &'static str, message: impl Into<String>) -> Judged {
        Judged { status: Truth::Unknown, reason, message: message.into() }
    }
}

/// The conditions of one object while they are judged.
struct Conditions {
    list: Vec<Condition>,
    changed: bool,
    generation: Option<i64>,
    now: Timestamp,
    notices: Vec<Notice>,
}

impl Conditions {
    fn new(list: Vec<Condition>, generation: Option<i64>, now: Timestamp) -> Conditions {
        Conditions { list, changed: false, generation, now, notices: Vec::new() }
    }

    /// Sets a condition; true if its status or reason is not what it was.
    fn set(&mut self, type_: &str, judged: &Judged) -> bool {
        let before =
            conditions::get(&self.list, type_).map(|c| (c.status.clone(), c.reason.clone()));
        let because = (judged.reason, judged.message.clone());
        let mut condition = Condition::new(type_, judged.status == Truth::True, because, self.now)
            .observed(self.generation);
        if judged.status == Truth::Unknown {
            "Unknown".clone_into(&mut condition.status);
        }
        let after = (condition.status.clone(), condition.reason.clone());
        self.changed |= conditions::set(&mut self.list, condition);
        before != Some(after)
    }

    /// Sets a condition and tells of a change. `wanted` is the status that is no warning.
    fn tell(&mut self, type_: &str, judged: &Judged, wanted: Truth) {
        let first = conditions::get(&self.list, type_).is_none();
        let differs = self.set(type_, judged);
        let warning = judged.status != wanted && judged.status != Truth::Unknown;
        if differs && judged.status != Truth::Unknown && (warning || !first) {
            self.notices.push(Notice {
                warning,
                reason: judged.reason.to_owned(),
                note: judged.message.clone(),
            });
        }
    }
}
