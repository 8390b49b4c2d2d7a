//! The doorman: decides about every handshake message before it costs anything.
//!
//! ```text
//!  a handshake message ── mac1 of one of our keys? ── no ─▶ drop (two hash blocks a key)
//!        │ yes
//!        ▼
//!  within the rates of its source? ── yes ─▶ answer
//!        │ no
//!        ▼
//!  mac2 by a cookie of ours? ── no ─▶ give a cookie, if there are any left in this second
//!        │ yes
//!        ▼
//!  proven source within its rate? ── yes ─▶ answer, no ─▶ drop
//! ```
//!
//! A source that is the present endpoint of a peer has a rate of its own, so a flood from forged
//! addresses does not keep members out. See [`crate::limiter`] for the figures.

use std::{net::SocketAddr, time::Instant};

use crate::{
    Discard, Random, cookie::Secrets, handshake::Identity, limiter::Limiter, message,
    message::Maced,
};

/// A datagram at the door.
#[derive(Clone, Copy)]
pub(crate) struct Arrival<'a> {
    pub(crate) datagram: &'a [u8],
    pub(crate) from: SocketAddr,
    /// `from` is where a peer is now.
    pub(crate) known: bool,
}

pub(crate) enum Verdict {
    /// Worth its cost; made for this one of our identities.
    Answer(usize),
    /// Send this cookie reply to the source (and count [`Discard::CookieDemanded`]).
    Demand([u8; message::COOKIE]),
    Drop(Discard),
}

pub(crate) struct Doorman {
    secrets: Secrets,
    limiter: Limiter,
}

impl Doorman {
    pub(crate) fn new(now: Instant) -> Self {
        Self { secrets: Secrets::new(), limiter: Limiter::new(now) }
    }

    /// Judges an initiation or a response. That a response answers something is the caller's to
    /// ask first.
    pub(crate) fn judge(
        &mut self,
        identities: &[Identity],
        arrival: Arrival<'_>,
        now: Instant,
        random: &mut dyn Random,
    ) -> Verdict {
        let Some(message) = Maced::parse(arrival.datagram) else {
            return Verdict::Drop(Discard::NotWireGuard);
        };
        let Some(place) = identities.iter().position(|ours| ours.door().opens_to(message)) else {
            return Verdict::Drop(Discard::BadMac);
        };
        if self.admits(arrival, now) {
            return Verdict::Answer(place);
        }
        if self.secrets.proves(message, arrival.from, now) {
            return if self.limiter.admit_proven(arrival.from.ip(), now) {
                Verdict::Answer(place)
            } else {
                Verdict::Drop(Discard::HandshakeLimit)
            };
        }
        if !self.limiter.admit_cookie(now) {
            return Verdict::Drop(Discard::CookieLimit);
        }
        let cookie = self.secrets.cookie(arrival.from, now, random);
        Verdict::Demand(identities[place].door().reply(message, &cookie, random))
    }

    fn admits(&mut self, arrival: Arrival<'_>, now: Instant) -> bool {
        if arrival.known {
            self.limiter.admit_known(arrival.from, now)
        } else {
            self.limiter.admit(arrival.from.ip(), now)
        }
    }
}

#[cfg(test)]
mod tests;
