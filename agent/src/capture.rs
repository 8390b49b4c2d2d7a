//! Recorded packets as a pcapng file, which Wireshark, tshark and tcpdump read.
//!
//! Two interfaces: the tunnel with the inner packets, and `underlay` with the sealed datagrams. Those
//! come to us without their outer headers, so these are written anew from what is known of the ends;
//! checksums are 0.

use std::{
    borrow::Cow,
    net::{IpAddr, SocketAddr},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use pcap_file::{
    DataLink, PcapError,
    pcapng::{
        PcapNgWriter,
        blocks::{
            enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption},
            interface_description::{InterfaceDescriptionBlock, InterfaceDescriptionOption},
        },
    },
};

use crate::datapath::{Direction, Recorded, Side};

const UDP: u8 = 17;
const UDP_HEADER: usize = 8;
/// Interfaces, in the order in which they are described.
const INNER: u32 = 0;
const OUTER: u32 = 1;
/// 10⁻⁹ of a second.
const NANOSECONDS: u8 = 9;

/// What the file says of this end.
pub(crate) struct Here {
    pub(crate) tun: String,
    /// Of each family, the unspecified one where it is not known.
    pub(crate) addresses: [IpAddr; 2],
    pub(crate) port: u16,
}

/// Both clocks at one moment.
#[derive(Clone, Copy)]
pub(crate) struct Clocks {
    pub(crate) wall: SystemTime,
    pub(crate) monotonic: Instant,
}

/// A whole file.
pub(crate) fn pcapng(
    packets: &[Recorded],
    here: &Here,
    clocks: Clocks,
) -> Result<Vec<u8>, PcapError> {
    let mut file = PcapNgWriter::new(Vec::new())?;
    for name in [here.tun.as_str(), "underlay"] {
        let options = vec![
            InterfaceDescriptionOption::IfName(Cow::from(name)),
            InterfaceDescriptionOption::IfTsResol(NANOSECONDS),
        ];
        file.write_pcapng_block(InterfaceDescriptionBlock {
            linktype: DataLink::RAW,
            snaplen: 0,
            options,
        })?;
    }
    for packet in packets {
        file.write_pcapng_block(block(packet, here, clocks))?;
    }
    Ok(file.into_inner())
}

fn block<'a>(packet: &'a Recorded, here: &Here, clocks: Clocks) -> EnhancedPacketBlock<'a> {
    let ago = clocks.monotonic.saturating_duration_since(packet.at);
    let timestamp = clocks.wall.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (interface_id, data, length) = match packet.side {
        Side::Inner => (INNER, Cow::from(&packet.head), packet.length),
        Side::Outer { far } => {
            let mut data = outer_headers(packet, far, here);
            let length = data.len() + packet.length;
            data.extend_from_slice(&packet.head);
            (OUTER, Cow::from(data), length)
        }
    };
    EnhancedPacketBlock {
        interface_id,
        timestamp: timestamp.saturating_sub(ago),
        original_len: u32::try_from(length).unwrap_or(u32::MAX),
        data,
        options: options(packet),
    }
}

fn options(packet: &Recorded) -> Vec<EnhancedPacketOption<'static>> {
    // pcapng, section 4.3.1: the direction is in the lowest two bits.
    let direction = match packet.direction {
        Direction::In => 1,
        Direction::Out => 2,
    };
    let mut options = vec![EnhancedPacketOption::Flags(direction)];
    if packet.pieces > 1 {
        let comment = format!("the first of {} datagrams in one train", packet.pieces);
        options.push(EnhancedPacketOption::Comment(comment.into()));
    }
    options
}

fn outer_headers(packet: &Recorded, far: SocketAddr, here: &Here) -> Vec<u8> {
    let near = SocketAddr::new(here.addresses[usize::from(far.is_ipv6())], here.port);
    let (source, destination) = match packet.direction {
        Direction::In => (far, near),
        Direction::Out => (near, far),
    };
    let datagram = u16::try_from(UDP_HEADER + packet.length).unwrap_or(u16::MAX);
    let mut header = match (source.ip(), destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let whole = datagram.saturating_add(20).to_be_bytes();
            let fixed = [0x45, 0, whole[0], whole[1], 0, 0, 0, 0, 64, UDP, 0, 0];
            [&fixed[..], &source.octets(), &destination.octets()].concat()
        }
        (source, destination) => {
            let octets = |address: IpAddr| match address {
                IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
                IpAddr::V6(v6) => v6.octets(),
            };
            let length = datagram.to_be_bytes();
            let fixed = [0x60, 0, 0, 0, length[0], length[1], UDP, 64];
            [&fixed[..], &octets(source), &octets(destination)].concat()
        }
    };
    for word in [source.port(), destination.port(), datagram, 0] {
        header.extend(word.to_be_bytes());
    }
    header
}

impl Clocks {
    pub(crate) fn now() -> Self {
        Self { wall: SystemTime::now(), monotonic: Instant::now() }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pcap_file::pcapng::{Block, PcapNgReader};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn recorded(side: Side, head: &[u8]) -> Recorded {
        let at = Instant::now();
        let direction = Direction::Out;
        Recorded { at, side, direction, length: 1000, pieces: 2, head: head.to_vec() }
    }

    #[test]
    fn what_was_recorded_is_read_back_with_its_ends_and_its_time() {
        let far = "192.0.2.7:51821".parse().unwrap();
        let packets = [
            recorded(Side::Inner, &[0x45; 28]),
            recorded(Side::Outer { far }, &[4; 16]),
            recorded(Side::Outer { far: "[2001:db8::7]:1".parse().unwrap() }, &[4; 16]),
        ];
        let here = Here {
            tun: "hawser0".into(),
            addresses: ["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
            port: 51820,
        };
        let clocks = Clocks { wall: UNIX_EPOCH + 100 * SECOND, monotonic: packets[0].at + SECOND };

        let file = pcapng(&packets, &here, clocks).unwrap();

        let mut reader = PcapNgReader::new(&file[..]).unwrap();
        let (mut names, mut found) = (Vec::new(), Vec::new());
        while let Some(block) = reader.next_block() {
            match block.unwrap().into_owned() {
                Block::InterfaceDescription(interface) => names.push(interface),
                Block::EnhancedPacket(packet) => found.push(packet),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((names.len(), found.len()), (2, 3));
        assert_eq!(found[0].timestamp, 99 * SECOND);
        assert_eq!((found[0].interface_id, found[0].original_len), (INNER, 1000));
        let outer = &found[1];
        assert_eq!((outer.interface_id, outer.original_len), (OUTER, 1000 + 28));
        let ends = [[192, 0, 2, 1], [192, 0, 2, 7]].concat();
        assert_eq!((&outer.data[12..20], &outer.data[28..]), (&ends[..], &[4; 16][..]));
        assert_eq!(outer.data[20..24], [51820u16.to_be_bytes(), 51821u16.to_be_bytes()].concat());
        assert_eq!(found[2].data.len(), 40 + 8 + 16);
    }
}
