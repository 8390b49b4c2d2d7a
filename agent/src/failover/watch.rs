//! Asks and answers by every carrier that there is a choice of, and tells the agent's rounds what to
//! use.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use super::{
    Ask, Failover, Ways, kept,
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
    pub(crate) state: PathBuf,
}

impl Watch {
    /// For ever.
    pub(crate) async fn follow(self) {
        let last = self.chosen.borrow().clone();
        let (mut failover, mut sockets) = (Failover::new(random(), last), Sockets::default());
        let mut due = Instant::now();
        loop {
            let now = Instant::now();
            if now >= due {
                let snapshot = self.snapshot.load();
                let ways = ways(&snapshot, &mut sockets);
                failover.meets(&ways, now);
                for Ask { to, by, number } in failover.tick(snapshot.return_after, now) {
                    let question = Message { kind: Kind::Question, by, number };
                    sockets.send(&self.datapath, to, question);
                }
                if self.tell(failover.chosen()) {
                    self.keep(&failover.detours());
                }
                due = now + if ways.is_empty() { IDLE } else { TICK };
            }
            tokio::select! {
                (from, message) = sockets.receive() => {
                    self.take(from, message, (&mut failover, &sockets));
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

    fn keep(&self, detours: &Chosen) {
        if let Err(error) = kept::save(&self.state, detours) {
            tracing::warn!(%error, "carriers in use not kept on disk");
        }
    }

    /// A question is answered by the carrier that it came by, if that may carry to who asks.
    fn take(&self, from: IpAddr, message: Message, (failover, sockets): (&mut Failover, &Sockets)) {
        let Message { kind, by, number } = message;
        match kind {
            Kind::Question if failover.may(by, from) => {
                let answer = Message { kind: Kind::Answer, by, number };
                sockets.send(&self.datapath, from, answer);
            }
            Kind::Answer => failover.answered(Ask { to: from, by, number }, Instant::now()),
            Kind::Question => {}
        }
    }
}

/// Whom to ask by what. Sockets are there only while somebody is.
fn ways(snapshot: &Snapshot, sockets: &mut Sockets) -> Ways {
    let own = if snapshot.ways.is_empty() { &[] } else { snapshot.subnets.as_slice() };
    let own: Vec<IpAddr> = own.iter().map(|subnet| api::first_host(*subnet)).collect();
    sockets.bind(&own);
    let addresses = |peer: &String| {
        let subnets = snapshot.peers.get(peer).map(|facts| facts.subnets.as_slice());
        let all = subnets.unwrap_or_default().iter().map(|subnet| api::first_host(*subnet));
        all.filter(|address| sockets.reach(*address)).collect::<Vec<_>>()
    };
    let pairs =
        snapshot.ways.iter().map(|(peer, ways)| (peer.clone(), (ways.clone(), addresses(peer))));
    pairs.filter(|(_, (_, addresses))| !addresses.is_empty()).collect()
}

fn random() -> u64 {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).ok();
    u64::from_be_bytes(bytes)
}
