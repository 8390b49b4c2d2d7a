//! Objects and lists in the shape that was asked for.

use super::negotiate::Shape;
use crate::kind::Kind;
use crate::store::{Object, Page};
use crate::table::{IncludeObject, partial_metadata};
use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};

/// How a client wants to see a kind.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Encoding {
    pub(crate) shape: Shape,
    pub(crate) include: IncludeObject,
}

impl Encoding {
    pub(crate) fn object(self, kind: &Kind, object: &Object, now: Timestamp) -> Bytes {
        match self.shape {
            Shape::Object | Shape::Discovery if kind.view.is_none() => object.json.clone(),
            _ => self.value(kind, &object.value, true, now).to_string().into(),
        }
    }

    /// One object; `with_definitions` as in [`crate::table::Columns::one`].
    pub(crate) fn value(
        self,
        kind: &Kind,
        stored: &Value,
        with_definitions: bool,
        now: Timestamp,
    ) -> Value {
        let shown = kind.present(stored);
        match self.shape {
            Shape::Object | Shape::Discovery => shown.into_owned(),
            Shape::Partial => partial_metadata(&shown),
            Shape::Table => kind.columns.one(&shown, self.include, with_definitions, now),
        }
    }

    pub(crate) fn list(self, kind: &Kind, page: &Page, now: Timestamp) -> Bytes {
        let metadata = list_metadata(page);
        let shown = || page.objects.iter().map(|object| kind.present(&object.value));
        match self.shape {
            Shape::Object | Shape::Discovery => {
                let head = json!({
                    "kind": kind.list_kind, "apiVersion": kind.api_version(),
                    "metadata": metadata,
                });
                if kind.view.is_none() {
                    joined(&head, page.objects.iter().map(|object| object.json.clone()))
                } else {
                    joined(&head, shown().map(|value| value.to_string().into()))
                }
            }
            Shape::Partial => {
                let head = json!({
                    "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1",
                    "metadata": metadata,
                });
                joined(&head, shown().map(|value| partial_metadata(&value).to_string().into()))
            }
            Shape::Table => {
                let values: Vec<_> = shown().collect();
                let values = values.iter().map(AsRef::as_ref);
                kind.columns.list(values, metadata, self.include, now).to_string().into()
            }
        }
    }

    /// The object of a BOOKMARK.
    pub(crate) fn bookmark(self, kind: &Kind, version: u64, initial_events_end: bool) -> Value {
        let version = version.to_string();
        let mut bookmark = match self.shape {
            Shape::Table => kind.columns.bookmark(&version),
            Shape::Partial => json!({
                "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
                "metadata": {"resourceVersion": version},
            }),
            Shape::Object | Shape::Discovery => json!({
                "kind": kind.kind, "apiVersion": kind.api_version(),
                "metadata": {"resourceVersion": version},
            }),
        };
        if initial_events_end {
            bookmark["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        bookmark
    }
}

fn list_metadata(page: &Page) -> Value {
    let mut metadata = json!({"resourceVersion": page.version.to_string()});
    if let Some((token, left)) = &page.rest {
        metadata["continue"] = token.clone().into();
        metadata["remainingItemCount"] = (*left).into();
    }
    metadata
}

/// A list made of the items' own bytes: nothing is encoded again.
fn joined(head: &Value, items: impl Iterator<Item = Bytes>) -> Bytes {
    let mut text = head.to_string().into_bytes();
    text.pop();
    text.extend_from_slice(b",\"items\":[");
    let mut first = true;
    for item in items {
        if !first {
            text.push(b',');
        }
        first = false;
        text.extend_from_slice(&item);
    }
    text.extend_from_slice(b"]}");
    text.into()
}
