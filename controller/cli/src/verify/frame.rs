//! The few bytes of a captured frame that matter: which UDP ports, and whether it can be read.

/// What the frame begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    Ethernet,
    /// No link header, as on a TUN device.
    Ip,
}

const UDP: u8 = 17;

/// Source and destination port, if this is UDP over IPv4 or IPv6 with its first fragment.
pub(super) fn udp_ports(link: Link, frame: &[u8]) -> Option<(u16, u16)> {
    let packet = match link {
        Link::Ip => frame,
        Link::Ethernet => match frame.get(12..14)? {
            [0x08, 0x00] | [0x86, 0xdd] => &frame[14..],
            _ => return None,
        },
    };
    let udp = match packet.first()? >> 4 {
        4 => ipv4_payload(packet)?,
        6 if *packet.get(6)? == UDP => packet.get(40..)?,
        _ => return None,
    };
    let port = |at: usize| Some(u16::from_be_bytes([*udp.get(at)?, *udp.get(at + 1)?]));
    Some((port(0)?, port(2)?))
}

fn ipv4_payload(packet: &[u8]) -> Option<&[u8]> {
    let offset = u16::from_be_bytes([*packet.get(6)?, *packet.get(7)?]) & 0x1fff;
    if *packet.get(9)? != UDP || offset != 0 {
        return None;
    }
    packet.get(usize::from(packet.first()? & 0x0f) * 4..)
}

/// Where `needle` begins.
pub(super) fn position(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    let first = *needle.first()?;
    let mut from = 0;
    while let Some(found) = haystack.get(from..)?.iter().position(|byte| *byte == first) {
        let at = from + found;
        if haystack[at..].starts_with(needle) {
            return Some(at);
        }
        from = at + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ipv4(protocol: u8, fragment: u16) -> Vec<u8> {
        let mut packet = vec![0u8; 28];
        packet[0] = 0x45;
        packet[6..8].copy_from_slice(&fragment.to_be_bytes());
        packet[9] = protocol;
        packet[20..24].copy_from_slice(&[0xca, 0x6c, 0x00, 0x09]);
        packet
    }

    fn ethernet(kind: [u8; 2], packet: &[u8]) -> Vec<u8> {
        [&[0u8; 12][..], &kind, packet].concat()
    }

    #[test]
    fn ports_are_found_in_both_families_and_on_both_links() {
        let mut ipv6 = vec![0u8; 48];
        (ipv6[0], ipv6[6]) = (0x60, UDP);
        ipv6[40..44].copy_from_slice(&[0xca, 0x6c, 0x00, 0x09]);

        assert_eq!(udp_ports(Link::Ip, &ipv4(UDP, 0)), Some((51820, 9)));
        assert_eq!(udp_ports(Link::Ip, &ipv6), Some((51820, 9)));
        let frame = ethernet([0x08, 0], &ipv4(UDP, 0));
        assert_eq!(udp_ports(Link::Ethernet, &frame), Some((51820, 9)));
        let frame = ethernet([0x86, 0xdd], &ipv6);
        assert_eq!(udp_ports(Link::Ethernet, &frame), Some((51820, 9)));
    }

    #[test]
    fn what_is_not_udp_has_no_ports() {
        assert_eq!(udp_ports(Link::Ip, &ipv4(6, 0)), None);
        assert_eq!(udp_ports(Link::Ip, &ipv4(UDP, 100)), None, "a later fragment");
        assert_eq!(udp_ports(Link::Ethernet, &ethernet([0x08, 0x06], &[0; 28])), None, "ARP");
    }

    #[test]
    fn every_truncation_is_survived() {
        let frame = ethernet([0x08, 0], &ipv4(UDP, 0));

        for length in 0..frame.len() {
            let _ = udp_ports(Link::Ethernet, &frame[..length]);
            let _ = udp_ports(Link::Ip, &frame[..length]);
        }
    }

    #[test]
    fn a_marker_is_found_wherever_it_stands() {
        assert_eq!(position(b"aab", b"ab"), Some(1));
        assert_eq!(position(b"abab", b"ab"), Some(0));
        assert_eq!(position(b"aaaa", b"ab"), None);
        assert_eq!(position(b"a", b"ab"), None);
        assert_eq!(position(b"", b"ab"), None);
        assert_eq!(position(b"ab", b""), None);
    }
}
