//! Asks and answers by every carrier that there is a choice of, and tells the agent's rounds what to
//! use.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use super::{
    Ask, Choice, Failover, Mute, Signs, Ways,
    gateways::{Asked, Gateways},
    kept,
    message::{Kind, Message},
    sockets::Sockets,
};
use crate::{datapath::Datapath, plan::Way, snapshot::Snapshot};

/// Between two decisions, where there is a choice.
const TICK: Duration = Duration::from_millis(200);
/// Between two looks for one.
const IDLE: Duration = Duration::from_secs(1);

/// What to use to each node that there is a choice for.
pub(crate) type Chosen = BTreeMap<String, Way>;

/// What it reads, and whom it tells.
pub(crate) struct Watch {
    pub(crate) snapshot: Arc<ArcSwap<Snapshot>>,
    pub(crate) datapath: Arc<Datapath>,
    /// Holds what the last run used.
    pub(crate) chosen: watch::Sender<Chosen>,
    /// Gateways that do not answer.
    pub(crate) silent: watch::Sender<BTreeSet<String>>,
    /// Nodes that do not answer datagrams.
    pub(crate) mute: watch::Sender<Mute>,
    pub(crate) state: PathBuf,
}

impl Watch {
    /// For ever.
    pub(crate) async fn follow(self) {
        let last = self.chosen.borrow().clone();
        let (mut failover, mut sockets) = (Failover::new(random(), last), Sockets::default());
        let mut gateways = Gateways::new(random());
        let mut due = Instant::now();
        loop {
            let now = Instant::now();
            if now >= due {
                let snapshot = self.snapshot.load();
                bind(&snapshot, &mut sockets);
                let (ways, asked) = (ways(&snapshot, &sockets), asked(&snapshot, &sockets));
                failover.meets(&ways, now);
                let signs = |peer: &str| self.signs(peer);
                let mut asks = failover.tick(snapshot.return_after, signs, now);
                asks.extend(gateways.tick(&asked, snapshot.return_after, now));
                for Ask { to, by, number, alarm } in asks {
                    let kind = if alarm { Kind::Alarm } else { Kind::Question };
                    let question = Message { kind, by, number };
                    sockets.send(&self.datapath, to, question);
                }
                if self.tell(failover.chosen()) {
                    self.keep(&failover.detours());
                }
                self.tell_silent(gateways.silent());
                self.mute.send_replace(failover.mute());
                due = now + if ways.is_empty() && asked.is_empty() { IDLE } else { TICK };
            }
            tokio::select! {
                (from, message) = sockets.receive() => {
                    if self.take(from, message, (&mut failover, &mut gateways, &sockets)) {
                        due = Instant::now();
                    }
                }
                () = sleep_until(due) => {}
            }
        }
    }

    /// True if it is news.
    fn tell(&self, chosen: Chosen) -> bool {
        self.chosen.send_if_modified(|before| {
            for (peer, to) in &chosen {
                let from = before.get(peer);
                if let Some(from) = from.filter(|from| *from != to) {
                    tracing::warn!(?peer, %from, %to, "carrier changed");
                }
            }
            let differs = *before != chosen;
            *before = chosen;
            differs
        })
    }

    fn tell_silent(&self, silent: BTreeSet<String>) {
        self.silent.send_if_modified(|before| {
            for gateway in silent.difference(before) {
                tracing::warn!(?gateway, "gateway silent");
            }
            for gateway in before.difference(&silent) {
                tracing::info!(?gateway, "gateway answers again");
            }
            let differs = *before != silent;
            *before = silent;
            differs
        });
    }

    /// True if what is sent to the node of this address goes by this carrier.
    fn speaks(&self, by: Way, to: IpAddr) -> bool {
        let snapshot = self.snapshot.load();
        let mut of =
            snapshot.peers.keys().filter(|peer| addresses(&snapshot, peer).any(|at| at == to));
        of.any(|peer| snapshot.carriers.get(peer) == Some(&by.backend))
    }

    fn keep(&self, detours: &Chosen) {
        if let Err(error) = kept::save(&self.state, detours) {
            tracing::warn!(%error, "carriers in use not kept on disk");
        }
    }

    /// A question is answered by the carrier that it came by, if that may carry to who asks. True if
    /// there is something to decide at once.
    fn take(
        &self,
        from: IpAddr,
        message: Message,
        (failover, gateways, sockets): (&mut Failover, &mut Gateways, &Sockets),
    ) -> bool {
        let (Message { kind, by, number }, now) = (message, Instant::now());
        match kind {
            Kind::Question | Kind::Alarm if failover.may(by, from) || self.speaks(by, from) => {
                let answer = Message { kind: Kind::Answer, by, number };
                sockets.send(&self.datapath, from, answer);
                kind == Kind::Alarm && failover.alarmed(by, from, now)
            }
            Kind::Answer => {
                let answer = Ask { to: from, by, number, alarm: false };
                failover.answered(answer, now);
                gateways.answered(answer, now);
                false
            }
            Kind::Question | Kind::Alarm => false,
        }
    }

    fn signs(&self, peer: &str) -> Signs {
        let signs = self.datapath.signs(peer).unwrap_or_default();
        Signs {
            unanswered: signs.unanswered.map(Instant::from_std),
            heard: signs.heard.map(Instant::from_std),
            session: signs.session,
        }
    }
}

/// Sockets are there only while somebody is asked, or may ask.
fn bind(snapshot: &Snapshot, sockets: &mut Sockets) {
    let used = !snapshot.ways.is_empty() || !snapshot.gateways.is_empty() || snapshot.forwards;
    let own = if used { snapshot.subnets.as_slice() } else { &[] };
    let own: Vec<IpAddr> = own.iter().map(|subnet| api::first_host(*subnet)).collect();
    sockets.bind(&own);
}

/// Whom to ask by what.
fn ways(snapshot: &Snapshot, sockets: &Sockets) -> Ways {
    let pairs = snapshot.ways.iter().map(|(peer, ways)| {
        let addresses = addresses(snapshot, peer).filter(|address| sockets.reach(*address));
        let (ways, addresses) = (ways.clone(), addresses.collect());
        (peer.clone(), Choice { ways, addresses, apart: snapshot.apart.contains(peer) })
    });
    pairs.filter(|(_, choice)| !choice.addresses.is_empty()).collect()
}

/// The gateways, by what is in use to them.
fn asked(snapshot: &Snapshot, sockets: &Sockets) -> Asked {
    let gateways = snapshot.gateways.iter().filter_map(|gateway| {
        let by = snapshot.way(gateway)?;
        let all = addresses(snapshot, gateway).filter(|address| sockets.reach(*address));
        Some((gateway.clone(), (by, all.collect::<Vec<_>>())))
    });
    gateways.filter(|(_, (_, addresses))| !addresses.is_empty()).collect()
}

/// A peer's own in the mesh.
fn addresses<'a>(snapshot: &'a Snapshot, peer: &str) -> impl Iterator<Item = IpAddr> + 'a {
    let subnets = snapshot.peers.get(peer).map(|facts| facts.subnets.as_slice());
    subnets.unwrap_or_default().iter().map(|subnet| api::first_host(*subnet))
}

fn random() -> u64 {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).ok();
    u64::from_be_bytes(bytes)
}
