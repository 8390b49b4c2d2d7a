//! Delete: at once, or when the last finalizer goes.

use super::strategy;
use crate::http::dry_run;
use crate::kind::Kind;
use crate::status::Status;
use crate::store::{Decision, Key, Object, Store, Written};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::sync::Arc;

/// The body of a DELETE. Grace periods and propagation policies are accepted and mean nothing.
#[derive(Debug, Clone, Default)]
pub(crate) struct DeleteOptions {
    pub(crate) dry_run: bool,
    /// `metadata` with the version or uid that must still hold.
    preconditions: Value,
}

impl DeleteOptions {
    pub(crate) fn parse(body: &[u8]) -> Result<DeleteOptions, Status> {
        if body.is_empty() {
            return Ok(DeleteOptions::default());
        }
        let options: Value = serde_json::from_slice(body)
            .map_err(|error| Status::bad_request(format!("the body is not JSON: {error}")))?;
        let mut asked = DeleteOptions {
            dry_run: false,
            preconditions: json!({"metadata": options["preconditions"]}),
        };
        for word in options["dryRun"].as_array().into_iter().flatten() {
            asked.dry_run |= dry_run(Some(word.as_str().unwrap_or_default()))?;
        }
        Ok(asked)
    }
}

pub(crate) async fn delete(
    store: &Store,
    kind: Arc<Kind>,
    key: Key,
    options: DeleteOptions,
    now: Timestamp,
) -> Result<Written, Status> {
    let dry_run = options.dry_run;
    let name = key.name().to_owned();
    let decide = move |current: Option<&Object>, _| {
        let Some(current) = current else {
            return Err(kind.not_found(&name));
        };
        strategy::check_preconditions(&kind, &current.value, &options.preconditions)?;
        let metadata = &current.value["metadata"];
        Ok(match (metadata.get("finalizers"), metadata.get("deletionTimestamp")) {
            (None, _) if dry_run => Decision::Same,
            (None, _) => Decision::Remove(current.value.clone()),
            (Some(_), Some(_)) => Decision::Same,
            (Some(_), None) => {
                let marked = strategy::marked_deleted(&kind, &current.value, now);
                if dry_run { Decision::Answer(marked) } else { Decision::Put(marked) }
            }
        })
    };
    store.submit(key, decide).await
}
