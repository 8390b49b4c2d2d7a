//! The view from the Kubernetes API, cluster or embedded: list, watch, and start over when cut off.
//!
//! ```text
//! Mesh ──────┐
//! MeshNode ──┼─▶ Mirror ─(settle)─▶ View::judge ─▶ Brake ─▶ Lingering ─▶ Publisher
//! MeshPeer ──┘      ├─▶ our own MeshNode ─▶ status.rs
//!                   └─▶ the Secrets that MeshPeers name ─▶ preshared.rs
//! ```
//! Objects are decoded one by one, so one that this version doesn't understand costs only itself.

mod brake;
mod client;
mod credential;
mod events;
mod item;
mod linger;
mod listen;
mod mirror;
mod preshared;
mod rotations;
pub mod status;

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use anyhow::Context;
use api::{Mesh, MeshNode, MeshPeer};
use futures::{StreamExt, stream::SelectAll};
use kube::{
    Api, Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
    core::ApiResource,
    runtime::{
        WatchStreamExt,
        utils::Backoff,
        watcher::{self, Event, watcher},
    },
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout_at},
};

use self::{brake::hold, item::Item, linger::Lingering, mirror::Mirror};
pub use self::{
    credential::Renewal,
    events::{Telling, follow as tell},
    listen::listen,
    rotations::follow as follow_rotations,
};
use super::{Publisher, contact::Contact};
use crate::view::Overlap;

/// Changes come in bursts: a whole mesh starts at once.
const SETTLE: Duration = Duration::from_millis(50);
/// After a cut: soon, then ever more rarely, spread out so that a fleet doesn't come at once.
const SHORTEST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// So long without a cut, and the next one is the first.
const QUIET: Duration = Duration::from_secs(60);

/// The kinds that make a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Kind {
    Mesh,
    Node,
    Peer,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Mesh, Self::Node, Self::Peer];

    fn name(self) -> &'static str {
        match self {
            Self::Mesh => "Mesh",
            Self::Node => "MeshNode",
            Self::Peer => "MeshPeer",
        }
    }

    fn resource(self) -> ApiResource {
        match self {
            Self::Mesh => ApiResource::erase::<Mesh>(&()),
            Self::Node => ApiResource::erase::<MeshNode>(&()),
            Self::Peer => ApiResource::erase::<MeshPeer>(&()),
        }
    }
}

/// A client for the API that `kubeconfig` names, else the cluster around us.
///
/// Where that is a machine's access through a gateway, it also comes with what renews it.
pub async fn connect(kubeconfig: Option<PathBuf>) -> anyhow::Result<(Client, Option<Renewal>)> {
    // Repeating it fails, and changes nothing.
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let config = match &kubeconfig {
        None => Config::infer().await.context("finding the Kubernetes API")?,
        Some(path) => {
            let what = || format!("reading {}", path.display());
            let kubeconfig = Kubeconfig::read_from(path).with_context(what)?;
            if let Some((client, renewal)) = credential::of_machine(path, &kubeconfig).await? {
                return Ok((client, Some(renewal)));
            }
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
                .await
                .with_context(what)?
        }
    };
    Ok((client::of(config).context("preparing the Kubernetes client")?, None))
}

/// This node, and what it wants to hear of.
pub struct Follower {
    pub node: String,
    /// The agent's `--state`.
    pub state: PathBuf,
    /// Gets our own MeshNode whenever it changes.
    pub own: watch::Sender<Option<MeshNode>>,
    /// Hears of each answer.
    pub contact: Contact,
}

/// Follows the API for ever.
pub async fn follow(client: Client, follower: Follower, publisher: Publisher) {
    let (references, wanted) = watch::channel(preshared::References::new());
    let secrets = preshared::follow(client.clone(), follower.state.clone(), wanted);
    tokio::join!(follow_mesh(client, follower, publisher, references), secrets);
}

/// Where what is heard goes.
struct Listener {
    mirror: Mirror,
    own: watch::Sender<Option<MeshNode>>,
    publisher: Publisher,
    references: watch::Sender<preshared::References>,
    contact: Contact,
    lingering: Lingering,
}

/// Begins anew after each resume: a connection that slept may be dead and not know it.
async fn follow_mesh(
    client: Client,
    Follower { node, state, own, contact }: Follower,
    publisher: Publisher,
    references: watch::Sender<preshared::References>,
) {
    let mut resumes = contact.resumes();
    let mirror = Mirror::new(&node, state);
    let lingering = Lingering::default();
    let mut listener = Listener { mirror, own, publisher, references, contact, lingering };
    loop {
        let number = *resumes.borrow_and_update();
        tokio::select! {
            () = listener.follow(&client, number) => return,
            // The listener's contact tells, so there is always somebody who does.
            _ = resumes.changed() => listener.mirror.list_again(),
        }
    }
}

impl Listener {
    /// All kinds, as long as the watches last.
    async fn follow(&mut self, client: &Client, resumes: u64) {
        let mut events: SelectAll<_> =
            Kind::ALL.into_iter().map(|kind| watch_kind(client, kind)).collect();
        let mut cut = BTreeSet::new();
        let mut wake: Option<Instant> = None;
        loop {
            let event = match wake {
                Some(wake) => timeout_at(wake, events.next()).await.ok(),
                None => Some(events.next().await),
            };
            let heard = event.is_some();
            match event {
                Some(Some(event)) => take(&mut self.mirror, &mut cut, event),
                Some(None) => return,
                None => {}
            }
            let settled = Instant::now() + SETTLE;
            while let Ok(Some(event)) = timeout_at(settled, events.next()).await {
                take(&mut self.mirror, &mut cut, event);
            }
            self.tell_the_parts();
            if self.mirror.is_complete() {
                let judging = Instant::now();
                if self.mirror.take_changed() || is_due(wake) {
                    wake = self.publish();
                }
                if heard && cut.is_empty() {
                    self.contact.heard(resumes);
                }
                // A large mesh takes longer to judge, and then gets more time to settle.
                sleep(judging.elapsed()).await;
            }
        }
    }

    /// Returns when to do so again, even if nothing changes.
    fn publish(&mut self) -> Option<Instant> {
        let Self { mirror, publisher, lingering, .. } = self;
        let judgement = publisher.judge(mirror.resources());
        let overlaps = judgement.overlaps.iter().map(Overlap::complaint);
        publisher.complain(mirror.complaints().chain(judgement.complaints).chain(overlaps));
        let view = judgement.view?;
        let Some(last) = publisher.last() else {
            publisher.publish(view);
            return None;
        };
        let now = Instant::now();
        let mut deleted = mirror.take_deleted();
        for name in mirror.take_departed() {
            lingering.deleted(name, now.into_std());
        }
        deleted.extend(lingering.names().map(|name| (Kind::Node, name.clone())));
        let (view, held) = hold(&last, view, &deleted);
        if !held.is_empty() {
            tracing::warn!(
                peers = held.len(),
                "the API lost peers without deleting them; they stay (restart the agent without \
                 view.json to let them go)"
            );
        }
        let (view, wake) = lingering.keep(&last, view, now.into_std());
        publisher.publish(view);
        wake.map(Instant::from_std)
    }

    fn tell_the_parts(&self) {
        self.own.send_if_modified(|last| {
            let now = self.mirror.own();
            let differs = last.as_ref() != now;
            last.clone_from(&now.cloned());
            differs
        });
        self.references.send_if_modified(|last| {
            let now = self.mirror.references();
            let differs = *last != now;
            *last = now;
            differs
        });
    }
}

/// How long to wait after a cut: doubling, with up to half as much again by chance, and from the
/// start after a quiet time. (A watcher begins each attempt with a success, so that says nothing.)
#[derive(Default)]
struct Patience {
    cuts: u32,
    last: Option<Instant>,
}

impl Iterator for Patience {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        if self.last.is_some_and(|last| last.elapsed() > QUIET) {
            self.cuts = 0;
        }
        let wait = SHORTEST_WAIT.saturating_mul(1 << self.cuts.min(10)).min(LONGEST_WAIT);
        self.cuts = self.cuts.saturating_add(1);
        self.last = Some(Instant::now());
        Some(status::jitter(wait))
    }
}

impl Backoff for Patience {
    fn reset(&mut self) {}
}

type Seen = (Kind, Result<Event<Item>, watcher::Error>);

fn watch_kind(client: &Client, kind: Kind) -> futures::stream::BoxStream<'static, Seen> {
    let api: Api<Item> = Api::all_with(client.clone(), &kind.resource());
    let stream = watcher(api, watcher::Config::default()).backoff(Patience::default());
    stream.map(move |event| (kind, event)).boxed()
}

/// Logs a cut once, and its end.
fn take(mirror: &mut Mirror, cut: &mut BTreeSet<Kind>, (kind, event): Seen) {
    match event {
        Ok(event) => {
            let reached = !matches!(event, Event::Init);
            if reached && cut.remove(&kind) {
                tracing::info!(kind = kind.name(), "API reached again");
            }
            mirror.apply(kind, event);
        }
        Err(error) => {
            if cut.insert(kind) {
                tracing::warn!(kind = kind.name(), %error, "API not reached; the last view stays");
            }
        }
    }
}

fn is_due(wake: Option<Instant>) -> bool {
    wake.is_some_and(|wake| wake <= Instant::now())
}
