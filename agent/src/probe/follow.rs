//! Answers other nodes' probes always, and sends its own while a rotation is under way. Asks a few of
//! them, too, where they see this node, and tells each that asks.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use api::MeshNode;
use arc_swap::ArcSwap;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep_until},
};

use super::{Counted, Peers, Survey, message::Message, sockets::Sockets};
use crate::{
    datapath::Datapath,
    outside::{Outside, Seen},
    rotation::Rotation,
    snapshot::Snapshot,
};

/// Between two looks at who is in the mesh.
const LOOK: Duration = Duration::from_secs(1);

/// What it reads, and whom it tells.
pub(crate) struct Prober {
    pub(crate) snapshot: Arc<ArcSwap<Snapshot>>,
    /// This node as the API has it.
    pub(crate) own: watch::Receiver<Option<MeshNode>>,
    pub(crate) rotation: watch::Receiver<Option<Rotation>>,
    pub(crate) counted: watch::Sender<Option<Counted>>,
    pub(crate) datapath: Arc<Datapath>,
    /// Where others see this node, and the bell to ring when that changes.
    pub(crate) seen: watch::Sender<Seen>,
    pub(crate) changed: Arc<Notify>,
}

/// What changes meanwhile.
struct State {
    sockets: Sockets,
    peers: Peers,
    /// Whose questions are answered.
    others: BTreeMap<IpAddr, String>,
    outside: Outside,
    survey: Option<Survey>,
}

impl Prober {
    /// For as long as rotations are told of.
    pub(crate) async fn follow(mut self) {
        let mut state = State::new();
        let mut look = Instant::now();
        loop {
            let now = Instant::now();
            if now >= look {
                state.look(&self.snapshot.load(), &self.datapath);
                self.survey(&mut state, now);
                look = now + LOOK;
            }
            state.tick(now);
            self.tell(&state, now);
            self.tell_seen(&mut state, now);
            let survey = state.survey.as_ref().and_then(|survey| survey.next_wake(now));
            let due = survey.into_iter().chain(state.outside.due()).min();
            tokio::select! {
                (from, message) = state.sockets.receive() => {
                    state.take((from, message), &self.datapath, Instant::now());
                }
                changed = self.rotation.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    look = Instant::now();
                }
                () = sleep_until(due.map_or(look, |due| due.min(look))) => {}
            }
        }
    }

    /// Begins one as soon as it is known what was counted before; ends it with its rotation.
    fn survey(&mut self, state: &mut State, now: Instant) {
        let rotation = self.rotation.borrow_and_update().clone();
        let (own, survey) = (self.own.borrow(), &mut state.survey);
        match (&rotation, own.as_ref()) {
            (Some(rotation), Some(own)) if !survey.as_ref().is_some_and(|s| s.is_of(rotation)) => {
                let published = own.status.as_ref().and_then(|status| status.probes.as_ref());
                *survey = Some(Survey::begin(rotation, published, random(), now));
            }
            (_, _) => {}
        }
        if let Some(survey) = survey {
            survey.sees(rotation.as_ref().filter(|rotation| survey.is_of(rotation)), now);
            survey.meets(&state.peers);
        }
    }

    fn tell_seen(&self, state: &mut State, now: Instant) {
        let seen = state.outside.tell(now);
        let news = self.seen.send_if_modified(|last| {
            let differs = last != seen;
            last.clone_from(seen);
            differs
        });
        if news {
            self.changed.notify_one();
        }
    }

    fn tell(&self, state: &State, now: Instant) {
        let counted = state.survey.as_ref().map(|survey| survey.counted(now));
        self.counted.send_if_modified(|last| {
            let differs = *last != counted;
            *last = counted;
            differs
        });
    }
}

impl State {
    fn new() -> Self {
        Self {
            sockets: Sockets::default(),
            peers: Peers::default(),
            others: BTreeMap::new(),
            outside: Outside::new(random(), Instant::now()),
            survey: None,
        }
    }

    fn look(&mut self, snapshot: &Snapshot, datapath: &Datapath) {
        let own = snapshot.subnets.iter().map(|subnet| api::first_host(*subnet));
        self.sockets.bind(&own.collect());
        let nodes = snapshot.peers.iter().filter(|(_, facts)| facts.is_node);
        let addresses = nodes.map(|(name, facts)| {
            let all = facts.subnets.iter().map(|subnet| api::first_host(*subnet));
            (name.clone(), all.filter(|address| self.sockets.reach(*address)).collect())
        });
        self.peers = addresses.collect();
        let of = |(name, all): (&String, &Vec<IpAddr>)| {
            all.iter().map(|address| (*address, name.clone())).collect::<Vec<_>>()
        };
        self.others = self.peers.iter().flat_map(of).collect();
        self.outside.is_at(own_endpoints(snapshot, datapath.listen_port()));
        self.ask_where(datapath);
    }

    /// Those that there is a session with, so that they see where this node sends from.
    fn ask_where(&mut self, datapath: &Datapath) {
        let sessions = datapath.status().into_iter().filter(|peer| peer.established);
        let up = sessions.map(|peer| peer.name).filter(|name| self.peers.contains_key(name));
        for peer in self.outside.ask(&up.collect(), Instant::now()) {
            if let Some(to) = self.peers.get(&peer).and_then(|all| all.first()) {
                self.sockets.send(*to, Message::Where(self.outside.number()));
            }
        }
    }

    fn tick(&mut self, now: Instant) {
        if let Some(ask) = self.survey.as_mut().and_then(|survey| survey.tick(now)) {
            self.sockets.send(ask.to, Message::Question(ask.number));
        }
    }

    /// Only from other nodes' own addresses, which are nobody else's to send from.
    fn take(&mut self, (from, message): (IpAddr, Message), datapath: &Datapath, now: Instant) {
        let Some(peer) = self.others.get(&from) else {
            return;
        };
        match message {
            Message::Question(number) => self.sockets.send(from, Message::Answer(number)),
            Message::Where(number) => {
                let mut all = datapath.status().into_iter();
                let seen = all.find(|known| known.name == *peer).filter(|peer| peer.established);
                if let Some(at) = seen.and_then(|peer| peer.endpoint) {
                    self.sockets.send(from, Message::There(number, at));
                }
            }
            Message::There(number, at) => self.outside.hear(peer, number, at, now),
            Message::Answer(number) => {
                if let Some(survey) = &mut self.survey {
                    survey.answered(number, from, now);
                }
            }
        }
    }
}

fn own_endpoints(snapshot: &Snapshot, port: u16) -> Vec<SocketAddr> {
    let v4 = snapshot.underlay.v4.map(IpAddr::V4);
    let v6 = snapshot.underlay.v6.map(IpAddr::V6);
    v4.into_iter().chain(v6).map(|address| (address, port).into()).collect()
}

fn random() -> u64 {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).ok();
    u64::from_be_bytes(bytes)
}
