//! The pure half of the data path under libFuzzer: what the kernel gives with offloads, and what
//! comes out of a train. The modules are taken as files, so that the agent's libraries need not be
//! built with a sanitizer; the agent's own tests hold them against a naive model.

#[allow(dead_code, unused_imports, reason = "the agent uses the rest")]
#[path = "../../src/datapath/offload/mod.rs"]
mod offload;

#[path = "../../src/tls/frame.rs"]
mod frame;

use crypto::IpPacket;
use offload::{Coalesce, Merging, Super, VNET, VnetHeader};

const ALL: Merging = Merging { tcp: true, udp: true };

/// The first ten bytes are the offload header, the rest is the packet. Whatever the header claims,
/// what is cut are whole packets that carry the payload in order; merged again they carry as much.
pub fn super_packet(data: &[u8]) {
    let Some((header, packet)) = data.split_first_chunk::<VNET>() else {
        return;
    };
    let Ok(header) = VnetHeader::parse(header) else {
        return;
    };
    let mut packet = packet.to_vec();
    let whole = packet.len();
    let split = match Super::parse(&header, &mut packet) {
        Ok(Super::Many(split)) => split,
        Ok(Super::One(one)) => {
            assert!(one.len() <= whole && IpPacket::parse(one).is_some_and(|p| p.bytes() == one));
            return;
        }
        Err(_) => return,
    };
    let mut arena = Vec::new();
    let mut coalesce = Coalesce::new(u16::MAX, ALL);
    for number in 0..split.count() {
        let start = arena.len();
        arena.resize(start + split.segment_length(), 0xee);
        let length = split.write(number, &mut arena[start..]);
        arena.truncate(start + length);
        let segment = IpPacket::parse(&arena[start..]).expect("a segment is a whole packet");
        assert_eq!(segment.bytes().len(), length);
        assert_eq!(segment.destination(), split.destination());
        assert!(number + 1 == split.count() || length == split.segment_length());
    }
    let mut start = 0;
    for number in 0..split.count() {
        let end = arena.len().min(start + split.segment_length());
        coalesce.push(&arena, start..end).expect("there is room");
        assert!(number + 1 < split.count() || end == arena.len());
        start = end;
    }
    check(&mut coalesce, &arena, split.count());
}

/// Packets of two bytes of length and so many bytes: each comes out once, and a group that holds
/// one packet holds it as it was.
pub fn coalesce(data: &[u8]) {
    let (arena, mut coalesce) = (data, Coalesce::new(64, ALL));
    let (mut at, mut pushed) = (0, 0);
    while let Some(length) = arena.get(at..).and_then(|rest| rest.first_chunk::<2>()) {
        let start = at + 2;
        let end = arena.len().min(start + usize::from(u16::from_le_bytes(*length)));
        match coalesce.push(arena, start..end) {
            Ok(()) => pushed += 1,
            Err(_) => {
                check(&mut coalesce, arena, pushed);
                pushed = 0;
            }
        }
        at = end;
    }
    check(&mut coalesce, arena, pushed);
}

fn check(coalesce: &mut Coalesce, arena: &[u8], pushed: usize) {
    let mut seen = 0;
    coalesce.emit(arena, |merged| {
        let packets: Vec<_> = merged.packets().collect();
        assert_eq!(packets.len(), merged.count());
        seen += packets.len();
        let written: Vec<u8> =
            merged.with_slices(|slices| slices.iter().flat_map(|slice| slice.to_vec()).collect());
        let header = written.first_chunk().expect("an offload header comes first");
        let header = VnetHeader::parse(header).expect("a header that the device knows");
        let packet = &written[VNET..];
        if let [one] = &packets[..] {
            assert_eq!(packet, &arena[one.clone()]);
            return;
        }
        let parsed = IpPacket::parse(packet).expect("a super packet is a packet");
        assert_eq!(parsed.bytes(), packet);
        assert!(header.needs_checksum && header.segment_size > 0);
        let last = &arena[packets[packets.len() - 1].clone()];
        assert!(packet.ends_with(&last[last.len() - last.len().min(1)..]));
    });
    assert_eq!(seen, pushed);
    assert!(coalesce.is_empty());
}

/// The first byte says in how large pieces the rest arrives. Whatever it is, what comes out is what
/// the same frames say when they are written again, and nothing is read twice.
pub fn frames(data: &[u8]) {
    let Some((piece, stream)) = data.split_first() else { return };
    let (mut frames, mut again, mut left) = (frame::Frames::default(), Vec::new(), stream);
    while !left.is_empty() {
        let room = frames.room();
        let length = (usize::from(*piece) * 97 + 1).min(room.len()).min(left.len());
        assert!(length > 0, "there is always room for more");
        room[..length].copy_from_slice(&left[..length]);
        frames.filled(length);
        left = &left[length..];
        loop {
            match frames.take() {
                Ok(Some(datagram)) => frame::append(datagram, &mut again),
                Ok(None) => break,
                Err(_) => return assert!(stream.starts_with(&again)),
            }
        }
    }
    assert!(stream.starts_with(&again));
}
