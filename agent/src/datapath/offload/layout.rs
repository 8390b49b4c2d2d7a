//! Where the headers of a TCP or UDP packet are. Nothing here trusts a length.

use crypto::Discard;

use super::checksum::Sum;

pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
const HOP_BY_HOP: u8 = 0;
const DESTINATION_OPTIONS: u8 = 60;

pub(super) const V4_HEADER: usize = 20;
pub(super) const V6_HEADER: usize = 40;
const TCP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;
/// More fragments, or an offset that is not zero.
const FRAGMENT: u16 = 0x3fff;

/// What carries the payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Tcp,
    Udp,
}

/// Offsets into a whole IP packet: `transport <= payload <= length <= the packet's`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) v4: bool,
    pub(super) kind: Transport,
    /// Where the TCP or UDP header begins: within 16 bits.
    pub(super) transport: usize,
    pub(super) payload: usize,
    /// Of the packet as its IP header has it.
    pub(super) length: usize,
}

impl Layout {
    pub(super) fn parse(packet: &[u8]) -> Result<Self, Discard> {
        let network = Network::parse(packet)?;
        let (protocol, transport) = network.transport(packet)?;
        let end = &packet[..network.length];
        let (kind, header) = match protocol {
            TCP => (Transport::Tcp, tcp_header(end, transport)?),
            UDP => (Transport::Udp, UDP_HEADER),
            _ => return Err(Discard::UnknownOffload),
        };
        if transport + header > network.length {
            return Err(Discard::TruncatedTransport);
        }
        let (v4, length) = (network.v4, network.length);
        Ok(Self { v4, kind, transport, payload: transport + header, length })
    }

    /// True without IPv4 options and IPv6 extension headers.
    pub(super) fn is_plain(&self) -> bool {
        self.transport == if self.v4 { V4_HEADER } else { V6_HEADER }
    }

    pub(super) fn payload_length(&self) -> usize {
        self.length - self.payload
    }

    pub(super) fn protocol(&self) -> u8 {
        match self.kind {
            Transport::Tcp => TCP,
            Transport::Udp => UDP,
        }
    }

    /// Sum of the pseudo-header (RFC 9293, RFC 8200) without the length.
    pub(super) fn addresses(&self, packet: &[u8]) -> Sum {
        let addresses = if self.v4 { &packet[12..20] } else { &packet[8..40] };
        Sum::of(addresses).and_word(u16::from(self.protocol()))
    }
}

/// The IP header: whole, and no longer than the packet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Network {
    v4: bool,
    pub(super) header: usize,
    pub(super) length: usize,
}

impl Network {
    pub(super) fn parse(packet: &[u8]) -> Result<Self, Discard> {
        let word = |at: usize| usize::from(u16::from_be_bytes([packet[at], packet[at + 1]]));
        let network = match packet.first().map(|byte| byte >> 4) {
            Some(4) if packet.len() >= V4_HEADER => {
                Self { v4: true, header: usize::from(packet[0] & 0x0f) * 4, length: word(2) }
            }
            Some(6) if packet.len() >= V6_HEADER => {
                Self { v4: false, header: V6_HEADER, length: V6_HEADER + word(4) }
            }
            _ => return Err(Discard::NotIp),
        };
        let whole = network.header >= V4_HEADER
            && network.header <= network.length
            && network.length <= packet.len();
        if whole { Ok(network) } else { Err(Discard::NotIp) }
    }

    /// Which protocol comes after the IP header and the extension headers that may be repeated
    /// before every segment, and where.
    fn transport(&self, packet: &[u8]) -> Result<(u8, usize), Discard> {
        if self.v4 {
            return match u16::from_be_bytes([packet[6], packet[7]]) & FRAGMENT {
                0 => Ok((packet[9], self.header)),
                _ => Err(Discard::UnsupportedExtension),
            };
        }
        let (mut next, mut at) = (packet[6], V6_HEADER);
        while matches!(next, HOP_BY_HOP | DESTINATION_OPTIONS) {
            let Some(&[following, length]) = packet[..self.length].get(at..at + 2) else {
                return Err(Discard::TruncatedTransport);
            };
            at += 8 + 8 * usize::from(length);
            next = following;
        }
        match next {
            TCP | UDP => Ok((next, at)),
            _ => Err(Discard::UnsupportedExtension),
        }
    }
}

/// Length of the TCP header with its options.
fn tcp_header(packet: &[u8], at: usize) -> Result<usize, Discard> {
    let offset = packet.get(at + 12).ok_or(Discard::TruncatedTransport)?;
    match usize::from(offset >> 4) * 4 {
        header if header >= TCP_HEADER => Ok(header),
        _ => Err(Discard::TruncatedTransport),
    }
}
