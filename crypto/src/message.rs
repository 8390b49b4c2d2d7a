//! The four messages on the wire (WireGuard paper, section 5.4): read as views, written in place.
//!
//! ```text
//!  1 initiation  type 1, 000 | sender 4 | ephemeral 32 | static 32+16 | timestamp 12+16 | mac1 16 | mac2 16
//!  2 response    type 1, 000 | sender 4 | receiver 4 | ephemeral 32 | nothing 0+16 | mac1 16 | mac2 16
//!  3 cookie      type 1, 000 | receiver 4 | nonce 24 | cookie 16+16
//!  4 data        type 1, 000 | receiver 4 | counter 8 | packet n+16
//! ```
//!
//! Numbers are little endian. A message is parsed once; the type then carries the proof that every
//! field is there.

use std::ops::Range;

use crate::Discard;

pub(crate) const INITIATION: usize = 148;
pub(crate) const RESPONSE: usize = 92;
pub(crate) const COOKIE: usize = 64;
/// What stands before the packet in a data message.
pub(crate) const DATA_HEADER: usize = 16;
/// The shortest data message: a keepalive.
pub(crate) const DATA: usize = DATA_HEADER + 16;

/// A handshake message ends with both MACs.
pub(crate) const MAC: usize = 16;

/// Where the fields of an initiation lie.
pub(crate) mod initiation {
    use super::Range;
    pub(crate) const SENDER: usize = 4;
    pub(crate) const EPHEMERAL: Range<usize> = 8..40;
    pub(crate) const STATIC: Range<usize> = 40..88;
    pub(crate) const TIMESTAMP: Range<usize> = 88..116;
}

/// Where the fields of a response lie.
pub(crate) mod response {
    use super::Range;
    pub(crate) const SENDER: usize = 4;
    pub(crate) const RECEIVER: usize = 8;
    pub(crate) const EPHEMERAL: Range<usize> = 12..44;
    pub(crate) const NOTHING: Range<usize> = 44..60;
}

/// Where the fields of a cookie reply lie.
pub(crate) mod cookie {
    use super::Range;
    pub(crate) const RECEIVER: usize = 4;
    pub(crate) const NONCE: Range<usize> = 8..32;
    pub(crate) const SEALED: Range<usize> = 32..64;
}

#[derive(Clone, Copy)]
pub(crate) enum Message<'a> {
    Initiation(InitiationMessage<'a>),
    Response(ResponseMessage<'a>),
    Cookie(CookieMessage<'a>),
    Data { receiver: u32, counter: u64 },
}

impl<'a> Message<'a> {
    /// Exact lengths, known types, reserved bytes zero; everything else is no WireGuard.
    pub(crate) fn parse(datagram: &'a [u8]) -> Result<Self, Discard> {
        let kind = datagram.first_chunk::<4>().map(|kind| u32::from_le_bytes(*kind));
        match (kind, datagram.len()) {
            (Some(1), INITIATION) => exact(datagram).map(InitiationMessage).map(Self::Initiation),
            (Some(2), RESPONSE) => exact(datagram).map(ResponseMessage).map(Self::Response),
            (Some(3), COOKIE) => exact(datagram).map(CookieMessage).map(Self::Cookie),
            (Some(4), DATA..) => {
                let counter = u64::from_le_bytes(field(datagram, 8));
                Ok(Self::Data { receiver: number(datagram, 4), counter })
            }
            _ => Err(Discard::NotWireGuard),
        }
    }
}

#[derive(Clone, Copy)]
pub(crate) struct InitiationMessage<'a>(&'a [u8; INITIATION]);

impl<'a> InitiationMessage<'a> {
    pub(crate) fn sender(self) -> u32 {
        number(self.0, initiation::SENDER)
    }

    pub(crate) fn ephemeral(self) -> [u8; 32] {
        field(self.0, initiation::EPHEMERAL.start)
    }

    pub(crate) fn sealed_static(self) -> &'a [u8] {
        &self.0[initiation::STATIC]
    }

    pub(crate) fn sealed_timestamp(self) -> &'a [u8] {
        &self.0[initiation::TIMESTAMP]
    }
}

#[derive(Clone, Copy)]
pub(crate) struct ResponseMessage<'a>(&'a [u8; RESPONSE]);

impl<'a> ResponseMessage<'a> {
    pub(crate) fn sender(self) -> u32 {
        number(self.0, response::SENDER)
    }

    /// Our index: which of our initiations this answers.
    pub(crate) fn receiver(self) -> u32 {
        number(self.0, response::RECEIVER)
    }

    pub(crate) fn ephemeral(self) -> [u8; 32] {
        field(self.0, response::EPHEMERAL.start)
    }

    pub(crate) fn sealed_nothing(self) -> &'a [u8] {
        &self.0[response::NOTHING]
    }
}

#[derive(Clone, Copy)]
pub(crate) struct CookieMessage<'a>(&'a [u8; COOKIE]);

impl<'a> CookieMessage<'a> {
    /// Our index: for which of our messages the cookie is.
    pub(crate) fn receiver(self) -> u32 {
        number(self.0, cookie::RECEIVER)
    }

    pub(crate) fn nonce(self) -> [u8; 24] {
        field(self.0, cookie::NONCE.start)
    }

    pub(crate) fn sealed_cookie(self) -> &'a [u8] {
        &self.0[cookie::SEALED]
    }
}

/// A handshake message that carries MACs, whatever else is in it: what the [`crate::doorman`]
/// looks at before anything is computed.
#[derive(Clone, Copy)]
pub(crate) struct Maced<'a>(&'a [u8]);

impl<'a> Maced<'a> {
    /// Initiations and responses; `None` for all else.
    pub(crate) fn parse(datagram: &'a [u8]) -> Option<Self> {
        match (datagram.first_chunk::<4>()?, datagram.len()) {
            ([1, 0, 0, 0], INITIATION) | ([2, 0, 0, 0], RESPONSE) => Some(Self(datagram)),
            _ => None,
        }
    }

    pub(crate) fn sender(&self) -> u32 {
        number(self.0, 4)
    }

    /// What mac1 is over.
    pub(crate) fn before_mac1(&self) -> &'a [u8] {
        &self.0[..self.0.len() - 2 * MAC]
    }

    pub(crate) fn mac1(&self) -> [u8; MAC] {
        field(self.0, self.0.len() - 2 * MAC)
    }

    /// What mac2 is over.
    pub(crate) fn before_mac2(&self) -> &'a [u8] {
        &self.0[..self.0.len() - MAC]
    }

    pub(crate) fn mac2(&self) -> [u8; MAC] {
        field(self.0, self.0.len() - MAC)
    }
}

fn exact<const N: usize>(datagram: &[u8]) -> Result<&[u8; N], Discard> {
    datagram.try_into().map_err(|_| Discard::NotWireGuard)
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[at..at + N]);
    field
}

fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(field(bytes, at))
}

#[cfg(test)]
mod tests;
