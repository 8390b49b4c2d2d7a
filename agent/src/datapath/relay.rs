//! Sealed datagrams that another node of the mesh passes on, where two nodes don't reach each other.
//! The relay has no key of theirs: it reads who sends and who receives, and passes on the rest as it is.
//!
//! ```text
//! 0      1         2            10         18
//! │ 'h'  │ version │ receiver, 8 │ sender, 8 │ sealed datagram …     ids as in `crypto::relay`
//! ```
//! On the tunnel's own port: no message of WireGuard begins so. Here is the seam between trains and
//! sockets: on the way out, what is for `[100::id]:place` is sealed behind its header and goes to that
//! relay; on the way in, the header is taken off and the datagram comes from such an address, so
//! nothing behind the seam knows how it travelled. A train stays a train all the way, and a relay
//! sends it from where it was received.
//!
//! A relay passes on only from where a peer is that it has a session with, by that peer's own name, to
//! where another such peer is: never to another relay, so never in a circle, and never for strangers.

mod copies;
mod quota;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use arc_swap::ArcSwap;
use crypto::{Discard, Paths, relay};

use self::{copies::Copies, quota::Quotas};
use super::{
    bridge,
    shape::is_handshake,
    shared::Shared,
    udp::{Arrival, MOST_BYTES, MOST_SEGMENTS, Sockets, Train},
};

/// What it adds to a datagram.
pub const HEADER: usize = 18;
const START: [u8; 2] = *b"h\x01";

/// Who may be reached through whom, and who is now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Relays {
    /// What this node is called.
    pub own: u64,
    /// By what each other node is called.
    pub peers: BTreeMap<u64, Relayed>,
    /// Bytes a second that are passed on for each peer; none: this node passes nothing on.
    pub quota: Option<u64>,
}

/// One that may be reached so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Relayed {
    /// Where it may be, the likeliest first.
    pub places: Vec<SocketAddr>,
    /// What its relays are called, the first first.
    pub relays: Vec<u64>,
    /// The place of the one in use.
    pub used: Option<u16>,
    /// Its bridge is in use, where there is one.
    pub bridged: bool,
}

/// Receiver and sender, as they are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    to: u64,
    from: u64,
}

/// What this node has passed on for others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PassedOn {
    pub datagrams: u64,
    /// With their headers.
    pub bytes: u64,
}

/// The seam. Where there are no relays, it is one look at a flag for each call of the kernel.
#[derive(Default)]
pub(super) struct Seam {
    any: AtomicBool,
    /// What this node is called.
    own: AtomicU64,
    table: ArcSwap<Table>,
    quotas: Mutex<Quotas>,
    datagrams: AtomicU64,
    bytes: AtomicU64,
    copies: Mutex<Copies>,
    /// Handshakes whose relay was not there yet, the last for each way: peers and relays are met at
    /// the same time.
    early: Mutex<BTreeMap<SocketAddr, Vec<u8>>>,
}

#[derive(Default)]
struct Table {
    relays: Relays,
    /// Who is said to be there.
    at: BTreeMap<SocketAddr, Vec<u64>>,
}

impl Seam {
    pub(super) fn any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    /// Returns what was in force before.
    pub(super) fn set(&self, relays: Option<Relays>) -> Relays {
        let any = relays.is_some();
        let mut table = Table { relays: relays.unwrap_or_default(), at: BTreeMap::new() };
        for (id, peer) in &table.relays.peers {
            for place in &peer.places {
                table.at.entry(*place).or_default().push(*id);
            }
        }
        self.own.store(table.relays.own, Ordering::Relaxed);
        let before = self.table.swap(table.into());
        self.any.store(any, Ordering::Relaxed);
        before.relays.clone()
    }

    pub(super) fn passed_on(&self) -> PassedOn {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        PassedOn { datagrams: read(&self.datagrams), bytes: read(&self.bytes) }
    }

    /// True if it is a peer behind a relay, or one that was heard by its bridge.
    pub(super) fn knows(&self, from: SocketAddr, paths: Option<&Paths>) -> bool {
        if relay::bridge_port(from).is_some() {
            return paths.is_some_and(|paths| paths.bridged(from).is_some());
        }
        let id = relay::parse(from).map(|(id, _)| id);
        self.any() && id.is_some_and(|id| self.table.load().relays.peers.contains_key(&id))
    }

    /// The header of what is sent there; none if no relay is.
    pub(super) fn head(&self, to: SocketAddr) -> Option<Head> {
        let (to, _) = relay::parse(to).filter(|_| relay::bridge_port(to).is_none())?;
        Some(Head { to, from: self.own.load(Ordering::Relaxed) })
    }

    /// Where else a relayed peer may be: it is looked for there, to be reached without a relay again.
    pub(super) fn sought_at(&self, id: u64) -> Vec<SocketAddr> {
        let table = self.table.load();
        let peer = table.relays.peers.get(&id).filter(|peer| peer.used.is_some());
        peer.map(|peer| peer.places.clone()).unwrap_or_default()
    }

    /// The other ways that a handshake message to `to` takes: all that there are while its peer is
    /// silent or relayed, and none to one that is heard.
    pub(super) fn copies(
        &self,
        to: SocketAddr,
        message: &[u8],
        (shared, now): (&Shared, Instant),
    ) -> BTreeSet<SocketAddr> {
        if !self.any() {
            return BTreeSet::new();
        }
        let table = self.table.load();
        let paths = shared.sessions.paths();
        let through = match relay::bridge_port(to) {
            Some(_) => paths.and_then(|paths| paths.bridged(to)),
            None => relay::parse(to).map(|(id, _)| id),
        };
        let ids = match &through {
            Some(id) => std::slice::from_ref(id),
            None => table.at.get(&to).map(Vec::as_slice).unwrap_or_default(),
        };
        let mut copies = BTreeSet::new();
        let mut asked = self.copies.lock().unwrap_or_else(PoisonError::into_inner);
        for id in ids {
            let signs = shared.sessions.signs(*id).unwrap_or_default();
            let peer = table.relays.peers.get(id);
            let detoured = |peer: &Relayed| peer.used.is_some() || peer.bridged;
            let relayed = through.is_some() || peer.is_some_and(detoured);
            if asked.wants((*id, message), (signs, relayed), now) {
                let bridge = paths.and_then(|paths| paths.bridge(*id));
                let ways = table.ways(*id).chain(bridge);
                copies.extend(ways.filter(|way| through.is_some() || relay::parse(*way).is_some()));
            }
        }
        copies.remove(&to);
        copies
    }

    /// Sends trains to peers by their relays, and returns how many datagrams were refused.
    pub(super) fn send(
        &self,
        trains: &[Train],
        bytes: &[u8],
        (shared, sockets): (&Shared, &Sockets),
    ) -> u64 {
        let (table, now) = (self.table.load(), Instant::now());
        let mut found = Vec::with_capacity(trains.len());
        for train in trains {
            if let Some(train) = bridge::across(train) {
                found.push(train);
                continue;
            }
            match table.relay(train.to).and_then(|relay| shared.sessions.contact(relay, now)) {
                Some(to) => found.push(Train { to: bridge::on_the_wire(to), ..train.clone() }),
                None => self.miss(train, bytes, shared),
            }
        }
        sockets.send(&found, bytes)
    }

    /// No relay is there for it. A handshake may wait for one.
    fn miss(&self, train: &Train, bytes: &[u8], shared: &Shared) {
        let first = &bytes[train.range.clone()][..train.stride.min(train.range.len())];
        let sealed = first.get(HEADER..).unwrap_or_default();
        if is_handshake(sealed) && self.knows(train.to, shared.sessions.paths()) {
            let mut early = self.early.lock().unwrap_or_else(PoisonError::into_inner);
            early.insert(train.to, sealed.to_vec());
        } else {
            shared.count(Discard::NoRelay, datagrams(&train.range, train.stride));
        }
    }

    /// Handshakes that had no relay, to be tried once more.
    pub(super) fn early(&self) -> BTreeMap<SocketAddr, Vec<u8>> {
        std::mem::take(&mut *self.early.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes the header off what is for this node, in place, and passes on what is for others.
    pub(super) fn take_in(
        &self,
        slots: &mut [u8],
        arrivals: &mut Vec<Arrival>,
        (shared, sockets): (&Shared, &Sockets),
    ) {
        let headed = |came: &Arrival, slots: &[u8]| {
            slots[came.range.clone()].chunks(came.stride).any(|one| head(one).is_some())
        };
        if !arrivals.iter().any(|came| headed(came, slots)) {
            return;
        }
        let (table, now) = (self.table.load(), Instant::now());
        let (mut ours, mut onwards) = (Vec::with_capacity(arrivals.len()), Vec::new());
        let came: Vec<_> = arrivals.drain(..).flat_map(|came| runs(came, slots)).collect();
        for (head, came) in came {
            match head {
                None => ours.push(came),
                Some(head) if head.to == table.relays.own => {
                    match table.unwrapped(head, came, slots, (shared, now)) {
                        Ok(came) => ours.push(came),
                        Err((discard, came)) => discard_all(shared, discard, &came),
                    }
                }
                Some(head) => match self.onwards(&table, (head, &came), shared, now) {
                    Ok(to) => {
                        let count = datagrams(&came.range, came.stride);
                        self.datagrams.fetch_add(count, Ordering::Relaxed);
                        self.bytes.fetch_add(came.range.len() as u64, Ordering::Relaxed);
                        onwards.extend(within_limits(to, &came));
                    }
                    Err(discard) => discard_all(shared, discard, &came),
                },
            }
        }
        *arrivals = ours;
        shared.count(Discard::SendFailed, sockets.send(&onwards, slots));
    }

    /// Where to pass it on to.
    fn onwards(
        &self,
        table: &Table,
        (head, came): (Head, &Arrival),
        shared: &Shared,
        now: Instant,
    ) -> Result<SocketAddr, Discard> {
        let quota = table.relays.quota.ok_or(Discard::RelayStranger)?;
        let sender = table.relays.peers.contains_key(&head.from);
        if !sender || !shared.sessions.speaks_from(head.from, came.from, now) {
            return Err(Discard::RelayStranger);
        }
        let receiver = table.relays.peers.contains_key(&head.to) && head.to != head.from;
        let to = shared.sessions.contact(head.to, now).filter(|_| receiver);
        let to = to.ok_or(Discard::RelayUnreachable)?;
        let mut quotas = self.quotas.lock().unwrap_or_else(PoisonError::into_inner);
        if quotas.take(head.from, came.range.len() as u64, (quota, now)) {
            Ok(to)
        } else {
            Err(Discard::RelayQuota)
        }
    }
}

impl Table {
    /// All ways to a peer.
    fn ways(&self, id: u64) -> impl Iterator<Item = SocketAddr> + '_ {
        let peer = self.relays.peers.get(&id);
        let relays = peer.map_or(0, |peer| peer.relays.len() as u16);
        let relayed = (0..relays).map(move |place| relay::address(id, place));
        peer.into_iter().flat_map(|peer| peer.places.iter().copied()).chain(relayed)
    }

    /// What the relay is called that `[100::id]:place` stands for.
    fn relay(&self, to: SocketAddr) -> Option<u64> {
        let (id, place) = relay::parse(to)?;
        self.relays.peers.get(&id)?.relays.get(usize::from(place)).copied()
    }

    /// From its sender by its relay; only what comes from where some peer is.
    fn unwrapped(
        &self,
        head: Head,
        mut came: Arrival,
        slots: &mut [u8],
        (shared, now): (&Shared, Instant),
    ) -> Result<Arrival, (Discard, Arrival)> {
        let Some(peer) = self.relays.peers.get(&head.from) else {
            return Err((Discard::RelayStranger, came));
        };
        let mut relays = peer.relays.iter();
        let place = relays.position(|id| shared.sessions.speaks_from(*id, came.from, now));
        if place.is_none() && !shared.sessions.is_endpoint(came.from) {
            return Err((Discard::RelayStranger, came));
        }
        came.from = relay::address(head.from, place.unwrap_or(0) as u16);
        take_off(&mut came, slots);
        Ok(came)
    }
}

fn discard_all(shared: &Shared, discard: Discard, came: &Arrival) {
    shared.count(discard, datagrams(&came.range, came.stride));
}

fn datagrams(range: &std::ops::Range<usize>, stride: usize) -> u64 {
    range.len().div_ceil(stride.max(1)) as u64
}

impl Head {
    /// At the beginning of a datagram.
    pub(super) fn write(&self, datagram: &mut [u8]) {
        let Some(room) = datagram.first_chunk_mut::<HEADER>() else { return };
        room[..2].copy_from_slice(&START);
        room[2..10].copy_from_slice(&self.to.to_be_bytes());
        room[10..].copy_from_slice(&self.from.to_be_bytes());
    }
}

fn head(datagram: &[u8]) -> Option<Head> {
    let (start, rest) = datagram.split_first_chunk::<2>()?;
    let (to, rest) = rest.split_first_chunk::<8>()?;
    let (from, sealed) = rest.split_first_chunk::<8>()?;
    let head = Head { to: u64::from_be_bytes(*to), from: u64::from_be_bytes(*from) };
    (*start == START && !sealed.is_empty()).then_some(head)
}

/// Neighbours of one header, each run an arrival of its own: the kernel joins what comes from one
/// address, whoever it is of.
fn runs(came: Arrival, slots: &[u8]) -> Vec<(Option<Head>, Arrival)> {
    let heads = slots[came.range.clone()].chunks(came.stride).map(head);
    let mut runs: Vec<(Option<Head>, Arrival)> = Vec::with_capacity(1);
    for (number, head) in heads.enumerate() {
        let start = came.range.start + number * came.stride;
        let end = (start + came.stride).min(came.range.end);
        match runs.last_mut().filter(|(last, _)| *last == head) {
            Some((_, run)) => run.range.end = end,
            None => runs.push((head, Arrival { range: start..end, ..came.clone() })),
        }
    }
    runs
}

/// Moves the datagrams together over their headers.
fn take_off(came: &mut Arrival, slots: &mut [u8]) {
    let mut end = came.range.start;
    for start in came.range.clone().step_by(came.stride) {
        let one = start + HEADER..(start + came.stride).min(came.range.end);
        let length = one.len();
        slots.copy_within(one, end);
        end += length;
    }
    came.range.end = end;
    came.stride -= HEADER;
}

/// As the train that it came as, or several where the kernel joined more than it takes apart.
fn within_limits(to: SocketAddr, came: &Arrival) -> Vec<Train> {
    let (stride, class) = (came.stride, came.class);
    let most = MOST_SEGMENTS.min(MOST_BYTES / stride).max(1) * stride;
    let starts = came.range.clone().step_by(most);
    let to = bridge::on_the_wire(to);
    let train = |start: usize| Train {
        to,
        range: start..(start + most).min(came.range.end),
        stride,
        class,
    };
    starts.map(train).collect()
}

#[cfg(test)]
mod tests;
