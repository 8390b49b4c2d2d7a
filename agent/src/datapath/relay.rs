//! Sealed datagrams that another node of the mesh passes on, where two nodes don't reach each other.
//! The relay has no key of theirs: it reads who sends and who receives, and passes on the rest as it is.
//!
//! ```text
//! 0      1         2            10         18
//! │ 'h'  │ version │ receiver, 8 │ sender, 8 │ sealed datagram …     ids as in `crypto::relay`
//! ```
//! On the tunnel's own port: no message of WireGuard begins so. Here is the seam between trains and
//! sockets: on the way out, what is for `[100::id]:place` gets the header and goes to that relay; on
//! the way in, the header is taken off and the datagram comes from such an address, so nothing behind
//! the seam knows how it travelled. A train stays a train all the way.
//!
//! A relay passes on only from where a peer is that it has a session with, by that peer's own name, to
//! where another such peer is: never to another relay, so never in a circle, and never for strangers.

mod quota;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use arc_swap::ArcSwap;
use crypto::{Discard, Paths, relay};

use self::quota::Quotas;
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
    /// Where it is said to be.
    pub endpoint: Option<SocketAddr>,
    /// What its relays are called, the first first.
    pub relays: Vec<u64>,
    /// The place of the one in use.
    pub used: Option<u16>,
    /// Its bridge is in use, where there is one.
    pub bridged: bool,
}

/// Receiver and sender, as they are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    to: u64,
    from: u64,
}

/// The seam. Where there are no relays, it is one look at a flag for each call of the kernel.
#[derive(Default)]
pub(super) struct Seam {
    any: AtomicBool,
    table: ArcSwap<Table>,
    quotas: Mutex<Quotas>,
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
            if let Some(endpoint) = peer.endpoint {
                table.at.entry(endpoint).or_default().push(*id);
            }
        }
        let before = self.table.swap(table.into());
        self.any.store(any, Ordering::Relaxed);
        before.relays.clone()
    }

    /// True if it is a peer behind a relay, or one that was heard by its bridge.
    pub(super) fn knows(&self, from: SocketAddr, paths: Option<&Paths>) -> bool {
        if relay::bridge_port(from).is_some() {
            return paths.is_some_and(|paths| paths.bridged(from).is_some());
        }
        let id = relay::parse(from).map(|(id, _)| id);
        self.any() && id.is_some_and(|id| self.table.load().relays.peers.contains_key(&id))
    }

    /// All other ways to whom something goes to `to`: a handshake takes every one.
    pub(super) fn others(&self, to: SocketAddr, paths: Option<&Paths>) -> BTreeSet<SocketAddr> {
        let table = self.table.load();
        let at = |id: u64| {
            let peer = table.relays.peers.get(&id);
            let relays = peer.map_or(0, |peer| peer.relays.len() as u16);
            let places = (0..relays).map(move |place| relay::address(id, place));
            let bridge = paths.and_then(|paths| paths.bridge(id));
            peer.and_then(|peer| peer.endpoint).into_iter().chain(places).chain(bridge)
        };
        let known = match (relay::bridge_port(to), relay::parse(to)) {
            (Some(_), _) => paths.and_then(|paths| paths.bridged(to)),
            (None, named) => named.map(|(id, _)| id),
        };
        let all = table.at.get(&to).into_iter().flatten().copied();
        let mut others: BTreeSet<SocketAddr> = all.chain(known).flat_map(at).collect();
        others.remove(&to);
        others
    }

    /// Sends trains to peers by their relays, and returns how many datagrams were refused.
    pub(super) fn send(
        &self,
        trains: &[Train],
        bytes: &[u8],
        (shared, sockets): (&Shared, &Sockets),
    ) -> u64 {
        let (table, now, mut refused) = (self.table.load(), Instant::now(), 0);
        for train in trains {
            if let Some(train) = bridge::across(train) {
                refused += sockets.send(&[train], bytes);
                continue;
            }
            let relay = relay::parse(train.to).and_then(|(id, place)| {
                let relay = *table.relays.peers.get(&id)?.relays.get(usize::from(place))?;
                Some((
                    Head { to: id, from: table.relays.own },
                    shared.sessions.contact(relay, now)?,
                ))
            });
            let Some((head, to)) = relay else {
                if is_handshake(&bytes[train.range.clone()]) {
                    let known = self.knows(train.to, shared.sessions.paths());
                    let mut early = self.early.lock().unwrap_or_else(PoisonError::into_inner);
                    let bytes = known.then(|| bytes[train.range.clone()].to_vec());
                    early.extend(bytes.map(|bytes| (train.to, bytes)));
                    continue;
                }
                shared.count(Discard::NoRelay, datagrams(&train.range, train.stride));
                continue;
            };
            let (trains, bytes) = put_on(train, bytes, head, to);
            refused += sockets.send(&trains, &bytes);
        }
        refused
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
                    Ok(to) => onwards.extend(within_limits(to, &came)),
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

/// As one train, or several where the longer datagrams no longer fit into one.
fn put_on(train: &Train, bytes: &[u8], head: Head, to: SocketAddr) -> (Vec<Train>, Vec<u8>) {
    let stride = train.stride + HEADER;
    let count = train.range.len().div_ceil(train.stride.max(1));
    let mut headed = Vec::with_capacity(count * stride);
    for datagram in bytes[train.range.clone()].chunks(train.stride) {
        headed.extend_from_slice(&START);
        headed.extend_from_slice(&head.to.to_be_bytes());
        headed.extend_from_slice(&head.from.to_be_bytes());
        headed.extend_from_slice(datagram);
    }
    let whole = Arrival { from: to, range: 0..headed.len(), stride, class: train.class };
    (within_limits(to, &whole), headed)
}

#[cfg(test)]
mod tests;
