//! One super packet from the tunnel device, cut into the segments that go over the wire.
//!
//! What is the same in every segment is added up once, so that a segment costs one pass over its
//! payload, which copies and sums, and a handful of additions.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::Range,
};

use crypto::Discard;

use super::{
    checksum::Sum,
    layout::{Layout, Network, Transport, V6_HEADER},
    vnet::{Gso, VnetHeader},
};

const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const CWR: u8 = 0x80;

/// What one read of the tunnel device gave.
#[derive(Debug)]
pub enum Super<'a> {
    /// An ordinary packet, cut to the length that it names, its checksum complete.
    One(&'a mut [u8]),
    Many(Split<'a>),
}

impl<'a> Super<'a> {
    /// `packet` is what followed the header.
    pub fn parse(header: &VnetHeader, packet: &'a mut [u8]) -> Result<Self, Discard> {
        match header.gso {
            Gso::None => complete(header, packet).map(Self::One),
            Gso::Tcp4 | Gso::Tcp6 | Gso::Udp => Split::parse(header, packet).map(Self::Many),
        }
    }
}

/// Finishes the checksum that the kernel left to us.
fn complete<'a>(header: &VnetHeader, packet: &'a mut [u8]) -> Result<&'a mut [u8], Discard> {
    let network = Network::parse(packet)?;
    let packet = &mut packet[..network.length];
    if header.needs_checksum {
        let start = usize::from(header.checksum_start);
        let field = start + usize::from(header.checksum_offset);
        if start < network.header || field + 2 > packet.len() {
            return Err(Discard::ChecksumRange);
        }
        let checksum = Sum::of(&packet[start..]).checksum();
        packet[field..field + 2].copy_from_slice(&checksum);
    }
    Ok(packet)
}

/// A super packet: `count` segments of the same headers, each of the same length but the last.
#[derive(Debug)]
pub struct Split<'a> {
    headers: &'a [u8],
    payload: &'a [u8],
    layout: Layout,
    /// Payload of each segment but the last.
    size: usize,
    /// Of what is the same in every IPv4 header.
    network: Sum,
    /// Of what is the same in every pseudo-header and transport header.
    transport: Sum,
}

impl<'a> Split<'a> {
    fn parse(header: &VnetHeader, packet: &'a [u8]) -> Result<Self, Discard> {
        let layout = Layout::parse(packet)?;
        let fits = match header.gso {
            Gso::None => false,
            Gso::Tcp4 => layout.v4 && layout.kind == Transport::Tcp,
            Gso::Tcp6 => !layout.v4 && layout.kind == Transport::Tcp,
            Gso::Udp => layout.kind == Transport::Udp,
        };
        if !fits {
            return Err(Discard::UnknownOffload);
        }
        // Else the kernel vouches for nothing, and we would make a wrong checksum right.
        if !header.needs_checksum && !header.data_valid {
            return Err(Discard::ChecksumRange);
        }
        if header.segment_size == 0 {
            return Err(Discard::SegmentSize);
        }
        let (headers, payload) = packet[..layout.length].split_at(layout.payload);
        let size = usize::from(header.segment_size);
        let (network, transport) = (network_sum(headers, &layout), transport_sum(headers, &layout));
        Ok(Self { headers, payload, layout, size, network, transport })
    }

    pub fn destination(&self) -> IpAddr {
        if self.layout.v4 {
            IpAddr::V4(Ipv4Addr::from(*chunk(self.headers, 16)))
        } else {
            IpAddr::V6(Ipv6Addr::from(*chunk(self.headers, 24)))
        }
    }

    /// Of the IP header, for [`super::ecn::outer`].
    pub fn traffic_class(&self) -> u8 {
        super::ecn::traffic_class(self.headers)
    }

    /// At least 1.
    pub fn count(&self) -> usize {
        self.payload.len().div_ceil(self.size).max(1)
    }

    /// Length of every segment but the last, which may be shorter.
    pub fn segment_length(&self) -> usize {
        self.headers.len() + self.size.min(self.payload.len())
    }

    /// Writes segment `number` (from 0, below [`Self::count`]) into `into`, which has room for
    /// [`Self::segment_length`], and returns its length.
    ///
    /// # Panics
    /// If either is not so.
    pub fn write(&self, number: usize, into: &mut [u8]) -> usize {
        let start = number * self.size;
        let end = self.payload.len().min(start + self.size);
        let length = self.headers.len() + (end - start);
        let (headers, payload) = into[..length].split_at_mut(self.headers.len());
        headers.copy_from_slice(self.headers);
        let sum = Sum::of_copy(payload, &self.payload[start..end]);
        self.patch_network(headers, length, number);
        match self.layout.kind {
            Transport::Tcp => self.patch_tcp(headers, sum, start..end),
            Transport::Udp => self.patch_udp(headers, sum, end - start),
        }
        length
    }

    fn patch_network(&self, headers: &mut [u8], length: usize, number: usize) {
        if !self.layout.v4 {
            put(headers, 4, ((length - V6_HEADER) as u16).to_be_bytes());
            return;
        }
        let length = length as u16;
        let id = u16::from_be_bytes(*chunk(self.headers, 4)).wrapping_add(number as u16);
        put(headers, 2, length.to_be_bytes());
        put(headers, 4, id.to_be_bytes());
        put(headers, 10, self.network.and_word(length).and_word(id).header_checksum());
    }

    fn patch_tcp(&self, headers: &mut [u8], payload: Sum, range: Range<usize>) {
        let at = self.layout.transport;
        let sequence = u32::from_be_bytes(*chunk(self.headers, at + 4));
        let sequence = sequence.wrapping_add(range.start as u32);
        let [offset, mut flags] = *chunk(self.headers, at + 12);
        if range.start > 0 {
            flags &= !CWR;
        }
        if range.end < self.payload.len() {
            flags &= !(FIN | PSH);
        }
        let sum = self.transport.and(payload).and_long(sequence);
        let sum = sum.and_word(u16::from_be_bytes([offset, flags]));
        let length = headers.len() - at + range.len();
        put(headers, at + 4, sequence.to_be_bytes());
        headers[at + 13] = flags;
        put(headers, at + 16, sum.and_word(length as u16).checksum());
    }

    fn patch_udp(&self, headers: &mut [u8], payload: Sum, length: usize) {
        let at = self.layout.transport;
        let length = (headers.len() - at + length) as u16;
        // Once in the pseudo-header, once in the header.
        let sum = self.transport.and(payload).and_word(length).and_word(length);
        put(headers, at + 4, length.to_be_bytes());
        put(headers, at + 6, sum.checksum());
    }
}

/// Of an IPv4 header without its length, its id and its checksum.
fn network_sum(headers: &[u8], layout: &Layout) -> Sum {
    if !layout.v4 {
        return Sum::default();
    }
    let sum = Sum::of(&headers[..2]).and(Sum::of(&headers[6..10]));
    sum.and(Sum::of(&headers[12..layout.transport]))
}

/// Of the pseudo-header without the length, and of the header without what differs.
fn transport_sum(headers: &[u8], layout: &Layout) -> Sum {
    let sum = layout.addresses(headers);
    let header = &headers[layout.transport..];
    match layout.kind {
        // Sequence number, flags and checksum differ.
        Transport::Tcp => sum
            .and(Sum::of(&header[..4]))
            .and(Sum::of(&header[8..12]))
            .and(Sum::of(&header[14..16]))
            .and(Sum::of(&header[18..])),
        Transport::Udp => sum.and(Sum::of(&header[..4])),
    }
}

/// `N` bytes of a header that was found to be whole.
fn chunk<const N: usize>(headers: &[u8], at: usize) -> &[u8; N] {
    headers[at..].first_chunk().expect("the layout was checked")
}

fn put<const N: usize>(headers: &mut [u8], at: usize, bytes: [u8; N]) {
    headers[at..at + N].copy_from_slice(&bytes);
}
