//! What goes by itself: events that have had their time, tokens that nobody can use.

use crate::auth::Tokens;
use crate::builtin::EVENTS;
use crate::server::App;
use crate::status::Status;
use crate::store::{Decision, Key, Object};
use futures::stream::{self, StreamExt};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// How often old events and dead tokens are removed.
const HOUSEKEEPING: Duration = Duration::from_secs(60);
/// How long an event stays.
const EVENT_LIFE: SignedDuration = SignedDuration::from_hours(1);
/// How many events stay at most.
const EVENTS_KEPT: usize = 5_000;
/// How many removals may share a commit.
const AT_ONCE: usize = 256;

/// Runs as long as the server.
pub(crate) async fn housekeeping(app: Arc<App>) {
    let mut closing = app.closing();
    let mut interval = tokio::time::interval(HOUSEKEEPING);
    loop {
        tokio::select! {
            _ = closing.wait_for(|closing| *closing) => return,
            _ = interval.tick() => {}
        }
        keep_house(&app, Timestamp::now()).await;
    }
}

/// Removes events that have had their time, and tokens that nobody can use.
async fn keep_house(app: &App, now: Timestamp) {
    let mut events = app.store.list(EVENTS, "").objects;
    events.sort_by_key(|event| std::cmp::Reverse(born(event)));
    let old = now.saturating_sub(EVENT_LIFE).unwrap_or(Timestamp::MIN);
    let stale = events.iter().enumerate().filter(|(index, event)| {
        *index >= EVENTS_KEPT || born(event).is_some_and(|born| born < old)
    });
    let mut keys = Tokens(&app.store).dead(now);
    keys.extend(stale.map(|(_, event)| {
        let text = |name: &str| event.value["metadata"][name].as_str().unwrap_or_default();
        Key::new(EVENTS, text("namespace"), text("name"))
    }));
    let removals = keys.into_iter().map(|key| {
        app.store.submit(key, |current, _| {
            let current: &Object = current.ok_or_else(Status::no_such_path)?;
            Ok(Decision::Remove(current.value.clone()))
        })
    });
    let mut removals = stream::iter(removals).buffer_unordered(AT_ONCE);
    while let Some(removed) = removals.next().await {
        if let Err(status) = removed
            && status.code != 404
        {
            tracing::warn!(message = status.message, "keeping house");
        }
    }
}

fn born(event: &Object) -> Option<Timestamp> {
    let series = event.value.pointer("/series/lastObservedTime").and_then(Value::as_str);
    let time = series.or_else(|| event.value["metadata"]["creationTimestamp"].as_str());
    time?.parse().ok()
}
