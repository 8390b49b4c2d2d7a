//! Handshakes with one peer: which is under way, who began it, who wins.
//!
//! ```text
//!            initiate                    response
//!   quiet ─────────────▶ attempt ─────────────────────▶ a current session
//!     │                    │ their initiation, ours wins: kept aside for HOLD, then answered
//!     │ their initiation   │ their initiation, theirs wins: answered, ours forgotten
//!     └─────────────▶ answered (a next session) ── data comes on it ──▶ a current session
//! ```
//! An attempt's initiation is sent again, and then another, as [`crate::seek`] says.
//! When both ends begin at once, the initiation by the smaller public key wins: both ends see both
//! of them, so one session comes of it.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use keys::PublicKey;

use crate::{
    Discard, Outbox,
    blake2s::MAC,
    chain::{Label, Session},
    cookie::StoredCookie,
    core::{Core, Io},
    handshake::{Ends, Identity, Initiation, Keys, Ours, Remote, Verified, initiate},
    message::{CookieMessage, INITIATION, Maced, RESPONSE, ResponseMessage},
    moment::Moment,
    peer::Peer,
    seek::SOON,
    session::{ReceiveKey, SendKey, Span},
    slots::slot,
    tai64n::Timestamp,
    window::Window,
};

/// How long the loser's initiation is kept aside for the winner's to be answered.
const HOLD: Duration = Duration::from_millis(500);
/// How long a session that we answered may take to be confirmed before we begin one ourselves.
const CONFIRM: Duration = Duration::from_secs(1);
/// The WireGuard paper, section 6.1: Rekey-Timeout (with up to a third of a second of jitter, that is a
/// fifteenth) and Rekey-Attempt-Time.
const RETRY: Duration = Duration::from_secs(5);
const JITTER: u32 = 15;
const TRY_FOR: Duration = Duration::from_secs(90);

/// A handshake that we began.
struct Attempt {
    initiation: Initiation,
    bytes: [u8; INITIATION],
    label: Label,
    began: Moment,
    /// The last time: what the round trip is counted from.
    sent: Instant,
    /// The first time.
    sent_at: Moment,
    retry_at: Moment,
    /// A cookie came and was used at once; the next waits for the retry.
    cookie_used: bool,
}

/// Their initiation, proven, kept aside because ours wins.
struct Held {
    verified: Verified,
    label: Label,
    from: SocketAddr,
    until: Moment,
}

/// A handshake that we answered.
struct Answered {
    at: Moment,
    index: u32,
    /// Of our response: what a cookie for it is bound to.
    mac1: [u8; MAC],
    label: Label,
}

/// A key of theirs as one of ours sees it, and the cookie that its owner gave us.
struct Contact {
    label: Label,
    remote: Remote,
    cookie: Option<StoredCookie>,
}

/// The state of handshakes with one peer.
#[derive(Default)]
pub(crate) struct Shake {
    attempt: Option<Box<Attempt>>,
    held: Option<Box<Held>>,
    /// What we last answered, until that session is used.
    answered: Option<Box<Answered>>,
    contacts: Vec<Contact>,
    /// The greatest timestamp that came with each of their keys.
    stamps: Vec<(PublicKey, Timestamp)>,
}

impl Shake {
    /// When something is due. `wanted`: a session is needed.
    pub(crate) fn due(&self, wanted: bool) -> Option<Moment> {
        let answered = self.answered.as_ref().filter(|_| wanted && self.attempt.is_none());
        let times = [
            self.attempt.as_ref().map(|attempt| attempt.retry_at),
            self.held.as_ref().map(|held| held.until),
            answered.map(|answered| answered.at.after(CONFIRM)),
        ];
        times.into_iter().flatten().min()
    }

    /// Drops what belongs to keys that are gone.
    pub(crate) fn retain(&mut self, core: &mut Core, keep: impl Fn(Label) -> bool) {
        self.contacts.retain(|contact| keep(contact.label));
        if let Some(attempt) = self.attempt.take_if(|attempt| !keep(attempt.label)) {
            core.indices.release(attempt.initiation.index());
        }
        self.held.take_if(|held| !keep(held.label));
    }

    pub(crate) fn retain_stamps(&mut self, keep: impl Fn(&PublicKey) -> bool) {
        self.stamps.retain(|(key, _)| keep(key));
    }

    /// True if `index` is of our initiation that is under way.
    pub(crate) fn awaits(&self, index: u32) -> bool {
        self.attempt.as_ref().is_some_and(|attempt| attempt.initiation.index() == index)
    }

    /// There is somewhere else to try.
    pub(crate) fn hurry(&mut self, at: Moment) {
        if let Some(attempt) = &mut self.attempt {
            attempt.retry_at = at;
        }
    }

    /// True if nothing is under way that a wish for a session would have to wait for.
    pub(crate) fn quiet(&self) -> bool {
        self.attempt.is_none() && self.answered.is_none()
    }

    /// The label and mac1 of our handshake message with that index.
    fn sent(&self, index: u32) -> Option<(Label, [u8; MAC])> {
        let attempt = self.attempt.as_ref().filter(|a| a.initiation.index() == index);
        let answered = self.answered.as_ref().filter(|answered| answered.index == index);
        let attempt = attempt.map(|attempt| (attempt.label, *attempt.initiation.mac1()));
        attempt.or(answered.map(|answered| (answered.label, answered.mac1)))
    }

    /// The peer's key as ours sees it; made when it is first needed.
    pub(crate) fn remote(
        &mut self,
        identity: &Identity,
        label: Label,
        key: PublicKey,
    ) -> Result<&Remote, Discard> {
        self.contact(identity, label, key).map(|contact| &contact.remote)
    }

    fn contact(
        &mut self,
        identity: &Identity,
        label: Label,
        key: PublicKey,
    ) -> Result<&mut Contact, Discard> {
        let known = self.contacts.iter().position(|contact| contact.label == label);
        let place = match known {
            Some(place) => place,
            None => {
                let remote = Remote::new(identity, key)?;
                // Nearly always there is one, and a vector would make room for four.
                self.contacts.reserve_exact(1);
                self.contacts.push(Contact { label, remote, cookie: None });
                self.contacts.len() - 1
            }
        };
        Ok(&mut self.contacts[place])
    }

    /// True if `stamp` is newer than all before with that key; it is the newest then.
    fn renews(&mut self, key: PublicKey, stamp: Timestamp) -> bool {
        match self.stamps.iter_mut().find(|(known, _)| *known == key) {
            Some((_, newest)) if stamp <= *newest => return false,
            Some((_, newest)) => *newest = stamp,
            None => {
                self.stamps.reserve_exact(1);
                self.stamps.push((key, stamp));
            }
        }
        true
    }

    /// True if neither end began a handshake lately.
    fn idle(&self, at: Moment) -> bool {
        let recent = |then: Moment| at.since(then) < RETRY;
        !self.answered.as_ref().is_some_and(|answered| recent(answered.at))
            && !self.attempt.as_ref().is_some_and(|attempt| recent(attempt.sent_at))
    }
}

impl Peer {
    /// Begins a handshake unless one is under way in either direction.
    pub(crate) fn initiate<O: Outbox>(&mut self, io: &mut Io<'_, O>) {
        let answered = self.shake.answered.as_ref();
        let answering = answered.is_some_and(|answered| io.at.since(answered.at) < CONFIRM);
        if self.shake.attempt.is_none()
            && !answering
            && let Some(to) = self.path.endpoint()
        {
            self.begin(to, (io.at, false), io);
        }
    }

    /// Sends the next initiation now, where one is under way or none was needed yet.
    pub(crate) fn hurry<O: Outbox>(&mut self, io: &mut Io<'_, O>) {
        if self.chain.current().is_none() {
            self.shake.hurry(io.at);
            self.retry(io);
            self.initiate(io);
        }
    }

    /// Calls once more when it is time, or gives up.
    pub(crate) fn retry<O: Outbox>(&mut self, io: &mut Io<'_, O>) {
        let due = |attempt: &mut Box<Attempt>| attempt.retry_at <= io.at;
        let Some(attempt) = self.shake.attempt.take_if(due) else {
            return;
        };
        let age = io.at.since(attempt.sent_at);
        let paid = age >= RETRY || io.core.calls.take(io.now);
        if !paid || age < SOON {
            self.repeat(attempt, paid, io);
            return;
        }
        io.core.indices.release(attempt.initiation.index());
        self.try_another_key();
        self.seek.doubt();
        match self.path.endpoint() {
            Some(to) if io.at.since(attempt.began) < TRY_FOR => {
                self.begin(to, (attempt.began, attempt.cookie_used), io);
            }
            Some(_) | None => self.gave_up(io),
        }
    }

    /// Sends the same again if that is `paid` for, to wherever the peer may be by now.
    fn repeat<O: Outbox>(&mut self, mut attempt: Box<Attempt>, paid: bool, io: &mut Io<'_, O>) {
        if let Some(to) = self.path.endpoint().filter(|_| paid) {
            attempt.sent = io.now;
            self.call(to, &attempt.bytes, io);
        }
        attempt.retry_at = self.next_call(io);
        self.shake.attempt = Some(attempt);
    }

    fn call<O: Outbox>(&self, to: SocketAddr, initiation: &[u8], io: &mut Io<'_, O>) {
        self.path.last_sent.set(io.at);
        io.out.send(to, initiation);
        let elsewhere = self.config.places().filter(|place| self.seek.is_on() && *place != to);
        elsewhere.for_each(|place| io.out.send(place, initiation));
    }

    fn next_call<O>(&mut self, io: &mut Io<'_, O>) -> Moment {
        let patience = self.seek.patience(self.is_wanted(), RETRY);
        let jitter = patience.mul_f64(f64::from(io.core.random_number()) / f64::from(u32::MAX));
        io.at.after(patience + jitter / JITTER)
    }

    /// Sends an initiation, of an attempt that began then and used a cookie or not.
    fn begin<O: Outbox>(
        &mut self,
        to: SocketAddr,
        (began, cookie_used): (Moment, bool),
        io: &mut Io<'_, O>,
    ) {
        let Some(label) = self.label(io.core) else {
            return;
        };
        let (Some(key), Some(index)) =
            (self.key_of(label.theirs), io.core.index(slot(self.path.id)))
        else {
            return;
        };
        let retry_at = self.next_call(io);
        let core = &mut *io.core;
        let identity = core.keyring.get(label.ours);
        let contact = identity.map(|identity| self.shake.contact(identity, label, key));
        let (Some(identity), Some(Ok(contact))) = (identity, contact) else {
            core.indices.release(index);
            return;
        };
        let ends = Ends { identity, remote: &contact.remote, preshared: None };
        let cookie = contact.cookie.as_ref().and_then(|cookie| cookie.get(io.now));
        let mut out = [0; INITIATION];
        let stamp = core.clock.next(io.now);
        let ours = Ours { index, cookie };
        let initiation = initiate(&ends, &ours, stamp, &mut *core.random, &mut out);
        self.shake.attempt = Some(Box::new(Attempt {
            initiation,
            bytes: out,
            label,
            began,
            sent: io.now,
            sent_at: io.at,
            retry_at,
            cookie_used,
        }));
        self.call(to, &out, io);
    }

    /// Takes an initiation that is proven to be of `key`, made for our key in `label`.
    pub(crate) fn hear_initiation<O: Outbox>(
        &mut self,
        verified: Verified,
        (label, key): (Label, PublicKey),
        from: SocketAddr,
        io: &mut Io<'_, O>,
    ) -> Result<(), Discard> {
        if !self.shake.renews(key, verified.timestamp()) {
            self.help_a_late_clock(from, io);
            return Err(Discard::StaleHandshake);
        }
        if self.wins(&key, io) {
            let until = self.shake.held.as_ref().map_or(io.at.after(HOLD), |held| held.until);
            if self.shake.held.replace(Box::new(Held { verified, label, from, until })).is_some() {
                return Err(Discard::SimultaneousHandshake);
            }
            return Ok(());
        }
        self.answer(verified, label, from, io)
    }

    /// Answers an initiation that was kept aside for long enough.
    pub(crate) fn release<O: Outbox>(&mut self, io: &mut Io<'_, O>) {
        let held = self.shake.held.take_if(|held| held.until <= io.at);
        if let Some(held) = held
            && let Err(discard) = self.answer(held.verified, held.label, held.from, io)
        {
            io.core.count(discard);
        }
    }

    /// Takes the response to our initiation.
    pub(crate) fn hear_response<O: Outbox>(
        &mut self,
        response: ResponseMessage<'_>,
        from: SocketAddr,
        scratch: &mut [u8],
        io: &mut Io<'_, O>,
    ) -> Result<(), Discard> {
        let attempt = self.shake.attempt.take().ok_or(Discard::UnexpectedHandshake)?;
        let finished = self.finish(&attempt, response, io.core);
        let keys = match finished {
            Ok(keys) => keys,
            Err(discard) => {
                self.shake.attempt = Some(attempt);
                return Err(discard);
            }
        };
        let session = self.session(keys, attempt.label, true, io);
        let displaced = self.chain.completed(session);
        io.core.bury(displaced);
        if self.shake.held.take().is_some() {
            io.core.count(Discard::SimultaneousHandshake);
        }
        self.shake.answered = None;
        self.rtt = Some(io.now.saturating_duration_since(attempt.sent));
        self.find_unless_there(from, io.at);
        let sought = self.seek.is_on() && self.config.places().any(|place| place == from);
        if (sought || self.path.endpoint().is_none()) && self.path.follow(from) {
            self.tell_endpoint(io);
        }
        self.established(true, scratch, io);
        Ok(())
    }

    /// Takes a cookie for a handshake message of ours. Once an attempt it is used at once, not
    /// after the five seconds of a retry.
    pub(crate) fn hear_cookie<O: Outbox>(
        &mut self,
        message: CookieMessage<'_>,
        from: SocketAddr,
        io: &mut Io<'_, O>,
    ) -> Result<(), Discard> {
        let sent = self.shake.sent(message.receiver());
        let (label, mac1) = sent.ok_or(Discard::UnexpectedHandshake)?;
        let contact = self.shake.contacts.iter_mut().find(|contact| contact.label == label);
        let contact = contact.ok_or(Discard::UnexpectedHandshake)?;
        let cookie = contact.remote.door().open(message, &mac1)?;
        contact.cookie = Some(StoredCookie::new(cookie, io.now));
        let ours = |attempt: &mut Box<Attempt>| {
            attempt.initiation.index() == message.receiver() && !attempt.cookie_used
        };
        if let Some(attempt) = self.shake.attempt.take_if(ours) {
            io.core.indices.release(attempt.initiation.index());
            let to = self.path.endpoint().unwrap_or(from);
            self.begin(to, (attempt.began, true), io);
        }
        Ok(())
    }

    /// Moves on to a session that we answered, if data came on it.
    pub(crate) fn confirmed<O: Outbox>(&mut self, scratch: &mut [u8], io: &mut Io<'_, O>) {
        let (confirmed, displaced) = self.chain.confirm();
        io.core.bury([displaced]);
        if confirmed {
            self.shake.answered = None;
            self.established(false, scratch, io);
        }
    }

    fn answer<O: Outbox>(
        &mut self,
        verified: Verified,
        label: Label,
        from: SocketAddr,
        io: &mut Io<'_, O>,
    ) -> Result<(), Discard> {
        let key = self.key_of(label.theirs).ok_or(Discard::UnknownPeer)?;
        let index = io.core.index(slot(self.path.id)).ok_or(Discard::HandshakeLimit)?;
        let mut out = [0; RESPONSE];
        let keys = self.respond(verified, (label, key), (index, &mut out), io);
        let keys = keys.inspect_err(|_| io.core.indices.release(index))?;
        let session = self.session(keys, label, false, io);
        // What the peer uses already is not lost to one that it may never use.
        let (_, confirmed) = self.chain.confirm();
        let displaced = self.chain.answered(session);
        io.core.bury([confirmed, displaced]);
        self.publish();
        if let Some(attempt) = self.shake.attempt.take() {
            io.core.indices.release(attempt.initiation.index());
        }
        self.find_unless_there(from, io.at);
        let mac1 = Maced::parse(&out).map(|message| message.mac1()).unwrap_or_default();
        self.shake.answered = Some(Box::new(Answered { at: io.at, index, mac1, label }));
        self.path.last_sent.set(io.at);
        io.out.send(from, &out);
        Ok(())
    }

    fn respond<O>(
        &mut self,
        verified: Verified,
        (label, key): (Label, PublicKey),
        (index, out): (u32, &mut [u8; RESPONSE]),
        io: &mut Io<'_, O>,
    ) -> Result<Keys, Discard> {
        let core = &mut *io.core;
        let identity = core.keyring.get(label.ours).ok_or(Discard::BadMac)?;
        let contact = self.shake.contact(identity, label, key)?;
        let preshared = self.config.preshared_key.as_ref();
        let ends = Ends { identity, remote: &contact.remote, preshared };
        let cookie = contact.cookie.as_ref().and_then(|cookie| cookie.get(io.now));
        Ok(verified.answer(&ends, &Ours { index, cookie }, &mut *core.random, out))
    }

    fn finish(
        &self,
        attempt: &Attempt,
        response: ResponseMessage<'_>,
        core: &Core,
    ) -> Result<Keys, Discard> {
        let contact = self.shake.contacts.iter().find(|contact| contact.label == attempt.label);
        let identity = core.keyring.get(attempt.label.ours);
        let (Some(contact), Some(identity)) = (contact, identity) else {
            return Err(Discard::UnexpectedHandshake);
        };
        let preshared = self.config.preshared_key.as_ref();
        let ends = Ends { identity, remote: &contact.remote, preshared };
        attempt.initiation.finish(&ends, response)
    }

    /// Makes a session of a handshake's keys, open for what the peer sends.
    fn session<O>(&self, keys: Keys, label: Label, began: bool, io: &mut Io<'_, O>) -> Session {
        let span = Span::new(io.at, began);
        let Keys { send, receive, ours, theirs } = keys;
        let path = Arc::clone(&self.path);
        let receive = ReceiveKey::new(receive, ours, path, Window::default(), span);
        receive.unconfirmed.store(!began, Ordering::Release);
        let receive = Arc::new(receive);
        io.core.paths.receivers.put(ours, Some(Arc::clone(&receive)));
        Session { label, receive, send: Some(Arc::new(SendKey::new(send, theirs, 0, span))) }
    }

    /// True if our own initiation is under way and wins against one by `theirs`.
    fn wins<O>(&self, theirs: &PublicKey, io: &Io<'_, O>) -> bool {
        self.shake.attempt.as_ref().is_some_and(|attempt| {
            let ours = io.core.keyring.get(attempt.label.ours).map(Identity::public);
            io.at.since(attempt.sent_at) < RETRY && ours.is_some_and(|ours| ours < *theirs)
        })
    }

    /// A node whose clock went back (no battery, no network yet) cannot begin a handshake: its
    /// timestamps look like replays. It can answer one, though, so we begin. A replay can make us
    /// do so too, at most once in five seconds and only while the peer is silent.
    fn help_a_late_clock<O: Outbox>(&mut self, from: SocketAddr, io: &mut Io<'_, O>) {
        let heard = self.path.last_received.get().happened();
        let silent = heard.is_none_or(|heard| io.at.since(heard) >= RETRY);
        if silent && self.shake.attempt.is_none() && self.shake.idle(io.at) {
            self.begin(self.path.endpoint().unwrap_or(from), (io.at, false), io);
        }
    }
}
