//! IP packets with a number in them, so that a test knows each one again.

use std::net::IpAddr;

/// What a test put into a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Content {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub number: u64,
}

/// A packet of either family, both addresses of the same.
pub fn packet(source: IpAddr, destination: IpAddr, number: u64) -> Vec<u8> {
    let mut bytes = match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let mut header = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0];
            header.extend(source.octets());
            header.extend(destination.octets());
            header
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let mut header = vec![0x60, 0, 0, 0, 0, 8, 17, 64];
            header.extend(source.octets());
            header.extend(destination.octets());
            header
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
            panic!("{source} and {destination} are of different families")
        }
    };
    bytes.extend(number.to_be_bytes());
    bytes
}

impl Content {
    /// Reads what [`packet`] made.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let packet = crypto::IpPacket::parse(bytes)?;
        let number = packet.bytes().last_chunk::<8>()?;
        Some(Self {
            source: packet.source(),
            destination: packet.destination(),
            number: u64::from_be_bytes(*number),
        })
    }
}
