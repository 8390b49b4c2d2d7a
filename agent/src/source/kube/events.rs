//! What people should hear of in this node's own words: packets of the mesh that the guard dropped,
//! and peers that are sent to in clear, since the Mesh permits it.
//!
//! An event for each packet would be a flood by itself, so there is one when it begins, and one a
//! minute while it goes on; the figure is in the metrics and in `hawser status`. Likewise with peers
//! in clear, and with those that another carrier than the first reaches: one at the first, one a minute
//! while they change, and one when none is left.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

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

use crate::{admin::CanaryState, plan::Way, snapshot::Snapshot, view::Backend};

const LOOK: Duration = Duration::from_secs(2);
const AT_MOST_EVERY: Duration = Duration::from_secs(60);

/// So many names are in a note.
const NAMES: usize = 5;

/// What is told of, and whose events those are.
pub struct Telling {
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    pub own: watch::Receiver<Option<MeshNode>>,
    pub canary: watch::Receiver<Option<CanaryState>>,
}

/// Tells of blocked packets, of clear ones and of the canary's sights, for ever.
pub async fn follow(client: Client, Telling { snapshot, own, canary }: Telling) {
    let instance = snapshot.load().node.clone();
    let reporter = Reporter { controller: "hawser.dev/agent".to_owned(), instance: Some(instance) };
    let recorder = Recorder::new(client, reporter);
    let (mut told, mut sung) = (Told::default(), Told::default());
    let (mut clear, mut detours) = (Listed::default(), Listed::default());
    loop {
        let node = own.borrow().clone();
        let now = snapshot.load_full();
        if let Some(node) = node {
            let count = blocked(&now);
            if told.is_news(count, Instant::now()) && say(&recorder, &node, &event()).await {
                told.tell(count, Instant::now());
            }
            let seen = canary.borrow().clone();
            if let Some(seen) = seen
                && sung.is_news(seen.seen_in_clear, Instant::now())
                && say(&recorder, &node, &canary_event(&seen)).await
            {
                sung.tell(seen.seen_in_clear, Instant::now());
            }
            let peers = in_clear(&now.carriers);
            if clear.is_news(&peers, Instant::now())
                && say(&recorder, &node, &clear_event(&now.carriers)).await
            {
                clear.tell(peers, Instant::now());
            }
            let now = self::detours(&now);
            if detours.is_news(&now, Instant::now())
                && say(&recorder, &node, &detour_event(&now)).await
            {
                detours.tell(now, Instant::now());
            }
        }
        sleep(LOOK).await;
    }
}

/// An event that cannot be written is no reason to stop.
async fn say(recorder: &Recorder, node: &MeshNode, event: &Event) -> bool {
    let said = recorder.publish(event, &node.object_ref(&())).await;
    if let Err(error) = &said {
        tracing::debug!(%error, "event not written");
    }
    said.is_ok()
}

fn in_clear(carriers: &BTreeMap<String, Backend>) -> BTreeSet<String> {
    let plain = carriers.iter().filter(|(_, backend)| !backend.encrypts());
    plain.map(|(name, _)| name.clone()).collect()
}

fn clear_event(carriers: &BTreeMap<String, Backend>) -> Event {
    let peers = in_clear(carriers);
    let backend = peers.first().and_then(|name| carriers.get(name));
    let (type_, reason, note) = match backend {
        None => {
            (EventType::Normal, "SealedAgain", "no packets go out in clear any more".to_owned())
        }
        Some(backend) => {
            let names = peers.iter().take(NAMES).cloned().collect::<Vec<_>>().join(", ");
            let more = if peers.len() > NAMES { ", ..." } else { "" };
            let all = peers.len();
            let note = format!(
                "packets to {all} nodes go out in CLEAR by {backend}, as the Mesh permits: \
                 {names}{more}"
            );
            (EventType::Warning, "SentInClear", note)
        }
    };
    let (reason, action) = (reason.to_owned(), "Carry".to_owned());
    Event { type_, reason, note: Some(note), action, secondary: None }
}

/// Who is reached by another way than the Mesh's best, and by which.
fn detours(snapshot: &Snapshot) -> BTreeSet<String> {
    let of = |(name, ways): (&String, &Vec<Way>)| {
        let (best, used) = (*ways.first()?, snapshot.way(name)?);
        let relay = snapshot.relayed.get(name).map(|(_, relay)| format!(" ({relay})"));
        let relay = relay.unwrap_or_default();
        (used != best).then(|| format!("{name} by {used}{relay} instead of {best}"))
    };
    snapshot.ways.iter().filter_map(of).collect()
}

fn detour_event(detours: &BTreeSet<String>) -> Event {
    let (type_, note) = if detours.is_empty() {
        (
            EventType::Normal,
            "all nodes are reached by the first carrier of the Mesh again".to_owned(),
        )
    } else {
        let named = detours.iter().take(NAMES).cloned().collect::<Vec<_>>().join(", ");
        let more = if detours.len() > NAMES { ", ..." } else { "" };
        let all = detours.len();
        (EventType::Warning, format!("{all} nodes are reached by another carrier: {named}{more}"))
    };
    Event {
        type_,
        reason: "CarrierChanged".to_owned(),
        note: Some(note),
        action: "Carry".to_owned(),
        secondary: None,
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

fn canary_event(seen: &CanaryState) -> Event {
    let CanaryState { sent, seen_in_clear, devices, .. } = seen;
    let devices = devices.join(", ");
    let note = format!(
        "{seen_in_clear} of {sent} marked packets to other nodes were readable on {devices}: \
         packets of the mesh leave in clear; see `hawser verify wire` on the node"
    );
    Event {
        type_: EventType::Warning,
        reason: "CanarySeenInClear".to_owned(),
        note: Some(note),
        action: "Watch".to_owned(),
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

/// Of whom something was said: to be sent to in clear, or by another carrier.
#[derive(Debug, Default)]
struct Listed {
    peers: BTreeSet<String>,
    at: Option<Instant>,
}

impl Listed {
    /// The first and the last at once.
    fn is_news(&self, peers: &BTreeSet<String>, now: Instant) -> bool {
        let rested = self.at.is_none_or(|at| now.duration_since(at) >= AT_MOST_EVERY);
        let turns = self.peers.is_empty() != peers.is_empty();
        self.peers != *peers && (turns || rested)
    }

    fn tell(&mut self, peers: BTreeSet<String>, now: Instant) {
        *self = Self { peers, at: Some(now) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn the_first_peer_in_clear_and_the_last_are_news_and_others_once_a_minute() {
        let (mut clear, start) = (Listed::default(), Instant::now());

        assert!(!clear.is_news(&peers(&[]), start), "sealed from the beginning");
        assert!(clear.is_news(&peers(&["a"]), start));
        clear.tell(peers(&["a"]), start);
        assert!(!clear.is_news(&peers(&["a"]), start + AT_MOST_EVERY), "said already");
        assert!(!clear.is_news(&peers(&["a", "b"]), start + AT_MOST_EVERY / 2));
        assert!(clear.is_news(&peers(&["a", "b"]), start + AT_MOST_EVERY));
        assert!(clear.is_news(&peers(&[]), start + AT_MOST_EVERY / 2));
    }

    #[test]
    fn an_event_names_whom_packets_go_out_to_in_clear_and_by_what() {
        let (plain, sealed) = (Backend::Vxlan, Backend::Wireguard);
        let carriers = |backends: &[Backend]| {
            let named = backends.iter().enumerate().map(|(n, is)| (format!("n{n}"), *is));
            clear_event(&named.collect()).note.unwrap()
        };

        let note = carriers(&[plain, sealed, plain]);
        assert!(note.contains("2 nodes") && note.contains("by vxlan") && note.ends_with("n0, n2"));
        assert!(carriers(&[plain; 9]).ends_with("n4, ..."));
        assert!(carriers(&[sealed]).contains("no packets"));
    }

    #[test]
    fn an_event_names_who_is_reached_by_another_carrier_and_by_which() {
        let mut snapshot = Snapshot::empty("n0", "kube");
        let sealed = |shaped| Way { shaped, ..Backend::Wireguard.into() };
        let lists = [
            ("n1", vec![Backend::Vxlan.into(), sealed(false)], sealed(false)),
            ("n2", vec![sealed(false), sealed(true)], sealed(true)),
            ("n3", vec![sealed(false), sealed(true)], sealed(false)),
        ];
        for (name, ways, used) in lists {
            snapshot.ways.insert(name.to_owned(), ways);
            snapshot.carriers.insert(name.to_owned(), used.backend);
            snapshot.shaped.extend(used.shaped.then(|| name.to_owned()));
        }

        let note = detour_event(&detours(&snapshot)).note.unwrap();

        assert_eq!(
            note,
            "2 nodes are reached by another carrier: n1 by wireguard instead of vxlan, n2 by \
             wireguard in the shape of VXLAN instead of wireguard"
        );
        assert!(detour_event(&BTreeSet::new()).note.unwrap().contains("again"));
    }

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
