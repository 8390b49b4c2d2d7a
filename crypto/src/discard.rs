//! Every way a packet dies, one name each.
//!
//! The name is the metric's label, the field in the log and the word that the CLI prints, so a
//! reader can go from a counter to the line of code that counts.

macro_rules! discards {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)+) => {
        /// Why a packet or a datagram was not passed on.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Discard {
            $($(#[$doc])* $variant,)+
        }

        impl Discard {
            /// All of them, in the order of a packet's way.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The label: stable, lower case, underscores.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

discards! {
    // On the way out.
    /// From the tunnel device: neither a whole IPv4 nor a whole IPv6 packet.
    NotIp = "not_ip",
    /// From the tunnel device: an offload header of an unknown kind, or of another than its packet.
    UnknownOffload = "unknown_offload",
    /// From the tunnel device: a super packet that is to be cut into nothing.
    SegmentSize = "segment_size",
    /// From the tunnel device: a checksum to be completed that is not in the packet, or a super
    /// packet whose checksum nobody vouches for.
    ChecksumRange = "checksum_range",
    /// From the tunnel device: a super packet with half a TCP or UDP header.
    TruncatedTransport = "truncated_transport",
    /// From the tunnel device: a super packet that is a fragment, or has an IPv6 extension header
    /// that must not be repeated before every segment.
    UnsupportedExtension = "unsupported_extension",
    /// No peer owns the destination.
    NoRoute = "no_route",
    /// The destination is this node's own: the kernel should not have sent it here.
    OwnDestination = "own_destination",
    /// The peer is known, its address is not, and it has not spoken to us yet.
    NoEndpoint = "no_endpoint",
    /// The peer has no key to encrypt to.
    NoKey = "no_key",
    /// Too many packets wait for a handshake; the oldest goes.
    QueueFull = "queue_full",
    /// Waited for a handshake that never completed.
    HandshakeTimeout = "handshake_timeout",
    /// The session carried as many messages as it may; a new one is under way.
    SessionExhausted = "session_exhausted",
    /// The peer left the mesh while the packet waited.
    PeerRemoved = "peer_removed",
    /// The peer is reached through a relay, and none that both ends have can be sent to.
    NoRelay = "no_relay",
    /// The operating system refused the datagram.
    SendFailed = "send_failed",

    // On the way in.
    /// No WireGuard message.
    NotWireGuard = "not_wireguard",
    /// A handshake message that was not made for our key.
    BadMac = "bad_mac",
    /// Too many handshakes from there: a cookie was sent, the sender must prove its address.
    CookieDemanded = "cookie_demanded",
    /// Too many handshakes, and as many cookies as there may be were sent in this second.
    CookieLimit = "cookie_limit",
    /// Too many handshakes even with a cookie.
    HandshakeLimit = "handshake_limit",
    /// A handshake with a key that belongs to nobody (a point of low order).
    LowOrderKey = "low_order_key",
    /// A handshake by a key that is in no peer's list.
    UnknownPeer = "unknown_peer",
    /// A handshake older than the last one from that peer: a replay, or its clock went back.
    StaleHandshake = "stale_handshake",
    /// Both ends began at once; the other one's message is not needed.
    SimultaneousHandshake = "simultaneous_handshake",
    /// A response or a cookie that answers nothing we asked.
    UnexpectedHandshake = "unexpected_handshake",
    /// No session has that receiver index.
    UnknownReceiver = "unknown_receiver",
    /// The session is gone.
    NoSession = "no_session",
    /// Decryption failed.
    NotAuthentic = "not_authentic",
    /// This counter was seen before, or is older than the window.
    Replay = "replay",
    /// Authentic, but no whole IP packet inside.
    MalformedPacket = "malformed_packet",
    /// Authentic, but the source (or destination) may appear on no wire: loopback, multicast,
    /// unspecified, IPv4 mapped into IPv6.
    Martian = "martian",
    /// Authentic, but the source is this node's own.
    OwnSource = "own_source",
    /// Authentic, but the most specific owner of the source is not the peer that sent it.
    NotTheirAddress = "not_their_address",
    /// A router marked congestion on a packet that does not understand it (RFC 6040, section 4.2).
    CongestionNotEct = "congestion_not_ect",
    /// To be passed on, but not from where its sender is, for whom we have a session with; or we do
    /// not pass on.
    RelayStranger = "relay_stranger",
    /// To be passed on to somebody who is not there, or is behind a relay too.
    RelayUnreachable = "relay_unreachable",
    /// To be passed on, but more than one sender may have passed on.
    RelayQuota = "relay_quota",
    /// The tunnel device is missing or did not take the packet.
    TunnelGone = "tunnel_gone",
}

/// How often each kind happened.
#[derive(Debug, Clone)]
pub struct Discards([u64; Discard::ALL.len()]);

impl Default for Discards {
    fn default() -> Self {
        Self([0; Discard::ALL.len()])
    }
}

impl Discards {
    pub fn count(&mut self, discard: Discard) {
        self.0[discard as usize] += 1;
    }

    pub(crate) fn add(&mut self, discard: Discard, times: u64) {
        self.0[discard as usize] += times;
    }

    pub fn get(&self, discard: Discard) -> u64 {
        self.0[discard as usize]
    }

    /// Every kind, also those that never happened.
    pub fn iter(&self) -> impl Iterator<Item = (Discard, u64)> + '_ {
        Discard::ALL.iter().map(|&discard| (discard, self.get(discard)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_way_to_die_has_a_name_and_a_counter_of_its_own() {
        let names: BTreeSet<_> = Discard::ALL.iter().map(|discard| discard.name()).collect();
        assert_eq!(names.len(), Discard::ALL.len());

        let mut discards = Discards::default();
        for &discard in Discard::ALL {
            discards.count(discard);
        }

        assert!(discards.iter().all(|(_, count)| count == 1));
    }
}
