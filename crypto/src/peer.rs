//! A peer as the control half sees it: what it may, what waits for it, what is due.
//!
//! Its hot half is a [`PeerPath`], which workers use meanwhile; its handshakes are in
//! [`crate::shake`].

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use keys::{KeyEpoch, PublicKey};

use crate::{
    Discard, Event, HEADER, Outbox, PeerConfig, PeerStatus, TAG,
    chain::{Chain, Label},
    core::{Core, Io},
    moment::Moment,
    path::{PeerPath, asks},
    relay,
    seek::Seek,
    session::padded,
    shake::Shake,
    slots::slot,
    source::forwards,
    timers::{Due, Wheel},
};

/// Packets that wait for a handshake, at most (the Linux kernel's figure).
const QUEUE: usize = 128;
/// The WireGuard paper, section 6.5: a keepalive answers data after so long ...
const KEEPALIVE: Duration = Duration::from_secs(10);
/// ... and who heard nothing for so long begins a handshake (that and Rekey-Timeout).
const UNANSWERED: Duration = Duration::from_secs(15);

/// So long after its last word a peer with a session is still where it was: two keepalives were lost.
const HEARD: Duration = Duration::from_secs(60);

/// What could not be done at once is tried again after so long.
const LATER: Duration = Duration::from_secs(1);
/// How long a session with other keys than wanted is let be, if nobody asked for another: as long
/// as the ends disagree about which keys to use, each renews what the other just made.
const AGAIN: Duration = Duration::from_secs(10);

pub(crate) struct Peer {
    pub(crate) config: PeerConfig,
    pub(crate) path: Arc<PeerPath>,
    pub(crate) chain: Chain,
    pub(crate) shake: Shake,
    pub(crate) seek: Seek,
    queue: VecDeque<Vec<u8>>,
    pub(crate) last_handshake: Option<Instant>,
    pub(crate) rtt: Option<Duration>,
    /// The endpoint that was last told of.
    endpoint: Option<SocketAddr>,
    /// Our epoch in the session that was last used, and how often it was tried in vain since.
    shown: Option<KeyEpoch>,
    tried: u8,
    /// A session with other keys is wanted from then on.
    pub(crate) rekey_at: Moment,
    /// While it is reached by a relay: when to call it where it may be itself.
    pub(crate) call_at: Moment,
    /// When to look for an answer, and when to give one.
    look_at: Moment,
    answer_at: Moment,
    ticked: Moment,
    /// The entry in the wheel that counts.
    scheduled: Option<Due>,
}

impl Peer {
    pub(crate) fn new(id: u32, config: PeerConfig, core: &mut Core) -> Self {
        core.paths.endpoints.moved(None, config.endpoint);
        let path = PeerPath::new((id, relay::id(&config.name)), config.endpoint);
        path.forwards.store(forwards(&config.forwards).map(Arc::new));
        Self {
            path: Arc::new(path),
            endpoint: config.endpoint,
            chain: Chain::default(),
            shake: Shake::default(),
            seek: Seek::new(config.follows),
            config,
            queue: VecDeque::new(),
            last_handshake: None,
            rtt: None,
            shown: None,
            tried: 0,
            rekey_at: Moment::NEVER,
            call_at: Moment::NEVER,
            look_at: Moment::NEVER,
            answer_at: Moment::NEVER,
            ticked: Moment::NEVER,
            scheduled: None,
        }
    }

    /// Takes a new configuration. What was learned about the endpoint stays unless the configured
    /// one changed; sessions stay unless their key is gone. A new preshared key counts from the
    /// next handshake on.
    pub(crate) fn reconfigure(&mut self, config: PeerConfig, core: &mut Core, at: Moment) {
        let heard = self.is_heard(at);
        if let Some(to) = config.moves(&self.config, self.path.learned(), heard) {
            core.paths.endpoints.moved(self.endpoint, Some(to));
            self.path.endpoint.store(Some(Arc::new(to)));
            self.endpoint = Some(to);
        }
        let before = std::mem::replace(&mut self.config, config);
        if self.config.places().any(|place| !before.places().any(|known| known == place)) {
            self.has_new_places(at);
        }
        if before.forwards != self.config.forwards {
            self.path.forwards.store(forwards(&self.config.forwards).map(Arc::new));
        }
        if before.keys != self.config.keys || before.send_to != self.config.send_to {
            let mut keys = self.config.keys.clone();
            self.shake.retain_stamps(|key| keys.iter().any(|(_, listed)| listed == key));
            keys.retain(|key| before.keys.contains(key));
            self.retain(core, |label| keys.iter().any(|(epoch, _)| *epoch == label.theirs));
            self.wish_for_rekey(core, at);
        }
    }

    /// True if packets wait for one of ours to answer.
    pub(crate) fn is_wanted(&self) -> bool {
        let unanswered = self.path.unanswered.get().happened().is_some();
        self.config.follows && (unanswered || !self.queue.is_empty())
    }

    /// True if it spoke lately, so that it is where it was learned to be.
    fn is_heard(&self, at: Moment) -> bool {
        let last = self.path.last_received.get().happened();
        self.chain.current().is_some() && last.is_some_and(|last| at.since(last) < HEARD)
    }

    /// Drops what belongs to keys that are gone.
    pub(crate) fn retain(&mut self, core: &mut Core, keep: impl Fn(Label) -> bool) {
        let gone = self.chain.remove(|session| !keep(session.label));
        core.bury(gone);
        self.shake.retain(core, keep);
        self.publish();
    }

    /// Asks for a session with the keys that are to be used now, if this one has others.
    pub(crate) fn wish_for_rekey(&mut self, core: &Core, at: Moment) {
        let wanted = self.label(core);
        let current = self.chain.current().map(|session| session.label);
        if current.is_some() && wanted.is_some() && current != wanted {
            self.rekey_at = at;
        }
    }

    /// True if a new session is wanted now.
    pub(crate) fn wishes(&self, at: Moment) -> bool {
        self.rekey_at.happened().is_some_and(|rekey_at| rekey_at <= at)
    }

    /// The keys that a handshake of ours is begun with.
    pub(crate) fn label(&self, core: &Core) -> Option<Label> {
        let ours = self.our_epoch(core)?;
        let keys = &self.config.keys;
        let listed = |epoch: &KeyEpoch| keys.iter().any(|(listed, _)| listed == epoch);
        let theirs = self.config.send_to.filter(listed).or(keys.last().map(|(epoch, _)| *epoch))?;
        Some(Label { ours, theirs })
    }

    /// Who does not follow our rotations is called with the key that it knows.
    fn our_epoch(&self, core: &Core) -> Option<KeyEpoch> {
        let all = core.keyring.all();
        if self.config.follows || all.len() < 2 {
            return Some(core.keyring.sending()?.epoch());
        }
        let shown = all.iter().position(|identity| Some(identity.epoch()) == self.shown);
        Some(all[(shown.unwrap_or_default() + usize::from(self.tried)) % all.len()].epoch())
    }

    /// Nobody answered: perhaps it knows another of our keys.
    pub(crate) fn try_another_key(&mut self) {
        self.tried = self.tried.wrapping_add(1);
    }

    pub(crate) fn key_of(&self, epoch: KeyEpoch) -> Option<PublicKey> {
        key_of(&self.config, epoch)
    }

    pub(crate) fn epoch_of(&self, key: &PublicKey) -> Option<KeyEpoch> {
        self.config.keys.iter().find(|(_, listed)| listed == key).map(|(epoch, _)| *epoch)
    }

    /// Encrypts a packet, or keeps it for the session that it asks for.
    pub(crate) fn seal<O: Outbox>(
        &mut self,
        packet: &[u8],
        scratch: &mut [u8],
        io: &mut Io<'_, O>,
    ) -> Result<(), Discard> {
        if self.config.keys.is_empty() {
            return Err(Discard::NoKey);
        }
        if self.path.endpoint().is_none() {
            return Err(Discard::NoEndpoint);
        }
        if padded(packet.len()) + HEADER + TAG > scratch.len() {
            return Err(Discard::NotIp);
        }
        if !self.send(packet, scratch, io) {
            self.wait(packet, io.core);
            self.initiate(io);
        }
        Ok(())
    }

    /// Does what workers asked for.
    pub(crate) fn attend<O: Outbox>(&mut self, scratch: &mut [u8], io: &mut Io<'_, O>) {
        if self.path.take_asked(asks::MOVED) != 0 {
            self.tell_endpoint(io);
            self.answer_call(scratch, io);
        }
        if self.path.take_asked(asks::DETOUR) != 0 {
            self.find(io.at);
        }
        if self.path.take_asked(asks::CONFIRMED) != 0 {
            self.confirmed(scratch, io);
        }
        if self.path.asked(asks::SENT) && self.look_at == Moment::NEVER {
            self.look_at = io.at.after(UNANSWERED);
        }
        if self.path.asked(asks::RECEIVED) && self.answer_at == Moment::NEVER {
            self.answer_at = io.at.after(KEEPALIVE);
        }
        if self.path.asked(asks::REKEY) {
            self.initiate(io);
        }
    }

    /// Does what is due.
    pub(crate) fn tick<O: Outbox>(&mut self, scratch: &mut [u8], io: &mut Io<'_, O>) {
        let ended = self.chain.expire(io.at);
        io.core.bury(ended);
        self.publish();
        self.release(io);
        self.retry(io);
        self.call_directly(scratch, io);
        self.look_for_an_answer(io);
        self.answer_data(scratch, io);
        self.keep_alive(scratch, io);
        let wished = self.wishes(io.at);
        if wished || !self.queue.is_empty() || self.path.asked(asks::REKEY) {
            self.initiate(io);
        }
        if wished && self.shake.quiet() {
            // Nowhere to send to, or no key: the next configuration asks again.
            self.rekey_at = Moment::NEVER;
        }
        self.ticked = io.at;
    }

    /// Puts the time of what is due next into the wheel.
    pub(crate) fn schedule(&mut self, core: &mut Core, at: Moment) {
        if self.rekey_at == Moment::NEVER {
            // A handshake that was under way before the keys changed may come last.
            self.wish_for_rekey(core, at.after(AGAIN));
        }
        let Some(next) = self.due() else {
            self.scheduled = None;
            return;
        };
        // What was due at the last tick and still is could not be helped.
        let due = Wheel::due(if next <= self.ticked { at.after(LATER) } else { next });
        if self.scheduled.is_none_or(|scheduled| due < scheduled) {
            self.scheduled = Some(due);
            core.wheel.insert(due, slot(self.path.id));
        }
    }

    /// True if this entry of the wheel is the one that counts; there is none then.
    pub(crate) fn is_due(&mut self, due: Due) -> bool {
        self.scheduled.take_if(|scheduled| *scheduled == due).is_some()
    }

    /// Begins the first handshake of a peer that shall always be connected, now or a bit later.
    /// True if there is one to begin.
    pub(crate) fn start(&mut self, at: Moment) -> bool {
        let begins = self.config.keepalive.is_some() && self.chain.current().is_none();
        if begins {
            self.rekey_at = at;
        }
        begins
    }

    /// Drops what waits, and counts it.
    pub(crate) fn forget_queue(&mut self, why: Discard, core: &Core) {
        for _ in self.queue.drain(..) {
            core.count(why);
        }
        self.queue.shrink_to_fit();
    }

    /// Ends everything.
    pub(crate) fn leave(mut self, core: &mut Core) {
        self.forget_queue(Discard::PeerRemoved, core);
        self.retain(core, |_| false);
        core.paths.endpoints.moved(self.endpoint, None);
    }

    pub(crate) fn status(&self, core: &Core) -> PeerStatus {
        let current = self.chain.current();
        let wanted = self.label(core).map(|label| label.theirs);
        let origin = core.paths.origin;
        PeerStatus {
            name: self.config.name.clone(),
            endpoint: self.path.direct(),
            epoch: current.map(|session| session.label.theirs).or(wanted),
            own_epoch: current.map(|session| session.label.ours),
            last_handshake: self.last_handshake,
            last_received: self.path.last_received.get().happened().map(|at| origin.instant(at)),
            rx_bytes: self.path.rx_bytes(),
            tx_bytes: self.path.tx_bytes(),
            rtt: self.rtt,
            established: current.is_some(),
            allowed: self.config.allowed.clone(),
        }
    }

    /// What workers seal with is what the chain says.
    pub(crate) fn publish(&mut self) {
        let current = self.chain.current().and_then(|session| session.send.clone());
        self.path.sending.store(current);
    }

    /// A session can be used: what waited goes first. Without anything that waits, `confirm` sends
    /// an empty message, so that the peer knows.
    pub(crate) fn established<O: Outbox>(
        &mut self,
        confirm: bool,
        scratch: &mut [u8],
        io: &mut Io<'_, O>,
    ) {
        self.publish();
        self.shown = self.chain.current().map(|session| session.label.ours);
        self.tried = 0;
        self.path.take_asked(asks::REKEY);
        self.wished(io);
        self.last_handshake = Some(io.now);
        self.path.last_received.set(io.at);
        if !self.path.asked(asks::FIND) {
            self.seek.end();
        }
        io.out.event(Event::HandshakeComplete { peer: &self.config.name });
        if self.queue.is_empty() && confirm {
            self.send(&[], scratch, io);
        }
        while let Some(packet) = self.queue.pop_front() {
            if !self.send(&packet, scratch, io) {
                self.queue.push_front(packet);
                return;
            }
        }
        self.queue.shrink_to_fit();
    }

    /// There is a new session: is it the one that was wished for? If theirs came first, ours
    /// follows.
    fn wished<O>(&mut self, io: &Io<'_, O>) {
        if self.rekey_at != Moment::NEVER {
            self.rekey_at = Moment::NEVER;
            self.wish_for_rekey(io.core, io.at.after(LATER));
        }
    }

    /// There is a session of an earlier process, with the peer there; to be renewed or not.
    pub(crate) fn restored(
        &mut self,
        endpoint: Option<SocketAddr>,
        renew: bool,
        core: &mut Core,
        at: Moment,
    ) {
        self.publish();
        if endpoint.is_some() {
            core.paths.endpoints.moved(self.endpoint, endpoint);
            self.path.endpoint.store(endpoint.map(Arc::new));
            self.endpoint = endpoint;
        }
        if renew {
            self.rekey_at = at;
        }
    }

    /// The peer did not answer for as long as one tries.
    pub(crate) fn gave_up<O: Outbox>(&mut self, io: &mut Io<'_, O>) {
        self.forget_queue(Discard::HandshakeTimeout, io.core);
        self.path.take_asked(asks::REKEY);
        self.rekey_at = Moment::NEVER;
        self.path.unanswered.end();
        io.out.event(Event::HandshakeTimeout { peer: &self.config.name });
    }

    /// Seals on the current session; false if there is none that may.
    fn send<O: Outbox>(&self, packet: &[u8], scratch: &mut [u8], io: &mut Io<'_, O>) -> bool {
        self.send_to(None, packet, scratch, io)
    }

    /// The same to some place; none: where it is sent to.
    pub(crate) fn send_to<O: Outbox>(
        &self,
        place: Option<SocketAddr>,
        packet: &[u8],
        scratch: &mut [u8],
        io: &mut Io<'_, O>,
    ) -> bool {
        let data = !packet.is_empty();
        let path = Arc::clone(&self.path);
        let Some(mut train) = io.core.paths.depart(path, 1, data, io.at) else {
            return false;
        };
        scratch[HEADER..][..packet.len()].copy_from_slice(packet);
        let length = train.seal(scratch, packet.len());
        io.out.send(place.unwrap_or(train.endpoint()), &scratch[..length]);
        true
    }

    fn wait(&mut self, packet: &[u8], core: &Core) {
        if self.queue.len() == QUEUE {
            self.queue.pop_front();
            core.count(Discard::QueueFull);
        }
        self.queue.push_back(packet.to_vec());
    }

    pub(crate) fn tell_endpoint<O: Outbox>(&mut self, io: &mut Io<'_, O>) {
        let to = self.path.learned();
        if let Some(address) = to.filter(|_| to != self.endpoint) {
            let event = Event::EndpointChanged {
                peer: &self.config.name,
                from: self.endpoint,
                to: address,
            };
            io.out.event(event);
            io.core.paths.endpoints.moved(self.endpoint, to);
            self.endpoint = to;
        }
    }

    /// Data went out: did anything come back? If not, the session may be dead at the other end.
    fn look_for_an_answer<O: Outbox>(&mut self, io: &mut Io<'_, O>) {
        if self.look_at.happened().is_none_or(|look_at| look_at > io.at) {
            return;
        }
        let since = self.path.unanswered.get().happened();
        let (again, silent) = judge(since, self.path.last_sent.get(), UNANSWERED, io.at);
        self.look_at = again;
        if silent {
            self.path.unanswered.end();
            self.seek.doubt();
            self.initiate(io);
        }
        if again == Moment::NEVER {
            self.path.take_asked(asks::SENT);
            if self.path.unanswered.get() != Moment::NEVER {
                self.path.ask(asks::SENT);
                self.look_at = io.at.after(UNANSWERED);
            }
        }
    }

    /// Data came in: did anything go back? If not, an empty message says that we are here.
    fn answer_data<O: Outbox>(&mut self, scratch: &mut [u8], io: &mut Io<'_, O>) {
        if self.answer_at.happened().is_none_or(|answer_at| answer_at > io.at) {
            return;
        }
        let since = self.path.unacknowledged.get().happened();
        let (again, owed) = judge(since, self.path.last_received.get(), KEEPALIVE, io.at);
        self.answer_at = again;
        if owed {
            self.path.unacknowledged.end();
            self.send(&[], scratch, io);
        }
        if again == Moment::NEVER {
            self.path.take_asked(asks::RECEIVED);
            if self.path.unacknowledged.get() != Moment::NEVER {
                self.path.ask(asks::RECEIVED);
                self.answer_at = io.at.after(KEEPALIVE);
            }
        }
    }

    /// Shows the peer where we are, if there is a session to say it with.
    pub(crate) fn announce<O: Outbox>(&mut self, scratch: &mut [u8], io: &mut Io<'_, O>) {
        if self.chain.current().is_some() {
            self.send(&[], scratch, io);
        }
    }

    fn keep_alive<O: Outbox>(&mut self, scratch: &mut [u8], io: &mut Io<'_, O>) {
        if self.keepalive_at().is_none_or(|due| due > io.at) {
            return;
        }
        if !self.send(&[], scratch, io) {
            self.initiate(io);
            // Tried is as good as sent: not again before the next interval.
            self.path.last_sent.set(io.at);
        }
    }

    /// When the next message must have been sent to a peer that shall always be connected.
    fn keepalive_at(&self) -> Option<Moment> {
        let every = self.config.keepalive?;
        self.path.endpoint()?;
        // Before anything was sent, [`Peer::start`] says when.
        Some(self.path.last_sent.get().happened()?.after(every))
    }

    fn due(&self) -> Option<Moment> {
        let waits = !self.queue.is_empty() || self.path.asked(asks::REKEY);
        let times = [
            self.chain.ends(),
            self.shake.due(waits || self.rekey_at != Moment::NEVER),
            self.look_at.happened(),
            self.answer_at.happened(),
            self.keepalive_at(),
            self.rekey_at.happened(),
            self.call_at.happened(),
        ];
        times.into_iter().flatten().min()
    }
}

/// Looks at something that began at `since` and is over when nothing of it is left: when to look
/// again (never: nothing goes on), and whether it took too long.
fn judge(since: Option<Moment>, last: Moment, limit: Duration, at: Moment) -> (Moment, bool) {
    match since {
        Some(since) if at >= since.after(limit) => (at.after(limit), true),
        Some(since) => (since.after(limit), false),
        None if at.since(last) < limit => (at.after(limit), false),
        None => (Moment::NEVER, false),
    }
}

fn key_of(config: &PeerConfig, epoch: KeyEpoch) -> Option<PublicKey> {
    config.keys.iter().find(|(listed, _)| *listed == epoch).map(|(_, key)| *key)
}
