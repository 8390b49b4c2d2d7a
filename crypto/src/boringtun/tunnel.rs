//! One key of a peer and the handshake with it: who began, who answered, what is waited for.
//!
//! ```text
//!            initiate                    response
//!   quiet ─────────────▶ attempt ─────────────────────▶ ready
//!     │                    │ their initiation, ours wins: kept aside for HOLD, then answered
//!     │ their initiation   │ their initiation, theirs wins: answered, ours forgotten
//!     └─────────────▶ answered ── first packet on it ──▶ ready
//! ```
//!
//! When both ends begin at once, the smaller public key wins, so that one session comes of it.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use keys::{KeyEpoch, PublicKey};

use super::engine::{Due, Engine, INITIATION, Message, OVERHEAD, Opened};
use crate::Discard;

/// How long the loser's initiation is kept aside for the winner's to be answered.
const HOLD: Duration = Duration::from_millis(500);
/// How long a session that we answered may take to be confirmed before we begin one ourselves.
const CONFIRM: Duration = Duration::from_secs(1);
/// WireGuard, section 6.1: Rekey-Timeout and Rekey-Attempt-Time.
const RETRY: Duration = Duration::from_secs(5);
const TRY_FOR: Duration = Duration::from_secs(90);
/// Rekey-After-Messages and Reject-After-Messages. boringtun has neither.
const REKEY_AFTER: u64 = 1 << 60;
const REJECT_AFTER: u64 = u64::MAX - (1 << 13);

/// A handshake that we began.
#[derive(Debug, Clone, Copy)]
struct Attempt {
    began: Instant,
    sent: Instant,
    index: u32,
    /// A cookie came and was used at once; the next waits for the retry.
    cookie_used: bool,
}

/// A handshake that we answered and the peer has not used yet.
#[derive(Debug, Clone, Copy)]
struct Answered {
    at: Instant,
    index: u32,
}

/// Their initiation, kept aside because ours wins.
struct Held {
    at: Instant,
    from: SocketAddr,
    datagram: [u8; INITIATION],
}

pub(crate) struct Tunnel {
    pub(crate) id: u32,
    pub(crate) epoch: KeyEpoch,
    pub(crate) key: PublicKey,
    engine: Engine,
    /// Our key is smaller than theirs.
    wins: bool,
    ready: bool,
    attempt: Option<Attempt>,
    answered: Option<Answered>,
    held: Option<Held>,
}

/// What came of a message, with what the peer must know about it.
pub(crate) enum Heard<'a> {
    /// Send this back to where the message came from.
    Answer(&'a [u8]),
    /// Send this first message of the new session, which took so long to agree on.
    Complete(&'a [u8], Duration),
    /// A cookie: see [`Tunnel::use_cookie`].
    Cookie,
    /// Authentic; `first` if it confirms a session that we answered.
    Data {
        packet: Option<&'a [u8]>,
        first: bool,
    },
    Nothing,
}

/// What a tunnel does by itself.
pub(crate) enum Doing<'a> {
    Nothing,
    Send(&'a [u8]),
    /// See [`Tunnel::begin_again`].
    GaveUp,
}

impl Tunnel {
    pub(crate) fn new(
        engine: Engine,
        id: u32,
        (epoch, key): (KeyEpoch, PublicKey),
        wins: bool,
    ) -> Self {
        Self {
            id,
            epoch,
            key,
            engine,
            wins,
            ready: false,
            attempt: None,
            answered: None,
            held: None,
        }
    }

    /// Begins from nothing with another engine.
    pub(crate) fn renew(&mut self, engine: Engine) {
        *self = Self::new(engine, self.id, (self.epoch, self.key), self.wins);
    }

    /// True while a packet can be sealed at once.
    pub(crate) fn ready(&self) -> bool {
        self.ready
    }

    /// Seals one packet; the second value asks for a new session.
    pub(crate) fn seal<'a>(
        &mut self,
        packet: &[u8],
        scratch: &'a mut [u8],
    ) -> Result<(&'a [u8], bool), Discard> {
        if packet.len() + OVERHEAD > scratch.len() {
            return Err(Discard::NotIp);
        }
        let (datagram, counter) = self.engine.seal(packet, scratch).ok_or(Discard::NoSession)?;
        match wear(counter) {
            Wear::Fresh => Ok((datagram, false)),
            Wear::Old => Ok((datagram, self.attempt.is_none())),
            Wear::Out => Err(Discard::SessionExhausted),
        }
    }

    /// Begins a handshake unless one is under way in either direction.
    pub(crate) fn initiate<'a>(&mut self, scratch: &'a mut [u8], now: Instant) -> Option<&'a [u8]> {
        let answering = self
            .answered
            .is_some_and(|answered| now.saturating_duration_since(answered.at) < CONFIRM);
        if self.attempt.is_some() || answering {
            return None;
        }
        self.begin(scratch, now)
    }

    /// True if neither end began a handshake lately, nor completed one.
    pub(crate) fn idle(&self, now: Instant) -> bool {
        let recent = |at: Instant| now.saturating_duration_since(at) < RETRY;
        !self.attempt.is_some_and(|attempt| recent(attempt.sent))
            && !self.answered.is_some_and(|answered| recent(answered.at))
    }

    /// True while this receiver index answers our current initiation.
    pub(crate) fn awaits(&self, index: u32) -> bool {
        self.attempt.is_some_and(|attempt| attempt.index == index)
    }

    /// Takes a message from `from`. An initiation that loses against ours is kept aside.
    pub(crate) fn hear<'a>(
        &mut self,
        (message, datagram): (Message, &[u8]),
        from: SocketAddr,
        scratch: &'a mut [u8],
        now: Instant,
    ) -> Result<Heard<'a>, Discard> {
        if message == Message::Initiation && self.hold(datagram, from, now) {
            return Ok(Heard::Nothing);
        }
        let opened = self.engine.open(message, datagram, scratch)?;
        match opened {
            Opened::Answer(answer) => {
                self.attempt = None;
                self.answered = Some(Answered { at: now, index: sender_index(answer) });
                Ok(Heard::Answer(answer))
            }
            Opened::Complete(first) => Ok(Heard::Complete(first, self.complete(now))),
            Opened::CookieStored => Ok(Heard::Cookie),
            Opened::Keepalive => Ok(Heard::Data { packet: None, first: self.confirm(message) }),
            Opened::Packet(packet) => {
                Ok(Heard::Data { packet: Some(packet), first: self.confirm(message) })
            }
        }
    }

    /// Answers an initiation that was kept aside for too long; says where to.
    pub(crate) fn release<'a>(
        &mut self,
        scratch: &'a mut [u8],
        now: Instant,
    ) -> Option<(SocketAddr, Result<&'a [u8], Discard>)> {
        let held = self.held.take_if(|held| now.saturating_duration_since(held.at) >= HOLD)?;
        let answer = match self.engine.open(Message::Initiation, &held.datagram, scratch) {
            Ok(Opened::Answer(answer)) => {
                self.attempt = None;
                self.answered = Some(Answered { at: now, index: sender_index(answer) });
                Ok(answer)
            }
            Ok(_) => Err(Discard::UnexpectedHandshake),
            Err(discard) => Err(discard),
        };
        Some((held.from, answer))
    }

    /// Lets the engine's timers run.
    pub(crate) fn tick<'a>(&mut self, scratch: &'a mut [u8], now: Instant) -> Doing<'a> {
        let due = self.engine.tick(scratch);
        self.ready = self.engine.ready();
        match due {
            Due::Nothing => Doing::Nothing,
            Due::Keepalive(datagram) => Doing::Send(datagram),
            Due::Initiation(datagram) => {
                self.note_initiation(datagram, now);
                Doing::Send(datagram)
            }
            Due::GaveUp if self.attempt.is_some() => Doing::GaveUp,
            Due::GaveUp => Doing::Nothing,
        }
    }

    /// After [`Doing::GaveUp`]: the engine also gives up a tunnel that was quiet for nine minutes,
    /// even if a handshake began a moment ago; then it begins again.
    pub(crate) fn begin_again<'a>(
        &mut self,
        scratch: &'a mut [u8],
        now: Instant,
    ) -> Option<&'a [u8]> {
        let attempt = self.attempt.take()?;
        let young = now.saturating_duration_since(attempt.began) + RETRY < TRY_FOR;
        if young { self.begin(scratch, now) } else { None }
    }

    /// After [`Heard::Cookie`]: boringtun waits five seconds before it uses a cookie; once an
    /// attempt there is no need to.
    pub(crate) fn use_cookie<'a>(
        &mut self,
        scratch: &'a mut [u8],
        now: Instant,
    ) -> Option<&'a [u8]> {
        let attempt = self.attempt.as_mut().filter(|attempt| !attempt.cookie_used)?;
        attempt.cookie_used = true;
        self.begin(scratch, now)
    }

    /// An initiation of theirs that was kept aside and is not needed any more.
    pub(crate) fn drop_held(&mut self) -> bool {
        self.held.take().is_some()
    }

    fn begin<'a>(&mut self, scratch: &'a mut [u8], now: Instant) -> Option<&'a [u8]> {
        let datagram = self.engine.initiate(scratch, true)?;
        self.note_initiation(datagram, now);
        Some(datagram)
    }

    fn note_initiation(&mut self, datagram: &[u8], now: Instant) {
        let began = self.attempt.map_or(now, |attempt| attempt.began);
        let cookie_used = self.attempt.is_some_and(|attempt| attempt.cookie_used);
        self.attempt =
            Some(Attempt { began, sent: now, index: sender_index(datagram), cookie_used });
    }

    /// Keeps their initiation aside if ours is on its way and wins. Only one: whoever wants to
    /// fill the place with forgeries gains nothing.
    fn hold(&mut self, datagram: &[u8], from: SocketAddr, now: Instant) -> bool {
        let ours = self.attempt.is_some_and(|a| now.saturating_duration_since(a.sent) < RETRY);
        if !(self.wins && ours) || self.held.is_some() {
            return false;
        }
        let Some(datagram) = datagram.first_chunk::<INITIATION>().copied() else {
            return false;
        };
        self.held = Some(Held { at: now, from, datagram });
        true
    }

    fn complete(&mut self, now: Instant) -> Duration {
        let attempt = self.attempt.take();
        self.answered = None;
        self.ready = self.engine.ready();
        attempt.map_or(Duration::ZERO, |attempt| now.saturating_duration_since(attempt.sent))
    }

    /// The first authentic message on a session that we answered.
    fn confirm(&mut self, message: Message) -> bool {
        let Message::Data { receiver } = message else {
            return false;
        };
        let first = self.answered.take_if(|answered| answered.index == receiver).is_some();
        if first || !self.ready {
            self.ready = self.engine.ready();
        }
        first
    }
}

/// How much of a session's messages are used up.
#[derive(Debug, PartialEq, Eq)]
enum Wear {
    Fresh,
    Old,
    Out,
}

fn wear(counter: u64) -> Wear {
    match counter {
        REJECT_AFTER.. => Wear::Out,
        REKEY_AFTER.. => Wear::Old,
        _ => Wear::Fresh,
    }
}

/// Bytes 4 to 8 of an initiation and of a response.
fn sender_index(datagram: &[u8]) -> u32 {
    let bytes = datagram.get(4..).and_then(|rest| rest.first_chunk::<4>());
    u32::from_le_bytes(bytes.copied().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_renewed_and_then_refused_before_its_counter_can_wrap() {
        assert_eq!(wear(0), Wear::Fresh);
        assert_eq!(wear((1 << 60) - 1), Wear::Fresh);
        assert_eq!(wear(1 << 60), Wear::Old);
        assert_eq!(wear(u64::MAX - (1 << 13) - 1), Wear::Old);
        assert_eq!(wear(u64::MAX - (1 << 13)), Wear::Out);
        assert_eq!(wear(u64::MAX), Wear::Out);
    }
}
