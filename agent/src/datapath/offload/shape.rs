//! The outer shape itself: what a middlebox that looks into VXLAN finds is a UDP datagram between two
//! addresses that nobody has.

use super::checksum::Sum;

/// 8 VXLAN, 14 Ethernet, 20 IPv4, 8 UDP.
pub const HEADER: usize = 50;

/// The I flag: a network identifier is there (RFC 7348, section 5).
const VALID: u8 = 0x08;
/// Another network than the kernel's device has, should it listen on the same port elsewhere.
const NETWORK: [u8; 3] = [0, 0, 73];
/// Unicast, locally administered.
const MAC: [u8; 6] = [0x02, b'h', b'a', b'w', b's', b'r'];
const IPV4: [u8; 2] = [0x08, 0x00];
/// IPv4's dummy address: a source that is nobody's (RFC 7600, section 4.8).
const DUMMY: [u8; 4] = [192, 0, 0, 8];
/// WireGuard's port, both ways.
const PORT: [u8; 2] = 51820u16.to_be_bytes();

/// Appends `datagram` behind a header of its own; one that is too long for IPv4 is left out.
pub fn append(datagram: &[u8], to: &mut Vec<u8>) {
    let Ok(udp) = u16::try_from(8 + datagram.len()) else { return };
    let Some(ip) = udp.checked_add(20) else { return };
    to.extend([VALID, 0, 0, 0]);
    to.extend(NETWORK);
    to.push(0);
    to.extend(MAC.into_iter().chain(MAC).chain(IPV4));
    let start = to.len();
    to.extend([0x45, 0]);
    to.extend(ip.to_be_bytes());
    to.extend([0, 0, 0x40, 0, 64, 17, 0, 0]);
    to.extend(DUMMY.into_iter().chain(DUMMY));
    let sum = Sum::of(&to[start..]).header_checksum();
    to[start + 10..start + 12].copy_from_slice(&sum);
    to.extend(PORT.into_iter().chain(PORT).chain(udp.to_be_bytes()));
    // No checksum (RFC 768): what is inside has a better one.
    to.extend([0, 0]);
    to.extend(datagram);
}

/// Moves the datagrams of a train (each `stride` long, the last may be shorter) together without
/// their headers, and returns how long they are in all; none if one has another shape.
pub fn strip(train: &mut [u8], stride: usize) -> Option<usize> {
    if stride <= HEADER {
        return None;
    }
    let mut end = 0;
    for start in (0..train.len()).step_by(stride) {
        let last = train.len().min(start + stride);
        let length = payload(&train[start..last])?;
        train.copy_within(start + HEADER..start + HEADER + length, end);
        end += length;
    }
    Some(end)
}

/// How long the datagram in it is.
fn payload(shaped: &[u8]) -> Option<usize> {
    let length = shaped.len().checked_sub(HEADER).filter(|length| *length > 0)?;
    let header = &shaped[..HEADER];
    let ours = header[0] == VALID && header[4..7] == NETWORK && header[20..22] == IPV4;
    let udp = u16::from_be_bytes([header[46], header[47]]);
    (ours && usize::from(udp) == 8 + length).then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shape_is_vxlan_with_a_whole_udp_datagram_in_it_and_comes_off_again() {
        let mut shaped = Vec::new();
        for datagram in [[1; 96], [2; 96]] {
            append(&datagram, &mut shaped);
        }
        append(&[3; 40], &mut shaped);

        assert_eq!(shaped.len(), 3 * HEADER + 232);
        assert_eq!((shaped[0], &shaped[4..7]), (8, &[0, 0, 73][..]));
        assert!(Sum::of(&shaped[22..42]).is_valid());
        assert_eq!(u16::from_be_bytes([shaped[24], shaped[25]]), 20 + 8 + 96);
        let length = strip(&mut shaped, HEADER + 96).unwrap();
        assert_eq!(shaped[..length], [vec![1; 96], vec![2; 96], vec![3; 40]].concat());
    }

    #[test]
    fn whatever_else_comes_is_refused() {
        let mut good = Vec::new();
        append(&[7; 32], &mut good);

        for stride in [0, 1, HEADER] {
            assert_eq!(strip(&mut good.clone(), stride), None, "{stride}");
        }
        for place in [0, 4, 5, 6, 20, 21, 46, 47] {
            let mut other = good.clone();
            other[place] ^= 0x10;
            assert_eq!(strip(&mut other, good.len()), None, "byte {place}");
        }
        assert_eq!(strip(&mut good, HEADER + 32), Some(32));
    }
}
