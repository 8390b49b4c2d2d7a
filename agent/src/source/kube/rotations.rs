//! The rotation that is under way, as the API tells it.
//!
//! A stream of its own: where it may not be read, the mesh is whole all the same, and the rotation
//! waits for this node and says so.

use std::{collections::BTreeMap, pin::pin};

use api::KeyRotation;
use futures::StreamExt;
use kube::{
    Api, Client, ResourceExt,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use tokio::sync::watch;

use super::Patience;
use crate::rotation::Rotation;

/// Follows the API for ever.
pub async fn follow(client: Client, rotation: watch::Sender<Option<Rotation>>) {
    let api: Api<KeyRotation> = Api::all(client);
    let stream = watcher(api, watcher::Config::default()).backoff(Patience::default());
    let mut stream = pin!(stream);
    let (mut known, mut cut) = (BTreeMap::new(), false);
    while let Some(event) = stream.next().await {
        match event {
            Ok(event) => {
                cut &= matches!(event, Event::Init);
                take(&mut known, event);
            }
            Err(error) if !cut => {
                cut = true;
                tracing::warn!(%error, "rotations not read; none goes on without this node");
            }
            Err(_) => {}
        }
        rotation.send_if_modified(|last| {
            let now = known.values().flatten().next().cloned();
            let differs = *last != now;
            *last = now;
            differs
        });
    }
}

fn take(known: &mut BTreeMap<String, Option<Rotation>>, event: Event<KeyRotation>) {
    match event {
        Event::Init => known.clear(),
        Event::InitApply(object) | Event::Apply(object) => {
            known.insert(object.name_any(), Rotation::read(&object));
        }
        Event::Delete(object) => drop(known.remove(&object.name_any())),
        Event::InitDone => {}
    }
}
