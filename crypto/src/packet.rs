//! The few fields of an IP packet that a tunnel must know: whole or not, from whom, to whom.
//!
//! Nothing here trusts a length: a packet that says more than it has is no packet, one that has
//! more than it says is cut to what it says (RFC 791, RFC 8200).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const V4_HEADER: usize = 20;
const V6_HEADER: usize = 40;

/// A whole IPv4 or IPv6 packet, cut to the length that its header names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IpPacket<'a> {
    bytes: &'a [u8],
    source: IpAddr,
    destination: IpAddr,
}

impl<'a> IpPacket<'a> {
    /// `None` for everything that is not one whole IP packet.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        match bytes.first()? >> 4 {
            4 => Self::parse_v4(bytes),
            6 => Self::parse_v6(bytes),
            _ => None,
        }
    }

    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    pub fn source(&self) -> IpAddr {
        self.source
    }

    pub fn destination(&self) -> IpAddr {
        self.destination
    }

    fn parse_v4(bytes: &'a [u8]) -> Option<Self> {
        let header = bytes.first_chunk::<V4_HEADER>()?;
        let header_length = usize::from(header[0] & 0x0f) * 4;
        let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if header_length < V4_HEADER || total < header_length {
            return None;
        }
        let source: [u8; 4] = *header[12..].first_chunk()?;
        let destination: [u8; 4] = *header[16..].first_chunk()?;
        Some(Self {
            bytes: bytes.get(..total)?,
            source: Ipv4Addr::from(source).into(),
            destination: Ipv4Addr::from(destination).into(),
        })
    }

    fn parse_v6(bytes: &'a [u8]) -> Option<Self> {
        let header = bytes.first_chunk::<V6_HEADER>()?;
        let payload = usize::from(u16::from_be_bytes([header[4], header[5]]));
        let source: [u8; 16] = *header[8..].first_chunk()?;
        let destination: [u8; 16] = *header[24..].first_chunk()?;
        Some(Self {
            bytes: bytes.get(..V6_HEADER + payload)?,
            source: Ipv6Addr::from(source).into(),
            destination: Ipv6Addr::from(destination).into(),
        })
    }
}

/// Addresses that never belong to a packet between nodes, whoever claims to own them: they mean
/// "me" or "everybody" to the receiver, or are an IPv4 address in disguise that would walk past
/// an IPv4 check.
pub fn is_martian(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            v4.octets()[0] == 0 || v4.is_loopback() || v4.octets()[0] >= 224 || v4.is_link_local()
        }
        IpAddr::V6(v6) => {
            // ::/96 holds ::, ::1 and the old IPv4-compatible form.
            let high = v6.to_bits() >> 32;
            high == 0 || high == 0xffff || v6.is_multicast() || v6.is_unicast_link_local()
        }
    }
}

#[cfg(test)]
mod tests;
