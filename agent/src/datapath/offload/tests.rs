//! Packets by description, with lengths and checksums the slow way round: the naive model that the
//! fast code is held against.

mod coalesce;
mod ecn;
mod split;

use proptest::{collection::vec, prelude::*};

use super::{Gso, VnetHeader};

const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;
const CWR: u8 = 0x80;

/// Everything that a TCP or UDP packet says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Described {
    v4: bool,
    tcp: bool,
    traffic_class: u8,
    ttl: u8,
    id: u16,
    dont_fragment: bool,
    /// IPv6 options before the transport header: so many times 8 bytes.
    extensions: usize,
    source_port: u16,
    sequence: u32,
    acknowledged: u32,
    flags: u8,
    window: u16,
    /// So many times 4 bytes.
    options: usize,
    payload: Vec<u8>,
}

impl Default for Described {
    fn default() -> Self {
        Self {
            v4: true,
            tcp: true,
            traffic_class: 0,
            ttl: 64,
            id: 0xfffe,
            dont_fragment: true,
            extensions: 0,
            source_port: 1000,
            sequence: 0xffff_f000,
            acknowledged: 7,
            flags: ACK,
            window: 502,
            options: 3,
            payload: Vec::new(),
        }
    }
}

impl Described {
    /// The packet with everything right.
    fn build(&self) -> Vec<u8> {
        let transport = self.transport();
        let mut packet =
            if self.v4 { self.v4_header(&transport) } else { self.v6_header(&transport) };
        let at = packet.len();
        packet.extend(transport);
        let field = at + if self.tcp { 16 } else { 6 };
        let sum = naive_sum(&[&pseudo_header(&packet, at), &packet[at..]]);
        let checksum = if sum == 0xffff { 0xffff } else { !sum };
        packet[field..field + 2].copy_from_slice(&checksum.to_be_bytes());
        packet
    }

    /// As the kernel gives a super packet: with the pseudo-header's sum alone.
    fn build_super(&self, size: u16) -> (VnetHeader, Vec<u8>) {
        let mut packet = self.build();
        let at = packet.len() - self.transport().len();
        let offset = if self.tcp { 16 } else { 6 };
        let sum = naive_sum(&[&pseudo_header(&packet, at)]);
        packet[at + offset..at + offset + 2].copy_from_slice(&sum.to_be_bytes());
        let gso = match (self.tcp, self.v4) {
            (true, true) => Gso::Tcp4,
            (true, false) => Gso::Tcp6,
            (false, _) => Gso::Udp,
        };
        let header = VnetHeader {
            needs_checksum: true,
            gso,
            ecn: self.tcp && self.flags & CWR != 0,
            header_length: (packet.len() - self.payload.len()) as u16,
            segment_size: size,
            checksum_start: at as u16,
            checksum_offset: offset as u16,
            ..VnetHeader::default()
        };
        (header, packet)
    }

    /// Its segments with a payload of `size`, each described anew.
    fn segments(&self, size: usize) -> Vec<Self> {
        let last = self.payload.len().div_ceil(size).max(1) - 1;
        let segment = |number: usize| {
            let end = self.payload.len().min((number + 1) * size);
            let mut flags = self.flags;
            if number > 0 {
                flags &= !CWR;
            }
            if number < last {
                flags &= !(FIN | PSH);
            }
            Self {
                payload: self.payload[number * size..end].to_vec(),
                id: self.id.wrapping_add(number as u16),
                sequence: self.sequence.wrapping_add((number * size) as u32),
                flags,
                ..self.clone()
            }
        };
        (0..=last).map(segment).collect()
    }

    fn transport(&self) -> Vec<u8> {
        let mut bytes = self.source_port.to_be_bytes().to_vec();
        bytes.extend(443_u16.to_be_bytes());
        if !self.tcp {
            bytes.extend((8 + self.payload.len() as u16).to_be_bytes());
            bytes.extend([0, 0]);
            bytes.extend(&self.payload);
            return bytes;
        }
        bytes.extend(self.sequence.to_be_bytes());
        bytes.extend(self.acknowledged.to_be_bytes());
        bytes.extend([(5 + self.options as u8) << 4, self.flags]);
        bytes.extend(self.window.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend((0..self.options * 4).map(|at| at as u8));
        bytes.extend(&self.payload);
        bytes
    }

    fn v4_header(&self, transport: &[u8]) -> Vec<u8> {
        let mut header = vec![0x45, self.traffic_class];
        header.extend((20 + transport.len() as u16).to_be_bytes());
        header.extend(self.id.to_be_bytes());
        header.extend([u8::from(self.dont_fragment) << 6, 0, self.ttl, self.protocol(), 0, 0]);
        header.extend([10, 42, 1, 2, 10, 42, 2, 3]);
        let checksum = !naive_sum(&[&header]);
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
        header
    }

    fn v6_header(&self, transport: &[u8]) -> Vec<u8> {
        let class = self.traffic_class;
        let mut header = vec![0x60 | class >> 4, class << 4 | 0xa, 0xbc, 0xde];
        header.extend((8 * self.extensions as u16 + transport.len() as u16).to_be_bytes());
        let destination_options = 60;
        let first = if self.extensions > 0 { destination_options } else { self.protocol() };
        header.extend([first, self.ttl]);
        header.extend((0..32).map(|at| 0xf0 | at));
        for left in (0..self.extensions).rev() {
            let next = if left > 0 { destination_options } else { self.protocol() };
            header.extend([next, 0, 1, 4, 0, 0, 0, 0]);
        }
        header
    }

    fn protocol(&self) -> u8 {
        if self.tcp { 6 } else { 17 }
    }
}

/// One step at a time (RFC 1071).
fn naive_sum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let sum = words.fold(0_u64, |sum, word| {
        sum + u64::from(word[0]) * 256 + word.get(1).map_or(0, |&byte| u64::from(byte))
    });
    (1..5).fold(sum, |sum, _| (sum & 0xffff) + (sum >> 16)) as u16
}

/// Of a packet without an IPv6 extension header or with destination options alone.
fn pseudo_header(packet: &[u8], transport: usize) -> Vec<u8> {
    let (addresses, protocol) = match packet[0] >> 4 {
        4 => (&packet[12..20], packet[9]),
        _ if transport > 40 => (&packet[8..40], packet[transport - 8]),
        _ => (&packet[8..40], packet[6]),
    };
    let length = (packet.len() - transport) as u32;
    [addresses, &length.to_be_bytes(), &[0, 0, 0, protocol]].concat()
}

/// Of a plain packet: both checksums, and a length that is the packet's.
fn is_valid(packet: &[u8]) -> bool {
    let at = if packet[0] >> 4 == 4 { 20 } else { 40 };
    let header = at == 40 || naive_sum(&[&packet[..20]]) == 0xffff;
    header && naive_sum(&[&pseudo_header(packet, at), &packet[at..]]) == 0xffff
}

prop_compose! {
    fn described(longest: usize)(
        (v4, tcp, dont_fragment) in any::<(bool, bool, bool)>(),
        (traffic_class, ttl, id, source_port) in any::<(u8, u8, u16, u16)>(),
        (sequence, acknowledged, window) in any::<(u32, u32, u16)>(),
        flags in prop::sample::select(vec![ACK, ACK | PSH, ACK | FIN, ACK | CWR, ACK | 0x40]),
        (extensions, options) in (0_usize..3, 0_usize..=10),
        payload in vec(any::<u8>(), 0..longest),
    ) -> Described {
        let extensions = if v4 { 0 } else { extensions };
        Described {
            v4, tcp, traffic_class, ttl, id, dont_fragment, extensions, source_port, sequence,
            acknowledged, flags, window, options, payload,
        }
    }
}
