//! Keeps the feeds true: one list and one watch a kind, whatever the number of machines.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use api::{GROUP, KeyRotation, Mesh, MeshNode, MeshPeer, VERSION};
use futures::TryStreamExt;
use kube::api::{DynamicObject, ListParams, WatchEvent, WatchParams};
use kube::core::ApiResource;
use kube::{Api, Client};
use serde_json::Value;
use tokio::time::sleep;
use tracing::{info, warn};

use super::feed::{Feed, version_of};
use super::members::Members;

/// Less than the 300 s that many proxies let a silent connection live.
const WATCH_SECONDS: u32 = 290;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(10);

/// The kinds that a machine may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Mesh,
    Node,
    Peer,
    Rotation,
}

impl Kind {
    pub(super) const ALL: [Kind; 4] = [Kind::Mesh, Kind::Node, Kind::Peer, Kind::Rotation];

    pub(super) fn of(plural: &str) -> Option<Kind> {
        Self::ALL.into_iter().find(|kind| kind.resource().plural == plural)
    }

    pub(super) fn resource(self) -> ApiResource {
        match self {
            Kind::Mesh => ApiResource::erase::<Mesh>(&()),
            Kind::Node => ApiResource::erase::<MeshNode>(&()),
            Kind::Peer => ApiResource::erase::<MeshPeer>(&()),
            Kind::Rotation => ApiResource::erase::<KeyRotation>(&()),
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Mesh => "Mesh",
            Kind::Node => "MeshNode",
            Kind::Peer => "MeshPeer",
            Kind::Rotation => "KeyRotation",
        }
    }

    pub(super) fn plural(self) -> &'static str {
        match self {
            Kind::Mesh => "meshes",
            Kind::Node => "meshnodes",
            Kind::Peer => "meshpeers",
            Kind::Rotation => "keyrotations",
        }
    }
}

/// Everything that machines read.
#[derive(Debug)]
pub(super) struct Feeds {
    feeds: [Feed; 4],
    pub(super) members: Arc<Members>,
}

impl Feeds {
    pub(super) fn new(members: Arc<Members>) -> Feeds {
        Feeds { feeds: [Feed::new(), Feed::new(), Feed::new(), Feed::new()], members }
    }

    pub(super) fn of(&self, kind: Kind) -> &Feed {
        &self.feeds[kind as usize]
    }

    /// True once everything has been listed.
    pub(super) fn are_listed(&self) -> bool {
        self.feeds.iter().all(Feed::is_listed)
    }

    pub(super) fn replace(&self, kind: Kind, objects: Vec<Value>, version: u64) {
        if kind == Kind::Node {
            self.members.replace(&objects);
        }
        self.of(kind).replace(objects, version);
    }

    pub(super) fn take(&self, kind: Kind, deleted: bool, object: Value) {
        if kind == Kind::Node {
            self.members.take(deleted, &object);
        }
        if deleted {
            self.of(kind).remove(object);
        } else {
            self.of(kind).put(object);
        }
    }
}

/// Follows all kinds for ever.
pub(super) async fn follow(client: Client, feeds: Arc<Feeds>) {
    let one = |kind| follow_kind(client.clone(), kind, &feeds);
    futures::future::join_all(Kind::ALL.map(one)).await;
}

async fn follow_kind(client: Client, kind: Kind, feeds: &Feeds) {
    let api: Api<DynamicObject> = Api::all_with(client, &kind.resource());
    let (mut pause, mut cut) = (FIRST_PAUSE, false);
    let mut from = None;
    loop {
        let turn = match from {
            None => list(&api, kind, feeds).await.map(Some),
            Some(version) => watch(&api, kind, feeds, version).await,
        };
        match turn {
            Ok(next) => {
                if std::mem::take(&mut cut) {
                    info!(kind = kind.name(), "API reached again");
                }
                (from, pause) = (next, FIRST_PAUSE);
            }
            Err(error) => {
                if !std::mem::replace(&mut cut, true) {
                    warn!(kind = kind.name(), %error, "machines see the last state; API not reached");
                }
                sleep(pause).await;
                pause = (pause * 2).min(LAST_PAUSE);
            }
        }
    }
}

/// The version that the list is of.
async fn list(api: &Api<DynamicObject>, kind: Kind, feeds: &Feeds) -> kube::Result<u64> {
    let list = api.list(&ListParams::default()).await?;
    let version = list.metadata.resource_version.as_deref().and_then(|text| text.parse().ok());
    let version = version.unwrap_or_default();
    let objects = list.items.into_iter().map(|object| value(kind, object)).collect();
    feeds.replace(kind, objects, version);
    Ok(version)
}

/// Where to go on; nothing: with a list.
async fn watch(
    api: &Api<DynamicObject>,
    kind: Kind,
    feeds: &Feeds,
    from: u64,
) -> kube::Result<Option<u64>> {
    let parameters = WatchParams::default().timeout(WATCH_SECONDS);
    let stream = api.watch(&parameters, &from.to_string()).await?;
    let mut stream = pin!(stream);
    while let Some(event) = stream.try_next().await? {
        match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                feeds.take(kind, false, value(kind, object));
            }
            WatchEvent::Deleted(object) => feeds.take(kind, true, value(kind, object)),
            WatchEvent::Bookmark(mark) => {
                let version = mark.metadata.resource_version.parse().unwrap_or_default();
                feeds.of(kind).advance(version);
            }
            // Too far behind: only a list helps.
            WatchEvent::Error(_) => return Ok(None),
        }
    }
    Ok(Some(feeds.of(kind).version()))
}

/// As machines read it: items of a list do not say what they are.
fn value(kind: Kind, object: DynamicObject) -> Value {
    let mut value = serde_json::to_value(object).unwrap_or_default();
    value["apiVersion"] = format!("{GROUP}/{VERSION}").into();
    value["kind"] = kind.name().into();
    debug_assert!(version_of(&value).is_some(), "every object has a version");
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_found_by_its_plural_and_no_other() {
        for kind in Kind::ALL {
            assert_eq!(Kind::of(kind.plural()), Some(kind));
            assert_eq!(kind.resource().kind, kind.name());
            assert_eq!(kind.resource().plural, kind.plural());
        }
        assert_eq!(Kind::of("jointokens"), None);
        assert_eq!(Kind::of("subnetclaims"), None);
    }
}
