//! The engine: what the mesh asks of an implementation of WireGuard, and boringtun answering.
//!
//! The rest of the crate knows no other name of boringtun's, so another engine takes its place by
//! offering these two types. boringtun reads the clock by itself (the feature `simulated` makes
//! that clock a virtual one), queues packets without telling, limits handshakes for all sources
//! together and prints a preshared key with `Debug`: so its queue is never used, its limiter is
//! opened wide for [`crate::limiter`] to decide, and nothing in here is ever printed.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use blake2::{Blake2s256, Digest};
use boringtun::{
    noise::{
        Packet, Tunn, TunnResult, errors::WireGuardError, handshake::parse_handshake_anon,
        rate_limiter::RateLimiter,
    },
    x25519,
};
use keys::{PresharedKey, PrivateKey, PublicKey};

use crate::Discard;

/// A handshake initiation's length, the longest of the handshake messages.
pub(crate) const INITIATION: usize = 148;
/// What a data message adds to its packet.
pub(crate) const OVERHEAD: usize = 32;
const COOKIE_REPLY: usize = 64;
const COUNTER: usize = 8;

/// What kind of message a datagram is, and for whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Message {
    Initiation,
    Response { receiver: u32 },
    Cookie { receiver: u32 },
    Data { receiver: u32 },
}

impl Message {
    pub(crate) fn parse(datagram: &[u8]) -> Result<Self, Discard> {
        let receiver = |at: usize| {
            let bytes = datagram[at..].first_chunk::<4>().copied().unwrap_or_default();
            u32::from_le_bytes(bytes)
        };
        match Tunn::parse_incoming_packet(datagram) {
            Ok(Packet::HandshakeInit(_)) => Ok(Self::Initiation),
            Ok(Packet::HandshakeResponse(_)) => Ok(Self::Response { receiver: receiver(8) }),
            Ok(Packet::PacketCookieReply(_)) => Ok(Self::Cookie { receiver: receiver(4) }),
            Ok(Packet::PacketData(_)) => Ok(Self::Data { receiver: receiver(4) }),
            Err(_) => Err(Discard::NotWireGuard),
        }
    }
}

/// This node's key, and what can be judged with it alone.
pub(crate) struct Identity {
    private: x25519::StaticSecret,
    public: x25519::PublicKey,
    /// Checks mac1 and is never under load.
    macs: Arc<RateLimiter>,
    /// Is always under load, so it lets nothing pass without a valid cookie.
    cookies: RateLimiter,
}

/// What came of asking for a proof of address.
pub(crate) enum Proof<'a> {
    Given,
    /// Send this to the source.
    Demand(&'a [u8]),
    BadMac,
}

impl Identity {
    pub(crate) fn new(private: &PrivateKey) -> Self {
        let private = x25519::StaticSecret::from(*private.as_bytes());
        let public = x25519::PublicKey::from(&private);
        Self {
            macs: Arc::new(RateLimiter::new(&public, u64::MAX)),
            cookies: RateLimiter::new(&public, 0),
            private,
            public,
        }
    }

    pub(crate) fn public(&self) -> PublicKey {
        PublicKey::from_bytes(self.public.to_bytes())
    }

    /// True when a handshake message was made for our key (mac1).
    pub(crate) fn made_for_us(&self, datagram: &[u8]) -> bool {
        self.macs.verify_packet(None, datagram, &mut []).is_ok()
    }

    /// Looks for a valid cookie in a handshake message (mac2), and makes the demand for one.
    pub(crate) fn proof<'a>(
        &self,
        datagram: &[u8],
        from: SocketAddr,
        scratch: &'a mut [u8],
    ) -> Proof<'a> {
        let reply = &mut scratch[..COOKIE_REPLY];
        match self.cookies.verify_packet(Some(cookie_address(from)), datagram, reply) {
            Ok(_) => Proof::Given,
            Err(TunnResult::WriteToNetwork(demand)) => Proof::Demand(demand),
            Err(_) => Proof::BadMac,
        }
    }

    /// Whose key an initiation says it is from. Not proven before the tunnel opened it.
    pub(crate) fn claimed_sender(&self, datagram: &[u8]) -> Option<PublicKey> {
        let Ok(Packet::HandshakeInit(initiation)) = Tunn::parse_incoming_packet(datagram) else {
            return None;
        };
        let half = parse_handshake_anon(&self.private, &self.public, &initiation).ok()?;
        Some(PublicKey::from_bytes(half.peer_static_public))
    }
}

/// boringtun binds a cookie to an address without the port; a digest of both in the place of the
/// address binds it to both, as the protocol wants.
fn cookie_address(from: SocketAddr) -> IpAddr {
    let mut digest = Blake2s256::new();
    match from.ip() {
        IpAddr::V4(v4) => digest.update(v4.to_ipv6_mapped().octets()),
        IpAddr::V6(v6) => digest.update(v6.octets()),
    }
    digest.update(from.port().to_be_bytes());
    let digest: [u8; 32] = digest.finalize().into();
    let mut short = [0; 16];
    short.copy_from_slice(&digest[..16]);
    Ipv6Addr::from(short).into()
}

/// What a message turned out to be.
pub(crate) enum Opened<'a> {
    /// An initiation; this is our response.
    Answer(&'a [u8]),
    /// The response to our initiation; this first message confirms the session to the peer.
    Complete(&'a [u8]),
    /// The peer wants our next initiation to carry a cookie.
    CookieStored,
    Keepalive,
    Packet(&'a [u8]),
}

/// What the passing of time asked for.
pub(crate) enum Due<'a> {
    Nothing,
    Initiation(&'a [u8]),
    Keepalive(&'a [u8]),
    /// The peer did not answer for as long as one tries (or the sessions are long dead).
    GaveUp,
}

/// Our key against one key of a peer.
pub(crate) struct Engine(Box<Tunn>);

impl Engine {
    /// `id` (24 bits) becomes the upper part of every receiver index.
    pub(crate) fn new(
        identity: &Identity,
        peer: &PublicKey,
        preshared: Option<&PresharedKey>,
        id: u32,
    ) -> Self {
        let limiter = Some(Arc::clone(&identity.macs));
        Self(Box::new(Tunn::new(
            identity.private.clone(),
            x25519::PublicKey::from(*peer.as_bytes()),
            preshared.map(|key| *key.as_bytes()),
            None,
            id,
            limiter,
        )))
    }

    /// True while packets can be sealed. Reads the clock: ask after a change, not per packet.
    pub(crate) fn ready(&self) -> bool {
        self.0.time_since_last_handshake().is_some()
    }

    /// Seals a packet (an empty one is a keepalive) and returns the datagram and its counter.
    /// Only while [`Engine::ready`].
    pub(crate) fn seal<'a>(&mut self, packet: &[u8], out: &'a mut [u8]) -> Option<(&'a [u8], u64)> {
        match self.0.encapsulate(packet, out) {
            TunnResult::WriteToNetwork(datagram) if datagram[0] == 4 => {
                let counter = datagram[COUNTER..].first_chunk::<8>().copied()?;
                Some((datagram, u64::from_le_bytes(counter)))
            }
            _ => None,
        }
    }

    /// A new initiation; `again` also while one is in flight.
    pub(crate) fn initiate<'a>(&mut self, out: &'a mut [u8], again: bool) -> Option<&'a [u8]> {
        match self.0.format_handshake_initiation(out, again) {
            TunnResult::WriteToNetwork(datagram) => Some(datagram),
            _ => None,
        }
    }

    pub(crate) fn open<'a>(
        &mut self,
        message: Message,
        datagram: &[u8],
        out: &'a mut [u8],
    ) -> Result<Opened<'a>, Discard> {
        match (self.0.decapsulate(None, datagram, out), message) {
            (TunnResult::WriteToNetwork(answer), Message::Initiation) => Ok(Opened::Answer(answer)),
            (TunnResult::WriteToNetwork(first), _) => Ok(Opened::Complete(first)),
            (TunnResult::WriteToTunnelV4(packet, _), _) => Ok(Opened::Packet(packet)),
            (TunnResult::WriteToTunnelV6(packet, _), _) => Ok(Opened::Packet(packet)),
            (TunnResult::Done, Message::Cookie { .. }) => Ok(Opened::CookieStored),
            (TunnResult::Done, _) => Ok(Opened::Keepalive),
            (TunnResult::Err(error), message) => Err(discard(&error, message)),
        }
    }

    /// To be called some four times a second: boringtun's clock moves here.
    pub(crate) fn tick<'a>(&mut self, out: &'a mut [u8]) -> Due<'a> {
        match self.0.update_timers(out) {
            TunnResult::WriteToNetwork(datagram) if datagram[0] == 1 => Due::Initiation(datagram),
            TunnResult::WriteToNetwork(datagram) => Due::Keepalive(datagram),
            TunnResult::Err(WireGuardError::ConnectionExpired) => Due::GaveUp,
            _ => Due::Nothing,
        }
    }
}

fn discard(error: &WireGuardError, message: Message) -> Discard {
    let data = matches!(message, Message::Data { .. });
    match error {
        WireGuardError::InvalidMac => Discard::BadMac,
        WireGuardError::WrongTai64nTimestamp => Discard::StaleHandshake,
        WireGuardError::WrongKey => Discard::UnknownPeer,
        WireGuardError::InvalidAeadTag => Discard::NotAuthentic,
        WireGuardError::InvalidCounter | WireGuardError::DuplicateCounter => Discard::Replay,
        WireGuardError::NoCurrentSession | WireGuardError::WrongIndex if data => Discard::NoSession,
        WireGuardError::UnexpectedPacket | WireGuardError::WrongIndex => {
            Discard::UnexpectedHandshake
        }
        WireGuardError::InvalidPacket if data => Discard::MalformedPacket,
        _ => Discard::NotWireGuard,
    }
}
