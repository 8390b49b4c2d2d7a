//! The backend `udp`: whole packets in UDP, readable by everybody, on the same sockets, trains and
//! workers as the sealed ones.
//!
//! ```text
//! 0        1                4
//! ┌────────┬────────────────┬───────────────┐   WireGuard's messages begin with 1 to 4, so one
//! │ 0xc1   │ 0              │ IP packet …   │   port takes both
//! └────────┴────────────────┴───────────────┘
//! ```
//! Without keys nobody is proven: a frame counts as a peer's if it comes from where the peer is said
//! to be, and carries an address of the peer. Nothing is learned from it.

use std::{
    net::{IpAddr, SocketAddr},
    ops::Range,
    sync::Arc,
};

use arc_swap::ArcSwap;
use crypto::{Discard, IpPacket, Routes};
use ipnet::IpNet;

use super::{
    offload::{Super, ecn},
    sessions::{Came, Opened},
    train::Departures,
};

const MARK: u8 = 0xc1;
const HEADER: usize = 4;

/// A peer whose packets may be in clear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClearPeer {
    pub endpoint: SocketAddr,
    pub prefixes: Vec<IpNet>,
    /// Packets to it go in clear; false: only what it sends is taken.
    pub send: bool,
}

/// Who is spoken to in clear. Empty wherever encryption is required.
#[derive(Default)]
pub(super) struct Clear(ArcSwap<Table>);

#[derive(Default)]
struct Table {
    to: Routes<SocketAddr>,
    from: Routes<SocketAddr>,
    any: bool,
}

impl Clear {
    pub(super) fn set(&self, peers: &[ClearPeer]) {
        let mut table = Table { any: !peers.is_empty(), ..Table::default() };
        for peer in peers {
            for prefix in &peer.prefixes {
                table.from.insert(*prefix, peer.endpoint);
                if peer.send {
                    table.to.insert(*prefix, peer.endpoint);
                }
            }
        }
        self.0.store(Arc::new(table));
    }

    /// Where a packet goes in clear; none if it is to be sealed.
    pub(super) fn endpoint(&self, packet: &Super<'_>) -> Option<SocketAddr> {
        let table = self.0.load();
        if !table.any {
            return None;
        }
        table.to.owner_of(destination(packet)?)
    }

    /// Where a packet would go in clear, whether or not others do.
    pub(super) fn known(&self, packet: &Super<'_>) -> Option<SocketAddr> {
        self.0.load().from.owner_of(destination(packet)?)
    }

    /// True if there is a frame among these datagrams, and anybody may send one.
    pub(super) fn concerns(&self, bytes: &[u8], stride: usize) -> bool {
        self.0.load().any && bytes.chunks(stride.max(1)).any(is_frame)
    }

    /// Whose packet is in this frame, as a range of it; or why it is nobody's.
    fn open(&self, frame: &[u8], from: SocketAddr) -> Result<Range<usize>, Discard> {
        let bytes = frame.get(HEADER..).unwrap_or_default();
        let packet = IpPacket::parse(bytes).ok_or(Discard::MalformedPacket)?;
        let owner = self.0.load().from.owner_of(packet.source());
        if owner.map(|endpoint| endpoint.ip()) != Some(from.ip()) {
            return Err(Discard::NotTheirAddress);
        }
        Ok(HEADER..HEADER + packet.bytes().len())
    }

    /// Opens the frames of a received train, and hands each other datagram to `sealed` with its
    /// place.
    pub(super) fn open_mixed(
        &self,
        Came { bytes, from, stride }: Came<'_>,
        opened: &mut Opened,
        mut sealed: impl FnMut(&mut [u8], &mut Opened, usize),
        mut dead: impl FnMut(Discard),
    ) {
        opened.clear();
        for (number, datagram) in bytes.chunks_mut(stride.max(1)).enumerate() {
            let base = number * stride;
            if !is_frame(datagram) {
                sealed(datagram, opened, base);
                continue;
            }
            match self.open(datagram, from) {
                Ok(packet) => opened.packets.push(base + packet.start..base + packet.end),
                Err(discard) => dead(discard),
            }
        }
    }
}

fn destination(packet: &Super<'_>) -> Option<IpAddr> {
    Some(match packet {
        Super::One(packet) => IpPacket::parse(packet)?.destination(),
        Super::Many(split) => split.destination(),
    })
}

fn is_frame(datagram: &[u8]) -> bool {
    datagram.first() == Some(&MARK)
}

/// Puts a packet, or each part of a super packet, behind a header into the outgoing train.
pub(super) fn send(packet: Super<'_>, to: SocketAddr, out: &mut Departures<'_>) {
    let dscp = out.shared().dscp;
    match packet {
        Super::One(packet) => {
            let class = ecn::outer(ecn::traffic_class(packet), dscp);
            out.record(to, class, HEADER + packet.len(), |frame| {
                frame[..HEADER].copy_from_slice(&[MARK, 0, 0, 0]);
                frame[HEADER..].copy_from_slice(packet);
                frame.len()
            });
        }
        Super::Many(split) => {
            let class = ecn::outer(split.traffic_class(), dscp);
            for number in 0..split.count() {
                out.record(to, class, HEADER + split.segment_length(), |frame| {
                    frame[..HEADER].copy_from_slice(&[MARK, 0, 0, 0]);
                    HEADER + split.write(number, &mut frame[HEADER..])
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clear(send: bool) -> Clear {
        let clear = Clear::default();
        let prefixes = vec!["10.42.2.0/24".parse().unwrap()];
        clear.set(&[ClearPeer { endpoint: "192.0.2.2:51820".parse().unwrap(), prefixes, send }]);
        clear
    }

    fn packet(source: [u8; 4], destination: [u8; 4]) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 20, 0, 0, 0, 0, 64, 17, 0, 0];
        packet.extend(source);
        packet.extend(destination);
        packet
    }

    fn frame(packet: &[u8]) -> Vec<u8> {
        [&[MARK, 0, 0, 0], packet].concat()
    }

    #[test]
    fn a_frame_counts_only_from_where_its_peer_is_and_with_an_address_of_it() {
        let clear = clear(false);
        let theirs = frame(&packet([10, 42, 2, 7], [10, 42, 1, 1]));
        let (at, elsewhere) = ("192.0.2.2:9".parse().unwrap(), "192.0.2.3:9".parse().unwrap());

        assert_eq!(clear.open(&theirs, at), Ok(4..24));
        assert_eq!(clear.open(&theirs, elsewhere), Err(Discard::NotTheirAddress));
        let others = frame(&packet([10, 42, 3, 7], [10, 42, 1, 1]));
        assert_eq!(clear.open(&others, at), Err(Discard::NotTheirAddress));
        for cut in [0, 1, 4, 5, 23] {
            assert_eq!(clear.open(&theirs[..cut], at), Err(Discard::MalformedPacket), "{cut}");
        }
    }

    #[test]
    fn only_a_peer_that_is_to_be_sent_to_in_clear_has_an_endpoint_here() {
        let mut bytes = packet([10, 42, 1, 1], [10, 42, 2, 7]);
        let mut other = packet([10, 42, 1, 1], [10, 42, 3, 7]);

        let to = clear(true).endpoint(&Super::One(&mut bytes));
        assert_eq!(to, Some("192.0.2.2:51820".parse().unwrap()));
        assert_eq!(clear(true).endpoint(&Super::One(&mut other)), None);
        assert_eq!(clear(false).endpoint(&Super::One(&mut bytes)), None);
    }

    #[test]
    fn nobody_is_heard_in_clear_where_nobody_may() {
        let theirs = frame(&packet([10, 42, 2, 7], [10, 42, 1, 1]));

        assert!(clear(false).concerns(&theirs, theirs.len()));
        let closed = Clear::default();
        closed.set(&[]);
        assert!(!closed.concerns(&theirs, theirs.len()));
        assert!(!clear(true).concerns(&[4; 64], 32), "sealed trains go their way");
    }

    #[test]
    fn sealed_datagrams_among_frames_go_where_they_belong() {
        let theirs = frame(&packet([10, 42, 2, 7], [10, 42, 1, 1]));
        let mut train = [&theirs[..], &[4; 24], &theirs, &[4; 9]].concat();
        let (mut opened, mut sealed) = (Opened::default(), Vec::new());

        let from = "192.0.2.2:9".parse().unwrap();
        clear(false).open_mixed(
            Came { bytes: &mut train, from, stride: 24 },
            &mut opened,
            |datagram, _, base| sealed.push((base, datagram.len())),
            |discard| panic!("{discard:?}"),
        );

        assert_eq!(opened.packets, [4..24, 52..72]);
        assert_eq!(sealed, [(24, 24), (72, 9)]);
    }
}
