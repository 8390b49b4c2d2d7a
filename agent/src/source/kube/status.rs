//! This node's own status in the API: what it is reached at, with which keys, and how it fares.
//!
//! Written only when something differs, never on a clock: nothing in it changes by itself. Others
//! write conditions into the same list, so a write carries the resourceVersion that it was made
//! from, and a conflict is answered by reading again.

mod desired;
mod pace;
mod seating;
mod serving;
mod settling;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use api::{Machine, MeshNode, Served};
use arc_swap::ArcSwap;
use jiff::Timestamp;
use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep},
};

pub use self::desired::{Counts, Identity, Live};
use self::{
    pace::Pace,
    seating::{Place, Seating},
    serving::Serving,
    settling::{Sessions, Settling},
};
use crate::{
    datapath::Datapath, keyring::Keyring, outside::Seen, probe::Counted, rotation::Rotation,
    snapshot::Snapshot, source::contact::Contact, tls::Published,
};

/// Between two looks at what has changed here.
const LOOK: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// What the status is made of.
pub struct Reporter {
    pub client: Client,
    pub identity: Identity,
    pub datapath: Arc<Datapath>,
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    pub(crate) keyring: Arc<Keyring>,
    /// Rung when keys, view or sessions may have changed.
    pub changed: Arc<Notify>,
    pub contact: Contact,
    /// What became of the probes of a rotation.
    pub(crate) counted: watch::Receiver<Option<Counted>>,
    /// Where peers see this node.
    pub(crate) seen: watch::Receiver<Seen>,
    /// Where this node is called over TLS, and whom it is spoken with so.
    pub(crate) listens: watch::Receiver<Option<Published>>,
    pub(crate) relays: watch::Receiver<Vec<String>>,
}

impl Reporter {
    /// Keeps the status of `own` true, until another machine turns out to be this node: who.
    pub async fn follow(
        self,
        mut own: watch::Receiver<Option<MeshNode>>,
        mut rotation: watch::Receiver<Option<Rotation>>,
    ) -> Option<Machine> {
        let mut wait = LOOK;
        let mut settling = Settling::default();
        let mut seating = Seating::new(&self);
        let mut pace = Pace::default();
        let mut serving = Serving::default();
        loop {
            let node = own.borrow_and_update().clone();
            let now = rotation.borrow_and_update().clone();
            let waits = now.as_ref().is_some_and(Rotation::wants_sessions_settled);
            let settled = settling.look(waits.then(|| self.sessions()).as_ref(), Instant::now());
            let place = match &node {
                Some(node) => seating.look(&self.client, node).await,
                None => Place::Ours,
            };
            wait = match (node, place) {
                (_, Place::Others(holder)) => return Some(holder),
                (_, Place::Open(wait)) => wait,
                (Some(node), Place::Ours) => {
                    let serves = self.serves(&mut serving, &node);
                    let counts = pace.look(self.counted.borrow().as_ref(), &node, Instant::now());
                    self.report(node, now, (settled, serves, counts)).await.map_or_else(
                        |error| {
                            tracing::warn!(%error, "own status not written");
                            (wait * 2).min(LONGEST_WAIT)
                        },
                        |()| if waits { LOOK / 5 } else { LOOK },
                    )
                }
                (None, Place::Ours) => LOOK,
            };
            tokio::select! {
                changed = own.changed() => {
                    if changed.is_err() {
                        return None;
                    }
                    // Somebody writes; let him finish.
                    sleep(jitter(LOOK / 10)).await;
                }
                changed = rotation.changed() => {
                    if changed.is_err() {
                        return None;
                    }
                }
                () = self.changed.notified() => {}
                () = sleep(jitter(wait)) => {}
            }
        }
    }

    /// Whether each session uses the keys that are to be sent with.
    fn sessions(&self) -> Sessions {
        let (snapshot, sending) = (self.snapshot.load(), self.keyring.face().sending);
        let live = self.datapath.status().into_iter().filter(|peer| peer.established);
        let mut nodes = live.filter_map(|peer| {
            let (theirs, _) = snapshot.installed.get(&peer.name)?;
            let ours = peer.own_epoch.is_none_or(|epoch| epoch == sending);
            Some(ours && peer.epoch == Some(*theirs))
        });
        let epochs = snapshot.installed.iter().map(|(name, (epoch, _))| (name.clone(), *epoch));
        Sessions { as_told: nodes.all(|told| told), epochs: epochs.collect() }
    }

    /// The plain peers that came here. Before there is a view, what was written before.
    fn serves(&self, serving: &mut Serving, node: &MeshNode) -> Vec<Served> {
        let before = node.status.clone().unwrap_or_default().serves;
        let snapshot = self.snapshot.load();
        if snapshot.view_since.is_none() {
            return before;
        }
        let known = snapshot.peers.iter();
        let entry_for: BTreeMap<_, _> =
            known.filter_map(|(name, facts)| Some((name.clone(), facts.others_turn?))).collect();
        if entry_for.is_empty() {
            return Vec::new();
        }
        serving.look(&entry_for, &self.datapath.heard(), &before)
    }

    async fn report(
        &self,
        node: MeshNode,
        rotation: Option<Rotation>,
        (settled, serves, counts): (bool, Vec<Served>, Option<Counts>),
    ) -> Result<(), kube::Error> {
        let keys = self.keyring.face();
        let peers = self.datapath.status();
        let now = Timestamp::now();
        let seen = self.seen.borrow().clone();
        let (listens, relays) = (self.listens.borrow().clone(), self.relays.borrow().clone());
        let live =
            Live { keys, rotation, settled, serves, peers, counts, seen, listens, relays, now };
        let snapshot = self.snapshot.load();
        let Some(status) = desired::status(&node, &self.identity, &snapshot, &live) else {
            return Ok(());
        };
        let status = desired::change(node.status.as_ref(), &status);
        let patch = json!({
            "metadata": {"resourceVersion": node.resource_version()},
            "status": status,
        });
        let api: Api<MeshNode> = Api::all(self.client.clone());
        let patch = Patch::Merge(&patch);
        let written = api.patch_status(&node.name_any(), &PatchParams::default(), &patch).await;
        match written {
            Ok(_) => Ok(()),
            // Somebody was faster; the watch brings what he wrote.
            Err(kube::Error::Api(error)) if error.code == 409 => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Up to half more, so that a fleet doesn't write at once.
pub(super) fn jitter(wait: Duration) -> Duration {
    let mut random = [0u8; 1];
    getrandom::fill(&mut random).ok();
    wait + wait * u32::from(random[0]) / 512
}
