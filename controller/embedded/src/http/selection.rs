//! Which objects of a kind a list or a watch is about. Pure.

use crate::http::query::Query;
use crate::http::route::Target;
use crate::kind::Kind;
use crate::selector::{FieldSelector, LabelSelector};
use crate::status::Status;
use crate::store::{Change, Event, Key};
use serde_json::Value;
use std::sync::Arc;

#[derive(Debug, Clone)]
pub(crate) struct Selection {
    pub(crate) kind: Arc<Kind>,
    pub(crate) namespace: String,
    /// A watch of one object: `/R/NAME?watch=1`.
    name: String,
    labels: LabelSelector,
    fields: FieldSelector,
    prefix: Key,
}

impl Selection {
    pub(crate) fn new(target: &Target, query: &Query) -> Result<Selection, Status> {
        let bad = |error: crate::selector::SelectorError| Status::bad_request(error.to_string());
        Ok(Selection {
            kind: target.kind.clone(),
            namespace: target.namespace.clone(),
            name: target.name.clone(),
            labels: LabelSelector::parse(&query.label_selector).map_err(bad)?,
            fields: FieldSelector::parse(&query.field_selector, target.kind.fields).map_err(bad)?,
            prefix: Key::prefix(&target.kind.stored_as, &target.namespace),
        })
    }

    pub(crate) fn is_everything(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty() && self.name.is_empty()
    }

    pub(crate) fn matches(&self, stored: &Value) -> bool {
        if self.is_everything() {
            return true;
        }
        let named = self.name.is_empty() || stored["metadata"]["name"] == self.name.as_str();
        named && self.labels.matches(stored) && self.fields.matches(&self.kind.present(stored))
    }

    /// What an event means to whoever sees only this selection: entering is ADDED, leaving is
    /// DELETED.
    pub(crate) fn sees(&self, event: &Event) -> Option<Change> {
        if !event.key.starts_with(&self.prefix) {
            return None;
        }
        let before = event.old_subject.as_ref().is_some_and(|old| self.matches(old));
        let after = event.change != Change::Deleted && self.matches(&event.subject);
        match (before, after) {
            (false, false) => None,
            (false, true) => Some(Change::Added),
            (true, true) => Some(Change::Modified),
            (true, false) => Some(Change::Deleted),
        }
    }
}
