//! Answers other nodes' probes always, and sends its own while a rotation is under way.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc, time::Duration};

use api::MeshNode;
use arc_swap::ArcSwap;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use super::{Counted, Peers, Survey, message::Message, sockets::Sockets};
use crate::{rotation::Rotation, snapshot::Snapshot};

/// Between two looks at who is in the mesh.
const LOOK: Duration = Duration::from_secs(1);

/// What it reads, and whom it tells.
pub(crate) struct Prober {
    pub(crate) snapshot: Arc<ArcSwap<Snapshot>>,
    /// This node as the API has it.
    pub(crate) own: watch::Receiver<Option<MeshNode>>,
    pub(crate) rotation: watch::Receiver<Option<Rotation>>,
    pub(crate) counted: watch::Sender<Option<Counted>>,
}

/// What changes meanwhile.
#[derive(Default)]
struct State {
    sockets: Sockets,
    peers: Peers,
    /// Whose questions are answered.
    others: BTreeSet<IpAddr>,
    survey: Option<Survey>,
}

impl Prober {
    /// For as long as rotations are told of.
    pub(crate) async fn follow(mut self) {
        let mut state = State::default();
        let mut look = Instant::now();
        loop {
            let now = Instant::now();
            if now >= look {
                state.look(&self.snapshot.load());
                self.survey(&mut state, now);
                look = now + LOOK;
            }
            state.tick(now);
            self.tell(&state, now);
            let due = state.survey.as_ref().and_then(|survey| survey.next_wake(now));
            tokio::select! {
                (from, message) = state.sockets.receive() => {
                    state.take(from, message, Instant::now());
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
    fn look(&mut self, snapshot: &Snapshot) {
        let own = snapshot.subnets.iter().map(|subnet| api::first_host(*subnet));
        self.sockets.bind(&own.collect());
        let nodes = snapshot.peers.iter().filter(|(_, facts)| facts.is_node);
        let addresses = nodes.map(|(name, facts)| {
            let all = facts.subnets.iter().map(|subnet| api::first_host(*subnet));
            (name.clone(), all.filter(|address| self.sockets.reach(*address)).collect())
        });
        self.peers = addresses.collect();
        self.others = self.peers.values().flatten().copied().collect();
    }

    fn tick(&mut self, now: Instant) {
        if let Some(ask) = self.survey.as_mut().and_then(|survey| survey.tick(now)) {
            self.sockets.send(ask.to, Message::Question(ask.number));
        }
    }

    /// Only from other nodes' own addresses, which are nobody else's to send from.
    fn take(&mut self, from: IpAddr, message: Message, now: Instant) {
        match message {
            Message::Question(number) if self.others.contains(&from) => {
                self.sockets.send(from, Message::Answer(number));
            }
            Message::Answer(number) => {
                if let Some(survey) = &mut self.survey {
                    survey.answered(number, from, now);
                }
            }
            Message::Question(_) => {}
        }
    }
}

fn random() -> u64 {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).ok();
    u64::from_be_bytes(bytes)
}
