//! A whole UDP packet of our own making, for where no socket makes it: it goes by one carrier,
//! whatever the kernel's routes say.

use std::net::IpAddr;

use super::checksum::Sum;

const UDP: u8 = 17;
const HOPS: u8 = 64;
const HEADER: usize = 8;

/// From one address and port to another; none if they are of two families, or it grows too long.
pub fn udp_packet(from: (IpAddr, u16), to: (IpAddr, u16), payload: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(HEADER + payload.len()).ok()?;
    let (mut packet, pseudo) = match (from.0, to.0) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut header = vec![0x45, 0];
            header.extend(length.checked_add(20)?.to_be_bytes());
            // Never in fragments, so its identification says nothing (RFC 6864, section 4.1).
            header.extend([0, 0, 0x40, 0, HOPS, UDP, 0, 0]);
            header.extend(from.octets().into_iter().chain(to.octets()));
            let sum = Sum::of(&header).header_checksum();
            header[10..12].copy_from_slice(&sum);
            let pseudo = Sum::of(&header[12..]);
            (header, pseudo)
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let mut header = vec![0x60, 0, 0, 0];
            header.extend(length.to_be_bytes());
            header.extend([UDP, HOPS]);
            header.extend(from.octets().into_iter().chain(to.octets()));
            let pseudo = Sum::of(&header[8..]);
            (header, pseudo)
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return None,
    };
    let start = packet.len();
    for field in [from.1, to.1, length, 0] {
        packet.extend(field.to_be_bytes());
    }
    packet.extend(payload);
    let sum = pseudo.and_word(UDP.into()).and_word(length).and(Sum::of(&packet[start..]));
    packet[start + 6..start + 8].copy_from_slice(&sum.checksum());
    Some(packet)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_have_right_checksums_and_mixed_ones_are_none() {
        let (v4, v6): (IpAddr, IpAddr) = ([10, 42, 1, 1].into(), "fd42::1".parse().unwrap());

        let packet = udp_packet((v4, 7), (v4, 9), b"odd").unwrap();
        assert_eq!((packet.len(), packet[3]), (31, 31));
        assert!(Sum::of(&packet[..20]).is_valid());
        let sum = Sum::of(&packet[12..]).and_word(17).and_word(11);
        assert!(sum.is_valid(), "{packet:?}");
        let packet = udp_packet((v6, 7), (v6, 9), b"even").unwrap();
        assert_eq!((packet.len(), packet[5]), (52, 12));
        assert!(Sum::of(&packet[8..]).and_word(17).and_word(12).is_valid(), "{packet:?}");
        assert_eq!(udp_packet((v4, 7), (v6, 9), b""), None);
        assert_eq!(udp_packet((v4, 7), (v4, 9), &vec![0; 65_600]), None);
    }
}
