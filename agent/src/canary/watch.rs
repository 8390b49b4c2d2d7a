//! Sends the probes by the kernel's own routes, as any program on the node would, and looks where they
//! can be read.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use cni::POD_DEVICE_PREFIX;
use tokio::{
    net::UdpSocket,
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout_at},
};

use super::{
    Place, Tally, WATCHED,
    filter::{self, Marker},
    tap,
};
use crate::{
    admin::{CanaryState, CanaryVerdict},
    freebind,
    snapshot::Snapshot,
};

/// Nobody listens there (RFC 863), so the peer's kernel answers, and quotes the probe.
const DISCARD: u16 = 9;
/// Nodes that are sent to at once; of more, these take turns.
const AT_ONCE: usize = 32;
/// Between two tries to open the socket.
const RETRY: Duration = Duration::from_secs(10);

/// What it reads, and where it reports.
pub(crate) struct Watch {
    pub(crate) tun: String,
    pub(crate) every: Duration,
    pub(crate) snapshot: Arc<ArcSwap<Snapshot>>,
    pub(crate) report: watch::Sender<Option<CanaryState>>,
}

impl Watch {
    /// For ever. What cannot watch says that it is blind.
    pub(crate) async fn follow(self) {
        let mut tally = Tally::default();
        loop {
            let error = match self.sing(&mut tally).await {
                Ok(never) => match never {},
                Err(error) => error,
            };
            tracing::error!(%error, "canary is blind");
            let mut report = tally.report(Instant::now());
            if report.verdict != CanaryVerdict::Clear {
                report.verdict = CanaryVerdict::Blind;
            }
            report.why = Some(format!("watching the devices: {error}; has it CAP_NET_RAW?"));
            self.report.send_replace(Some(report));
            sleep(RETRY).await;
        }
    }

    async fn sing(&self, tally: &mut Tally) -> std::io::Result<std::convert::Infallible> {
        let mut marker: Marker = [0; 16];
        getrandom::fill(&mut marker).map_err(std::io::Error::other)?;
        let (program, mut due, mut first) = (filter::program(&marker), interval(self.every), 0);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            due.tick().await;
            let mut sights = tap::open(&program)?;
            let targets = targets(&self.snapshot.load(), &mut first);
            self.send(tally, &marker, targets).await;
            let end = Instant::now() + WATCHED;
            while let Ok(seen) = timeout_at(end, sights.recv()).await {
                let ended = || std::io::Error::other("the socket's thread has ended");
                let (device, packet) = seen.ok_or_else(ended)??;
                self.note(tally, filter::number(&marker, &packet), device);
            }
            self.judge(tally);
            self.report.send_replace(Some(tally.report(Instant::now())));
        }
    }

    fn note(&self, tally: &mut Tally, number: Option<u64>, device: usize) {
        let place = || self.place(tap::name_of(device)?);
        let (Some(number), Some(place)) = (number, place()) else { return };
        tally.seen(number, place);
    }

    fn judge(&self, tally: &mut Tally) {
        let snapshot = self.snapshot.load();
        let new = tally.settle(|peer| is_sealed(&snapshot, peer), Instant::now());
        if new > 0 {
            tracing::error!(probes = new, devices = ?tally.devices, "canary seen in clear");
        }
    }

    /// None for devices on which nothing leaves the node.
    fn place(&self, device: String) -> Option<Place> {
        if device == self.tun {
            return Some(Place::Tunnel);
        }
        let inside = device == "lo" || device.starts_with(POD_DEVICE_PREFIX);
        (!inside).then_some(Place::Outside(device))
    }

    async fn send(&self, tally: &mut Tally, marker: &Marker, targets: Vec<Target>) {
        let mut sockets: BTreeMap<IpAddr, UdpSocket> = BTreeMap::new();
        for Target { peer, own, to } in targets {
            let socket = match sockets.entry(own) {
                Entry::Occupied(open) => open.into_mut(),
                Entry::Vacant(place) => {
                    let Ok(socket) = freebind::udp((own, 0).into()) else { continue };
                    place.insert(socket)
                }
            };
            let number = tally.sends(&peer, Instant::now());
            let payload = filter::payload(marker, number);
            if let Err(error) = socket.send_to(&payload, (to, DISCARD)).await {
                tracing::trace!(%error, %to, "canary not sent");
                tally.refused(number);
            }
        }
    }
}

/// A probe to be sent.
#[derive(Debug)]
struct Target {
    peer: String,
    own: IpAddr,
    to: IpAddr,
}

fn is_sealed(snapshot: &Snapshot, peer: &str) -> bool {
    snapshot.carriers.get(peer).is_some_and(|backend| backend.encrypts())
}

/// Nodes that are sealed to, each family, in turns.
fn targets(snapshot: &Snapshot, first: &mut usize) -> Vec<Target> {
    let own: Vec<IpAddr> = snapshot.subnets.iter().map(|net| api::first_host(*net)).collect();
    let sealed = |name: &str| is_sealed(snapshot, name);
    let peers = snapshot.peers.iter().filter(|(name, facts)| facts.is_node && sealed(name));
    let peers: Vec<_> = peers.collect();
    *first = if *first >= peers.len() { 0 } else { *first };
    let turn = peers.iter().cycle().skip(*first).take(AT_ONCE.min(peers.len()));
    *first += AT_ONCE.min(peers.len());
    let addresses = turn.flat_map(|(peer, facts)| {
        facts.subnets.iter().map(move |net| (peer, api::first_host(*net)))
    });
    let targets = addresses.filter_map(|(peer, to)| {
        let own = *own.iter().find(|own| own.is_ipv4() == to.is_ipv4())?;
        Some(Target { peer: (*peer).clone(), own, to })
    });
    targets.collect()
}

#[cfg(test)]
mod tests {
    use api::{Backend, Encryption};

    use super::*;
    use crate::snapshot::PeerFacts;

    fn snapshot(peers: u8) -> Snapshot {
        let mut snapshot = Snapshot::empty("n0", "kube");
        let subnets = |n: u8| {
            [format!("10.42.{n}.0/24"), format!("fd42:0:0:{n:x}::/64")]
                .map(|net| net.parse().unwrap())
        };
        snapshot.subnets = subnets(0).to_vec();
        for n in 1..=peers {
            let facts = PeerFacts {
                subnets: subnets(n).to_vec(),
                site: None,
                encryption: Encryption::Required,
                is_node: true,
                others_turn: None,
                endpoints: Vec::new(),
            };
            snapshot.peers.insert(format!("n{n}"), facts);
            snapshot.carriers.insert(format!("n{n}"), Backend::Wireguard);
        }
        snapshot
    }

    #[test]
    fn every_node_that_is_sealed_to_gets_its_turn_in_both_families() {
        let (mut snapshot, mut first) = (snapshot(40), 0);
        snapshot.carriers.insert("n7".to_owned(), Backend::Vxlan);
        snapshot.carriers.remove("n8");

        let two: Vec<_> = (0..2).flat_map(|_| targets(&snapshot, &mut first)).collect();

        assert_eq!(two.len(), 2 * 2 * AT_ONCE);
        let reached: std::collections::BTreeSet<_> = two.iter().map(|target| target.to).collect();
        assert_eq!(reached.len(), 2 * 38);
        assert!(!reached.contains(&"10.42.7.1".parse().unwrap()), "it is in clear on purpose");
        assert!(two.iter().all(|target| target.own.is_ipv4() == target.to.is_ipv4()));
        assert!(targets(&self::snapshot(0), &mut first).is_empty());
    }
}
