//! A train of datagrams on its way in: opened one by one, judged together.
//!
//! Datagrams that follow each other on one session are opened first and marked in its window all
//! at once, so the window's lock is taken once a train. Nothing of a datagram is believed before.

use std::{
    net::{IpAddr, SocketAddr},
    ops::Range,
    sync::{Arc, atomic::Ordering},
};

use crate::{
    Discard, HEADER, Inbox, Paths, Routes,
    message::Message,
    moment::Moment,
    path::asks,
    session::{REJECT_AFTER_MESSAGES, ReceiveKey},
    source::{Owner, Sender, theirs},
};

/// Datagrams that are marked together, at most: a bit each in a word.
const TOGETHER: usize = 64;

/// A datagram whose tag was right: where its packet is (with its padding).
#[derive(Debug, Clone, Copy, Default)]
struct Opened {
    counter: u64,
    start: usize,
    length: usize,
}

pub(crate) struct Arrivals<'a> {
    paths: &'a Paths,
    from: SocketAddr,
    at: Moment,
    key: Option<Arc<ReceiveKey>>,
    opened: [Opened; TOGETHER],
    count: usize,
}

impl<'a> Arrivals<'a> {
    pub(crate) fn new(paths: &'a Paths, from: SocketAddr, at: Moment) -> Self {
        Self { paths, from, at, key: None, opened: [Opened::default(); TOGETHER], count: 0 }
    }

    /// Takes the datagram at `place`.
    pub(crate) fn take(&mut self, train: &mut [u8], place: Range<usize>, into: &mut impl Inbox) {
        let taken = match Message::parse(&train[place.clone()]) {
            Ok(Message::Data { receiver, counter }) => {
                self.open(train, place, (receiver, counter), into)
            }
            Ok(Message::Initiation(_) | Message::Response(_) | Message::Cookie(_)) => {
                into.handshake(place);
                Ok(())
            }
            Err(discard) => Err(discard),
        };
        if let Err(discard) = taken {
            self.discard(discard, into);
        }
    }

    /// Judges what was opened and not judged yet.
    pub(crate) fn finish(&mut self, train: &[u8], into: &mut impl Inbox) {
        let Some(key) = self.key.take().filter(|_| self.count > 0) else {
            return;
        };
        let opened = &self.opened[..self.count];
        let marked = key.mark(opened.iter().map(|opened| opened.counter));
        let routes = self.paths.routes.load();
        let forwards = key.peer.forwards.load();
        let sender = Sender { owner: Owner::Peer(key.peer.id), forwards: forwards.as_deref() };
        let mut sources = Sources { routes: &routes, sender, last: None };
        let (mut bytes, mut data) = (0, false);
        for (place, opened) in opened.iter().enumerate() {
            if marked.fresh & 1 << place == 0 {
                let beyond = marked.beyond & 1 << place != 0;
                self.discard(
                    if beyond { Discard::SessionExhausted } else { Discard::Replay },
                    into,
                );
                continue;
            }
            let packet = &train[opened.start..][..opened.length];
            data |= !packet.is_empty();
            match sources.judge(packet) {
                Ok(0) => {}
                Ok(length) => {
                    bytes += length as u64;
                    into.packet(opened.start..opened.start + length);
                }
                Err(discard) => self.discard(discard, into),
            }
        }
        if marked.fresh != 0 {
            self.heard(&key, bytes, data);
        }
        self.count = 0;
        self.key = Some(key);
    }

    fn open(
        &mut self,
        train: &mut [u8],
        place: Range<usize>,
        (receiver, counter): (u32, u64),
        into: &mut impl Inbox,
    ) -> Result<(), Discard> {
        if self.count == TOGETHER || self.key.as_ref().is_some_and(|key| key.index() != receiver) {
            self.finish(train, into);
        }
        let key = self.key(receiver)?;
        if counter >= REJECT_AFTER_MESSAGES {
            return Err(Discard::SessionExhausted);
        }
        let start = place.start + HEADER;
        let length = key.open(counter, &mut train[start..place.end])?;
        self.opened[self.count] = Opened { counter, start, length };
        self.count += 1;
        Ok(())
    }

    /// The session of that index, if it may still receive.
    fn key(&mut self, receiver: u32) -> Result<&ReceiveKey, Discard> {
        if self.key.as_ref().is_none_or(|key| key.index() != receiver) {
            let found = self.paths.receivers.get(receiver);
            let found = found.as_deref().and_then(Option::as_ref);
            let key = found.ok_or(Discard::UnknownReceiver)?;
            if key.index() != receiver || self.at >= key.span.reject_at {
                return Err(Discard::NoSession);
            }
            self.key = Some(Arc::clone(key));
        }
        self.key.as_deref().ok_or(Discard::NoSession)
    }

    /// Something authentic and new came: only that moves an endpoint.
    fn heard(&self, key: &ReceiveKey, bytes: u64, data: bool) {
        let peer = &key.peer;
        let mut ask = 0;
        self.paths.came_by(peer, self.from);
        if peer.hears(data, self.at) {
            ask |= asks::RECEIVED;
        }
        if peer.follow(self.from) {
            ask |= asks::MOVED;
        }
        if key.unconfirmed.load(Ordering::Relaxed) && key.unconfirmed.swap(false, Ordering::AcqRel)
        {
            ask |= asks::CONFIRMED;
        }
        if self.at >= key.span.stale_at {
            ask |= asks::REKEY;
        }
        let counter = self.opened[self.count - 1].counter;
        if key.export_due(counter) {
            ask |= asks::EXPORT;
        }
        if bytes > 0 {
            peer.count_received(bytes);
        }
        if ask != 0 {
            self.paths.ask(peer, ask);
        }
    }

    fn discard(&self, discard: Discard, into: &mut impl Inbox) {
        self.paths.count(discard);
        into.discard(discard);
    }
}

/// Whose addresses may appear, with the last one that was right: a train is mostly one flow.
struct Sources<'a> {
    routes: &'a Routes<Owner>,
    sender: Sender<'a>,
    last: Option<IpAddr>,
}

impl Sources<'_> {
    /// The length of the packet without its padding; 0 is a keepalive.
    fn judge(&mut self, packet: &[u8]) -> Result<usize, Discard> {
        if packet.is_empty() {
            return Ok(0);
        }
        let packet = theirs(packet, self.sender, self.routes, self.last)?;
        self.last = Some(packet.source());
        Ok(packet.bytes().len())
    }
}
