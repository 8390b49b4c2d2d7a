//! Answers the local API's questions from the last snapshot and the data path's figures.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, Ipv6Addr},
    sync::Arc,
    time::SystemTime,
};

use api::Backend;
use arc_swap::ArcSwap;
use jiff::Timestamp;
use tokio::sync::watch;

use crate::{
    admin::{
        BehindState, CanaryState, GuardState, Live, PassedOnState, PeerState, RouteState, State,
        ViewState,
    },
    capture::{self, Clocks, Here},
    datapath::{Datapath, Engine, PassedOn, PeerStatus},
    keyring::Keyring,
    plan::Heard,
    reached::{Known, Reached},
    snapshot::{Leads, Membership, PeerFacts, RouteFact, Snapshot},
    source::contact::Contact,
    tls::Counts,
    view::Detour,
};

/// The running agent, as the local API sees it.
pub(crate) struct Agent {
    pub(crate) engine: Engine,
    pub(crate) keyring: Arc<Keyring>,
    pub(crate) datapath: Arc<Datapath>,
    pub(crate) snapshot: Arc<ArcSwap<Snapshot>>,
    pub(crate) contact: Contact,
    /// What the canary reports, where it was asked for.
    pub(crate) canary: watch::Receiver<Option<CanaryState>>,
    pub(crate) listen_port: u16,
    /// What became of streams.
    pub(crate) streams: Arc<Counts>,
    pub(crate) tun: String,
}

impl Live for Agent {
    fn state(&self) -> State {
        let snapshot = self.snapshot.load();
        let live: BTreeMap<_, _> =
            self.datapath.status().into_iter().map(|peer| (peer.name.clone(), peer)).collect();
        let since = snapshot.view_since.and_then(|since| since.elapsed().ok());
        State {
            node: snapshot.node.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            engine: self.engine.name().to_owned(),
            mtu: snapshot.mtu,
            epoch: self.keyring.face().sending.0,
            view: ViewState {
                source: snapshot.source.clone(),
                age_seconds: since.map(|age| age.as_secs_f64()),
                heard_seconds: match self.contact.told() {
                    Heard::Ago(age) => Some(age.as_secs_f64()),
                    Heard::Now | Heard::Asking | Heard::Unknown => None,
                },
                max_age_seconds: snapshot.max_view_age.map(|most| most.as_secs()),
            },
            peers: peers(&snapshot, &live),
            behind: snapshot.detours.iter().map(behind).collect(),
            routes: snapshot.routes.iter().map(route).collect(),
            guard: GuardState {
                routes: snapshot.guard.routes,
                nft: snapshot.guard.nft,
                blocked_packets: snapshot.blocked.out + snapshot.blocked.into,
            },
            passed_on: self.passed_on(),
            canary: self.canary.borrow().clone(),
            tls: self.streams.state(),
            discards: self.discards(),
        }
    }

    fn ready(&self) -> Result<(), String> {
        let snapshot = self.snapshot.load();
        if snapshot.ready {
            return Ok(());
        }
        if snapshot.membership == Membership::Left {
            return Err("the mesh is being removed; this node is out of it".to_owned());
        }
        let refusals = snapshot.refusals.iter().map(ToString::to_string);
        let reasons: Vec<_> = snapshot.errors.iter().cloned().chain(refusals).collect();
        Err(match (snapshot.view_since, reasons.is_empty()) {
            (None, _) => format!("no view from {} yet", snapshot.source),
            (Some(_), true) => "still putting the plan into force".to_owned(),
            (Some(_), false) => reasons.join("; "),
        })
    }

    fn recent_packets(&self) -> Result<Vec<u8>, String> {
        let underlay = self.snapshot.load().underlay;
        let v4 = underlay.v4.unwrap_or(Ipv4Addr::UNSPECIFIED).into();
        let v6 = underlay.v6.unwrap_or(Ipv6Addr::UNSPECIFIED).into();
        let here = Here { tun: self.tun.clone(), addresses: [v4, v6], port: self.listen_port };
        let file = capture::pcapng(&self.datapath.recorded(), &here, Clocks::now());
        file.map_err(|error| error.to_string())
    }

    fn alive(&self) -> Result<(), String> {
        Ok(())
    }
}

impl Agent {
    fn passed_on(&self) -> PassedOnState {
        let PassedOn { datagrams, bytes } = self.datapath.passed_on();
        PassedOnState { datagrams, bytes }
    }

    fn discards(&self) -> BTreeMap<String, u64> {
        let forged = ("pod_source_forged", self.snapshot.load().blocked.forged);
        let discards = self.datapath.discards().into_iter().chain([forged]);
        discards.map(|(reason, count)| (reason.to_owned(), count)).collect()
    }
}

fn peers(snapshot: &Snapshot, live: &BTreeMap<String, PeerStatus>) -> Vec<PeerState> {
    let known = snapshot.peers.iter();
    let state = |(name, facts): (&String, &PeerFacts)| {
        let live = live.get(name);
        PeerState {
            name: name.clone(),
            endpoint: live.and_then(|peer| peer.endpoint),
            backend: backend(snapshot, name, facts.is_node),
            path: path(snapshot, name),
            reached: reached(snapshot, name, facts, live),
            instead_of: instead_of(snapshot, name),
            epoch: live.and_then(|peer| peer.epoch).map(|epoch| epoch.0),
            last_handshake: live.and_then(|peer| peer.last_handshake).and_then(timestamp),
            up: live.is_some_and(|peer| peer.established),
            rx_bytes: live.map_or(0, |peer| peer.rx_bytes),
            tx_bytes: live.map_or(0, |peer| peer.tx_bytes),
            rtt_seconds: live.and_then(|peer| peer.rtt).map(|rtt| rtt.as_secs_f64()),
            mtu: snapshot.mtu,
            subnets: facts.subnets.clone(),
            site: facts.site.clone(),
            encryption: Some(facts.encryption),
        }
    };
    known.map(state).collect()
}

fn behind((name, detour): (&String, &Detour)) -> BehindState {
    let Detour { ways, through } = detour.clone();
    BehindState { name: name.clone(), through, gateways: ways }
}

fn reached(
    snapshot: &Snapshot,
    name: &str,
    facts: &PeerFacts,
    live: Option<&PeerStatus>,
) -> Option<Reached> {
    let known = Known {
        relayed: snapshot.relayed.contains_key(name),
        behind_nat: snapshot.behind_nat,
        endpoint: live.and_then(|peer| peer.endpoint),
        published: &facts.endpoints,
    };
    known.reached()
}

fn path(snapshot: &Snapshot, peer: &str) -> Option<String> {
    let shaped = snapshot.shaped.contains(peer).then(|| "vxlan-shaped".to_owned());
    let tcp = snapshot.bridged.contains(peer).then(|| "tcp".to_owned());
    shaped.or(tcp).or_else(|| Some(format!("relay {}", snapshot.relayed.get(peer)?.1)))
}

/// Plain peers speak WireGuard and nothing else.
fn backend(snapshot: &Snapshot, peer: &str, is_node: bool) -> Option<Backend> {
    if is_node { snapshot.carriers.get(peer).copied() } else { Some(Backend::Wireguard) }
}

/// The best that could carry, if another does.
fn instead_of(snapshot: &Snapshot, peer: &str) -> Option<Backend> {
    let best = snapshot.ways.get(peer)?.first()?.backend;
    Some(best).filter(|best| snapshot.carriers.get(peer) != Some(best))
}

fn timestamp(time: SystemTime) -> Option<Timestamp> {
    Timestamp::try_from(time).ok()
}

fn route(fact: &RouteFact) -> RouteState {
    let (peer, kind) = match &fact.leads {
        Leads::Peer(name) => (Some(name.clone()), None),
        Leads::Pod { .. } => (None, Some("pod".to_owned())),
        Leads::Nowhere => (None, Some("unreachable".to_owned())),
    };
    RouteState { prefix: fact.prefix, peer, kind }
}
