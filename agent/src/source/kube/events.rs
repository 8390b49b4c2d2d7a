//! What people should hear of in this node's own words: packets of the mesh that the guard dropped.
//!
//! An event for each packet would be a flood by itself, so there is one when it begins, and one a
//! minute while it goes on; the figure is in the metrics and in `hawser status`.

use std::{sync::Arc, time::Duration};

use api::MeshNode;
use arc_swap::ArcSwap;
use kube::{
    Client, Resource,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use crate::snapshot::Snapshot;

const LOOK: Duration = Duration::from_secs(2);
const AT_MOST_EVERY: Duration = Duration::from_secs(60);

/// Tells of blocked packets, for ever.
pub async fn follow(
    client: Client,
    snapshot: Arc<ArcSwap<Snapshot>>,
    own: watch::Receiver<Option<MeshNode>>,
) {
    let instance = snapshot.load().node.clone();
    let reporter = Reporter { controller: "hawser.dev/agent".to_owned(), instance: Some(instance) };
    let recorder = Recorder::new(client, reporter);
    let mut told = Told::default();
    loop {
        let node = own.borrow().clone();
        let count = blocked(&snapshot.load());
        if let Some(node) = node
            && told.is_news(count, Instant::now())
        {
            // An event that cannot be written is no reason to stop.
            match recorder.publish(&event(), &node.object_ref(&())).await {
                Ok(()) => told.tell(count, Instant::now()),
                Err(error) => tracing::debug!(%error, "event not written"),
            }
        }
        sleep(LOOK).await;
    }
}

fn blocked(snapshot: &Snapshot) -> u64 {
    snapshot.blocked.out + snapshot.blocked.into
}

fn event() -> Event {
    Event {
        type_: EventType::Warning,
        reason: "PlaintextBlocked".to_owned(),
        note: Some(
            "packets of the mesh were about to cross the underlay in clear, and were dropped; \
             `hawser status` on the node counts them"
                .to_owned(),
        ),
        action: "Guard".to_owned(),
        secondary: None,
    }
}

/// What was said last.
#[derive(Debug, Default)]
struct Told {
    count: u64,
    at: Option<Instant>,
}

impl Told {
    fn is_news(&self, count: u64, now: Instant) -> bool {
        let rested = self.at.is_none_or(|at| now.duration_since(at) >= AT_MOST_EVERY);
        count > self.count && rested
    }

    fn tell(&mut self, count: u64, now: Instant) {
        *self = Self { count, at: Some(now) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_blocked_packet_is_news_and_more_are_once_a_minute() {
        let (mut told, start) = (Told::default(), Instant::now());

        assert!(!told.is_news(0, start), "nothing happened");
        assert!(told.is_news(1, start));
        told.tell(1, start);
        assert!(!told.is_news(1, start + AT_MOST_EVERY), "nothing new happened");
        assert!(!told.is_news(9, start + AT_MOST_EVERY / 2));
        assert!(told.is_news(9, start + AT_MOST_EVERY));
    }
}
