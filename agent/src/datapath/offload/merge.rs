//! Which packets of a flow may become one, and what its headers then say.
//!
//! The rule is that cutting the result must give back the same packets (but for the id of those
//! that may not be fragmented, which means nothing: RFC 6864).

use super::{
    checksum::Sum,
    layout::{Layout, TCP, Transport, UDP, V4_HEADER, V6_HEADER},
    vnet::{Gso, VnetHeader},
};

const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;
const ECE: u8 = 0x40;
const CWR: u8 = 0x80;
const DONT_FRAGMENT: u8 = 0x40;
/// Longest super packet, IP header included.
pub(super) const LONGEST: usize = 65_535;

/// True of two packets without options of one family, protocol, pair of addresses and of ports.
pub(super) fn same_flow(a: &[u8], b: &[u8]) -> bool {
    match (a[0] >> 4, b[0] >> 4) {
        (4, 4) => a[9] == b[9] && same::<12>(a, b, 12),
        (6, 6) => a[6] == b[6] && same::<36>(a, b, 8),
        _ => false,
    }
}

/// True of a packet that can be a part at all: one with data and nothing else to say.
pub(super) fn may_merge(packet: &[u8], layout: &Layout) -> bool {
    let header = &packet[layout.transport..];
    // The reserved bit (RFC 791) is nobody's to repeat.
    let plain = !layout.v4 || matches!(packet[6], 0 | DONT_FRAGMENT);
    let transport = match layout.kind {
        Transport::Tcp => {
            header[13] & ACK != 0
                && header[13] & !(ACK | PSH | FIN | ECE | CWR) == 0
                // The reserved bits and the one of accurate ECN.
                && header[12].trailing_zeros() >= 4
        }
        Transport::Udp => {
            header[6..8] != [0, 0]
                && usize::from(u16::from_be_bytes([header[4], header[5]])) == header.len()
        }
    };
    plain && transport && layout.payload_length() > 0 && layout.length <= LONGEST
}

/// True of a packet after which its sender wants what came so far to be delivered.
pub(super) fn ends(packet: &[u8], layout: &Layout) -> bool {
    match layout.kind {
        Transport::Tcp => packet[layout.transport + 13] & (FIN | PSH) != 0,
        Transport::Udp => false,
    }
}

/// True if `packet` comes right after the `before` bytes and `parts` packets that `first`, of the
/// same flow, began.
pub(super) fn follows(
    first: &[u8],
    packet: &[u8],
    layout: &Layout,
    before: usize,
    parts: u16,
) -> bool {
    let network = if layout.v4 {
        // Type of service; flags and fragment; time to live.
        first[1] == packet[1]
            && same::<2>(first, packet, 6)
            && first[8] == packet[8]
            && (first[6] & DONT_FRAGMENT != 0
                || word(first, 4).wrapping_add(parts) == word(packet, 4))
    } else {
        // Traffic class and flow label; hop limit.
        same::<4>(first, packet, 0) && first[7] == packet[7]
    };
    network
        && match layout.kind {
            Transport::Tcp => follows_in_stream(first, packet, layout, before),
            Transport::Udp => true,
        }
}

fn follows_in_stream(first: &[u8], packet: &[u8], layout: &Layout, before: usize) -> bool {
    let (head, next) = (&first[layout.transport..], &packet[layout.transport..]);
    // Acknowledgement; length of the header; window; urgent pointer and options.
    let options = 18..layout.payload - layout.transport;
    long(head, 4).wrapping_add(before as u32) == long(next, 4)
        && same::<4>(head, next, 8)
        && head[12] == next[12]
        && (head[13] ^ next[13]) & !(FIN | PSH | CWR) == 0
        && next[13] & CWR == 0
        && same::<2>(head, next, 14)
        && head[options.clone()] == next[options]
}

/// Compares `N` bytes: so many that the compiler knows how many.
fn same<const N: usize>(a: &[u8], b: &[u8], at: usize) -> bool {
    a[at..at + N] == b[at..at + N]
}

/// Both checksums, the IP header's and the payload's.
pub(super) fn is_valid(packet: &[u8], layout: &Layout) -> bool {
    let network = !layout.v4 || Sum::of(&packet[..layout.transport]).is_valid();
    let length = (layout.length - layout.transport) as u16;
    let sum = layout.addresses(packet).and_word(length).and(Sum::of(&packet[layout.transport..]));
    network && sum.is_valid()
}

/// Makes the first packet's `headers` those of a super packet of `length` bytes that ends with the
/// packet `last` and is to be cut into payloads of `size`.
pub(super) fn rewrite(headers: &mut [u8], last: &[u8], length: usize, size: u16) -> VnetHeader {
    let v4 = headers[0] >> 4 == 4;
    let (at, protocol) = if v4 { (V4_HEADER, headers[9]) } else { (V6_HEADER, headers[6]) };
    let transport_length = (length - at) as u16;
    let addresses = if v4 { 12..20 } else { 8..40 };
    let pseudo =
        Sum::of(&headers[addresses]).and_word(u16::from(protocol)).and_word(transport_length);
    rewrite_network(headers, v4, length);
    let mut header = VnetHeader {
        needs_checksum: true,
        header_length: headers.len() as u16,
        segment_size: size,
        checksum_start: at as u16,
        ..VnetHeader::default()
    };
    if protocol == UDP {
        headers[at + 4..at + 6].copy_from_slice(&transport_length.to_be_bytes());
        (header.gso, header.checksum_offset) = (Gso::Udp, 6);
    } else {
        debug_assert_eq!(protocol, TCP);
        headers[at + 13] |= last[at + 13] & (FIN | PSH);
        header.ecn = headers[at + 13] & CWR != 0;
        (header.gso, header.checksum_offset) = (if v4 { Gso::Tcp4 } else { Gso::Tcp6 }, 16);
    }
    let field = at + usize::from(header.checksum_offset);
    headers[field..field + 2].copy_from_slice(&pseudo.partial());
    header
}

fn rewrite_network(headers: &mut [u8], v4: bool, length: usize) {
    if !v4 {
        let payload = (length - V6_HEADER) as u16;
        headers[4..6].copy_from_slice(&payload.to_be_bytes());
        return;
    }
    headers[2..4].copy_from_slice(&(length as u16).to_be_bytes());
    headers[10..12].fill(0);
    let checksum = Sum::of(&headers[..V4_HEADER]).header_checksum();
    headers[10..12].copy_from_slice(&checksum);
}

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn long(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
