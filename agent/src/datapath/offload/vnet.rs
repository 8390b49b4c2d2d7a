//! `struct virtio_net_hdr` (Linux `include/uapi/linux/virtio_net.h`), the ten bytes before every
//! packet on a tunnel device with IFF_VNET_HDR. Integers are in the machine's byte order, as the
//! device has them unless told otherwise.

use crypto::Discard;

/// Length of the header.
pub const VNET: usize = 10;

const NEEDS_CHECKSUM: u8 = 1;
const DATA_VALID: u8 = 2;
const ECN: u8 = 0x80;

/// What kind of super packet follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Gso {
    /// An ordinary packet.
    #[default]
    None,
    Tcp4,
    Tcp6,
    /// UDP over either family, cut into datagrams (USO).
    Udp,
}

impl Gso {
    const fn code(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Tcp4 => 1,
            Self::Tcp6 => 4,
            Self::Udp => 5,
        }
    }
}

/// The header as fields. All lengths are claims: [`super::Super::parse`] holds them against the
/// packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VnetHeader {
    /// The checksum field holds the sum of the pseudo-header alone; the rest is for the receiver.
    pub needs_checksum: bool,
    /// The checksum has been verified by the kernel.
    pub data_valid: bool,
    pub gso: Gso,
    /// The first segment has TCP's CWR set.
    pub ecn: bool,
    /// Length of all headers: a hint, never relied on.
    pub header_length: u16,
    /// Payload of each segment but the last.
    pub segment_size: u16,
    /// Where the checksummed bytes begin, from the start of the packet.
    pub checksum_start: u16,
    /// Where the checksum is, from there.
    pub checksum_offset: u16,
}

impl VnetHeader {
    pub fn parse(bytes: &[u8; VNET]) -> Result<Self, Discard> {
        let word = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        let gso = match bytes[1] & !ECN {
            0 => Gso::None,
            1 => Gso::Tcp4,
            4 => Gso::Tcp6,
            5 => Gso::Udp,
            _ => return Err(Discard::UnknownOffload),
        };
        Ok(Self {
            needs_checksum: bytes[0] & NEEDS_CHECKSUM != 0,
            data_valid: bytes[0] & DATA_VALID != 0,
            gso,
            ecn: bytes[1] & ECN != 0,
            header_length: word(2),
            segment_size: word(4),
            checksum_start: word(6),
            checksum_offset: word(8),
        })
    }

    pub fn to_bytes(self) -> [u8; VNET] {
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        let mut bytes = [0; VNET];
        bytes[0] = flag(self.needs_checksum, NEEDS_CHECKSUM) | flag(self.data_valid, DATA_VALID);
        bytes[1] = self.gso.code() | flag(self.ecn, ECN);
        bytes[2..4].copy_from_slice(&self.header_length.to_ne_bytes());
        bytes[4..6].copy_from_slice(&self.segment_size.to_ne_bytes());
        bytes[6..8].copy_from_slice(&self.checksum_start.to_ne_bytes());
        bytes[8..10].copy_from_slice(&self.checksum_offset.to_ne_bytes());
        bytes
    }
}
