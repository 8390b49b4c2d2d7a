//! Which packets the canary's socket is given: those with the marker where a probe has it, as it is
//! or inside of a readable carrier, or quoted in an answer. The kernel looks, so that all others cost
//! a few instructions and no copy.

use socket2::SockFilter;

pub(super) type Marker = [u8; 16];

/// The marker and a probe's number.
pub(super) const LENGTH: usize = 24;
/// Where the marker stands, from the packet's first byte:
/// 28, 48 in UDP; 56, 96 quoted by ICMP of its family; 60, 80 and 80, 100 in frames of ours, over IPv4
/// and IPv6; 78, 98 and 98, 118 in VXLAN. In rising order: a packet that ends before one has no later.
const PLACES: [usize; 10] = [28, 48, 56, 60, 78, 80, 96, 98, 100, 118];

/// linux/filter.h: load a word, jump if it equals, return.
const LOAD: u16 = 0x20;
const EQUALS: u16 = 0x15;
const RETURN: u16 = 0x06;

/// What is in a probe.
pub(super) fn payload(marker: &Marker, number: u64) -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    bytes[..16].copy_from_slice(marker);
    bytes[16..].copy_from_slice(&number.to_be_bytes());
    bytes
}

/// The number of the probe that this packet is or holds, from its IP header on.
pub(super) fn number(marker: &Marker, packet: &[u8]) -> Option<u64> {
    let found = PLACES.into_iter().find_map(|at| {
        let bytes = packet.get(at..at + LENGTH)?;
        bytes.strip_prefix(marker.as_slice())
    })?;
    Some(u64::from_be_bytes(found.try_into().ok()?))
}

/// A classic BPF program that passes on what has the marker's first four bytes in one of the places.
pub(super) fn program(marker: &Marker) -> Vec<SockFilter> {
    let word = u32::from_be_bytes([marker[0], marker[1], marker[2], marker[3]]);
    let looks = PLACES.into_iter().enumerate().flat_map(|(nth, at)| {
        // Over the looks that follow, and over the refusal.
        let rest = 2 * (PLACES.len() - nth - 1) + 1;
        let found = SockFilter::new(EQUALS, rest as u8, 0, word);
        [SockFilter::new(LOAD, 0, 0, at as u32), found]
    });
    let (refuse, pass) =
        (SockFilter::new(RETURN, 0, 0, 0), SockFilter::new(RETURN, 0, 0, u32::MAX));
    looks.chain([refuse, pass]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARKER: Marker = *b"a canary's song!";

    #[test]
    fn a_probe_is_known_in_each_of_its_places_and_by_the_whole_marker_alone() {
        for at in PLACES {
            let mut packet = vec![0; at];
            packet.extend(payload(&MARKER, 7));
            assert_eq!(number(&MARKER, &packet), Some(7), "{at}");
            assert_eq!(number(&MARKER, &packet[..at + LENGTH - 1]), None, "{at}, cut off");
            packet[at + 15] ^= 1;
            assert_eq!(number(&MARKER, &packet), None, "{at}, of somebody else");
        }
        assert_eq!(number(&MARKER, &[]), None);
    }

    #[test]
    fn the_places_rise_for_a_look_past_the_end_is_the_last() {
        assert!(PLACES.is_sorted());
        assert_eq!(program(&MARKER).len(), 2 * PLACES.len() + 2);
    }
}
