//! The control half of a node's mesh: handshakes, timers, peers. One thread owns it.
//!
//! Workers seal and open on established sessions by [`Paths`]; what they cannot do comes here. A
//! program of one thread may call nothing but this.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Instant, SystemTime},
};

use keys::{KeyEpoch, PrivateKey};

use crate::{
    Discard, Discards, HEADER, Inbox, IpPacket, Outbox, Paths, PeerStatus, Random, TAG,
    chain::Label,
    core::{Core, Io},
    doorman::{Arrival, Doorman, Verdict},
    handshake::receive,
    keyring::Keyring,
    message::{InitiationMessage, Message, ResponseMessage},
    moment::Moment,
    path::asks,
    peer::Peer,
    roster::Roster,
    seek::Budget,
    slots::{Indices, slot},
    source::Owner,
    tai64n::Clock,
    timers::{Due, Wheel},
};

/// The largest IP packet with its padding, in a message.
const SCRATCH: usize = 65_536 + HEADER + TAG;
/// When the keys change, so many peers a millisecond are asked for new sessions.
const REKEYS_PER_MILLI: u64 = 2;

/// What a mesh begins with.
pub struct Settings {
    /// This node's keys by epoch: one, or two while a rotation is under way.
    pub identities: Vec<(KeyEpoch, PrivateKey)>,
    /// Which of them handshakes are begun with; one that is not listed means the newest.
    pub sending: KeyEpoch,
    pub random: Box<dyn Random>,
    /// The latest time ever put into a handshake, by [`Mesh::timestamp`] of an earlier life.
    pub timestamp_floor: Option<SystemTime>,
    /// What the wall clock says now.
    pub wall: SystemTime,
}

/// All peers of one node, as one value without a socket or a clock.
pub struct Mesh {
    pub(crate) core: Core,
    pub(crate) roster: Roster,
    scratch: Box<[u8]>,
    marked: Vec<u32>,
    due: Vec<(Due, u32)>,
    /// See [`Mesh::export_due`].
    pub(crate) export_due: bool,
}

impl Mesh {
    pub fn new(settings: Settings, now: Instant) -> Self {
        let Settings { identities, sending, random, timestamp_floor, wall } = settings;
        Self {
            core: Core {
                keyring: Keyring::new(identities, sending),
                clock: Clock::new(wall, timestamp_floor, now),
                random,
                doorman: Doorman::new(now),
                calls: Budget::new(now),
                indices: Indices::default(),
                wheel: Wheel::default(),
                paths: Arc::new(Paths::new(now)),
            },
            roster: Roster::default(),
            scratch: vec![0; SCRATCH].into(),
            marked: Vec::new(),
            due: Vec::new(),
            export_due: false,
        }
    }

    /// Changes this node's own keys. Sessions of a key that is gone end; the others are renewed
    /// with the sending one, make before break, spread over a while if there are many.
    pub fn set_identities(
        &mut self,
        identities: Vec<(KeyEpoch, PrivateKey)>,
        sending: KeyEpoch,
        out: &mut impl Outbox,
        now: Instant,
    ) {
        let before = std::mem::replace(&mut self.core.keyring, Keyring::new(identities, sending));
        let kept = self.core.keyring.shared_with(&before);
        let at = self.core.paths.origin.moment(now);
        for (number, peer) in (0..).zip(self.roster.peers_mut()) {
            peer.retain(&mut self.core, |label| kept.contains(&label.ours));
            peer.wish_for_rekey(&self.core, Moment(at.0 + number / REKEYS_PER_MILLI));
            peer.schedule(&mut self.core, at);
        }
        self.roster.doubt();
        let beginning = self
            .roster
            .slots()
            .filter(|slot| self.roster.get(*slot).is_some_and(|peer| peer.wishes(at)));
        self.tick_peers(beginning.collect(), out, now);
    }

    /// Tells what the wall clock says now. Handshakes' timestamps never go back.
    pub fn set_wall_clock(&mut self, wall: SystemTime, now: Instant) {
        self.core.clock.set_wall(wall, now);
    }

    /// The latest time ever put into a handshake: the floor of the next life.
    pub fn timestamp(&self) -> SystemTime {
        self.core.clock.latest()
    }

    /// Encrypts an IP packet for the peer that owns its destination, or keeps it for the session
    /// that it asks for.
    pub fn seal(
        &mut self,
        packet: &[u8],
        out: &mut impl Outbox,
        now: Instant,
    ) -> Result<(), Discard> {
        let sealed = self.seal_or_say_why(packet, out, now);
        self.settle(out, now);
        sealed.inspect_err(|&discard| self.core.count(discard))
    }

    /// Takes a datagram from the underlay.
    pub fn open(
        &mut self,
        datagram: &[u8],
        from: SocketAddr,
        out: &mut impl Outbox,
        now: Instant,
    ) -> Result<(), Discard> {
        let opened = match Message::parse(datagram) {
            Ok(Message::Data { .. }) => self.open_data(datagram, from, out, now),
            Ok(Message::Initiation(message)) => {
                self.hear_initiation(message, (datagram, from), out, now)
            }
            Ok(Message::Response(message)) => {
                self.hear_response(message, (datagram, from), out, now)
            }
            Ok(Message::Cookie(message)) => {
                let slot = self.core.indices.owner(message.receiver());
                self.with(slot, out, now, |peer, _, io| peer.hear_cookie(message, from, io))
                    .unwrap_or(Err(Discard::UnexpectedHandshake))
                    .inspect_err(|&discard| self.core.count(discard))
            }
            Err(discard) => Err(discard).inspect_err(|&discard| self.core.count(discard)),
        };
        self.settle(out, now);
        opened
    }

    /// Sends an empty message on each session: this node may have another address now, and each peer
    /// speaks to where it heard it last.
    pub fn announce(&mut self, out: &mut impl Outbox, now: Instant) {
        let slots: Vec<u32> = self.roster.slots().collect();
        for slot in slots {
            self.with(Some(slot), out, now, Peer::announce);
        }
        self.settle(out, now);
    }

    /// Calls a peer that there is no session with, or no answer from, at once: there is another way.
    pub fn hurry(&mut self, name: &str, out: &mut impl Outbox, now: Instant) {
        let slot = self.roster.slot_named(name);
        self.with(slot, out, now, |peer, _, io| peer.hurry(io));
        self.settle(out, now);
    }

    /// Does what is due, and what [`Paths`] asked for.
    pub fn tick(&mut self, out: &mut impl Outbox, now: Instant) {
        self.attend(out, now);
        let at = self.core.paths.origin.moment(now);
        let mut due = std::mem::take(&mut self.due);
        self.core.wheel.advance(at, &mut due);
        for (due, slot) in due.drain(..) {
            if self.roster.get_mut(slot).is_some_and(|peer| peer.is_due(due)) {
                self.with(Some(slot), out, now, Peer::tick);
            }
        }
        self.due = due;
        self.settle(out, now);
    }

    /// When [`Mesh::tick`] wants to be called next.
    pub fn next_wake(&self) -> Option<Instant> {
        self.core.wheel.next().map(|next| self.core.paths.origin.instant(next))
    }

    /// All peers, by name.
    pub fn status(&self) -> Vec<PeerStatus> {
        self.roster.peers().map(|peer| peer.status(&self.core)).collect()
    }

    /// What died, here and in [`Paths`].
    pub fn discards(&self) -> Discards {
        self.core.paths.discards()
    }

    /// The half that workers share.
    pub fn paths(&self) -> Arc<Paths> {
        Arc::clone(&self.core.paths)
    }

    fn seal_or_say_why(
        &mut self,
        packet: &[u8],
        out: &mut impl Outbox,
        now: Instant,
    ) -> Result<(), Discard> {
        let packet = IpPacket::parse(packet).ok_or(Discard::NotIp)?;
        let owner = self.core.paths.routes.load().owner_of(packet.destination());
        match owner {
            None => Err(Discard::NoRoute),
            Some(Owner::Us) => Err(Discard::OwnDestination),
            Some(Owner::Peer(id)) => self
                .with(Some(slot(id)), out, now, |peer, scratch, io| {
                    peer.seal(packet.bytes(), scratch, io)
                })
                .unwrap_or(Err(Discard::NoRoute)),
        }
    }

    fn open_data(
        &mut self,
        datagram: &[u8],
        from: SocketAddr,
        out: &mut impl Outbox,
        now: Instant,
    ) -> Result<(), Discard> {
        let Some(scratch) = self.scratch.get_mut(..datagram.len()) else {
            self.core.count(Discard::NotWireGuard);
            return Err(Discard::NotWireGuard);
        };
        scratch.copy_from_slice(datagram);
        let mut one = One::default();
        self.core.paths.open(scratch, datagram.len(), from, now, &mut one);
        if let Some(packet) = one.packet {
            out.deliver(&scratch[packet]);
        }
        one.discard.map_or(Ok(()), Err)
    }

    fn hear_initiation(
        &mut self,
        message: InitiationMessage<'_>,
        (datagram, from): (&[u8], SocketAddr),
        out: &mut impl Outbox,
        now: Instant,
    ) -> Result<(), Discard> {
        let heard = self.admit(datagram, from, out, now).and_then(|place| {
            let identity = &self.core.keyring.all()[place];
            let claim = receive(identity, message)?;
            let sender = claim.sender();
            let slot = self.roster.slot_of(&sender).ok_or(Discard::UnknownPeer)?;
            let peer = self.roster.get_mut(slot).ok_or(Discard::UnknownPeer)?;
            let theirs = peer.epoch_of(&sender).ok_or(Discard::UnknownPeer)?;
            let label = Label { ours: identity.epoch(), theirs };
            let verified = claim.verify(peer.shake.remote(identity, label, sender)?)?;
            self.with(Some(slot), out, now, |peer, _, io| {
                peer.hear_initiation(verified, (label, sender), from, io)
            })
            .unwrap_or(Err(Discard::UnknownPeer))
        });
        heard.inspect_err(|&discard| self.core.count(discard))
    }

    fn hear_response(
        &mut self,
        message: ResponseMessage<'_>,
        (datagram, from): (&[u8], SocketAddr),
        out: &mut impl Outbox,
        now: Instant,
    ) -> Result<(), Discard> {
        let heard = match self.awaiting(message.receiver()) {
            None => Err(Discard::UnexpectedHandshake),
            slot => self.admit(datagram, from, out, now).and_then(|_| {
                self.with(slot, out, now, |peer, scratch, io| {
                    peer.hear_response(message, from, scratch, io)
                })
                .unwrap_or(Err(Discard::UnexpectedHandshake))
            }),
        };
        heard.inspect_err(|&discard| self.core.count(discard))
    }

    /// The peer whose initiation, under way, has that index.
    fn awaiting(&self, index: u32) -> Option<u32> {
        let slot = self.core.indices.owner(index)?;
        self.roster.get(slot)?.shake.awaits(index).then_some(slot)
    }

    /// Lets a handshake message in, or not: for which of our keys it is.
    fn admit(
        &mut self,
        datagram: &[u8],
        from: SocketAddr,
        out: &mut impl Outbox,
        now: Instant,
    ) -> Result<usize, Discard> {
        let core = &mut self.core;
        let arrival = Arrival { datagram, from, known: core.paths.endpoints.has(from) };
        match core.doorman.judge(core.keyring.all(), arrival, now, &mut *core.random) {
            Verdict::Answer(place) => Ok(place),
            Verdict::Demand(cookie) => {
                out.send(from, &cookie);
                Err(Discard::CookieDemanded)
            }
            Verdict::Drop(discard) => Err(discard),
        }
    }

    /// Lets these peers do what is due, without waiting for the wheel.
    pub(crate) fn tick_peers(&mut self, slots: Vec<u32>, out: &mut impl Outbox, now: Instant) {
        for slot in slots {
            self.with(Some(slot), out, now, Peer::tick);
        }
        self.settle(out, now);
    }

    /// Calls the peer in that slot, and thinks of what is due there next.
    fn with<O: Outbox, R>(
        &mut self,
        slot: Option<u32>,
        out: &mut O,
        now: Instant,
        call: impl FnOnce(&mut Peer, &mut [u8], &mut Io<'_, O>) -> R,
    ) -> Option<R> {
        let peer = self.roster.get_mut(slot?)?;
        let at = self.core.paths.origin.moment(now);
        let mut io = Io { out, core: &mut self.core, now, at };
        let result = call(peer, &mut self.scratch, &mut io);
        peer.schedule(&mut self.core, at);
        Some(result)
    }

    /// Looks at the peers that workers marked.
    fn attend(&mut self, out: &mut impl Outbox, now: Instant) {
        let mut marked = std::mem::take(&mut self.marked);
        self.core.paths.marks.take(|slot| marked.push(slot));
        for slot in marked.drain(..) {
            self.with(Some(slot), out, now, Peer::attend);
            let asked = self.roster.get(slot).is_some_and(|peer| peer.path.asked(asks::EXPORT));
            self.export_due |= asked;
        }
        self.marked = marked;
    }

    /// The same, if there is any.
    pub(crate) fn settle(&mut self, out: &mut impl Outbox, now: Instant) {
        while self.core.paths.wants_control() {
            self.attend(out, now);
        }
    }
}

/// What came of one datagram.
#[derive(Default)]
struct One {
    packet: Option<std::ops::Range<usize>>,
    discard: Option<Discard>,
}

impl Inbox for One {
    fn packet(&mut self, place: std::ops::Range<usize>) {
        self.packet = Some(place);
    }

    fn handshake(&mut self, _: std::ops::Range<usize>) {}

    fn discard(&mut self, discard: Discard) {
        self.discard = Some(discard);
    }
}

#[cfg(test)]
pub(crate) mod tests;
