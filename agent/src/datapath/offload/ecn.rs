//! Traffic class of the outer header: congestion marks as RFC 6040 has them, the code point as the
//! user chooses.
//!
//! A router on the underlay that marks instead of dropping is heard by the sender inside the
//! tunnel, and one that marks what did not ask for it drops nothing less than it would have.

use std::str::FromStr;

use crypto::Discard;

use super::checksum;

const ECN: u8 = 0b11;
const NOT_ECT: u8 = 0b00;
const ECT_1: u8 = 0b01;
const CE: u8 = 0b11;

/// Which DSCP (RFC 2474) the outer header has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dscp {
    /// Tells the underlay nothing.
    #[default]
    Zero,
    /// The packet's own.
    Copy,
    /// Always this one, of 6 bits.
    Fixed(u8),
}

impl FromStr for Dscp {
    type Err = BadDscp;

    fn from_str(text: &str) -> Result<Self, BadDscp> {
        match text {
            "zero" => Ok(Self::Zero),
            "copy" => Ok(Self::Copy),
            number => match number.parse() {
                Ok(code_point @ 0..64) => Ok(Self::Fixed(code_point)),
                _ => Err(BadDscp),
            },
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("zero, copy or a number from 0 to 63 (46 is expedited forwarding)")]
pub struct BadDscp;

/// Traffic class (IPv4: type of service) of a whole IP packet; 0 of anything else.
pub fn traffic_class(packet: &[u8]) -> u8 {
    match packet {
        [first, second, ..] if first >> 4 == 6 => first << 4 | second >> 4,
        [first, second, ..] if first >> 4 == 4 => *second,
        _ => 0,
    }
}

/// Of the outer header, from the `inner` one: RFC 6040 section 4.1, normal mode.
pub fn outer(inner: u8, dscp: Dscp) -> u8 {
    let code_point = match dscp {
        Dscp::Zero => 0,
        Dscp::Copy => inner & !ECN,
        Dscp::Fixed(code_point) => code_point << 2,
    };
    code_point | inner & ECN
}

/// Brings the `outer` traffic class's congestion mark into `packet`, one whole IP packet: RFC 6040
/// section 4.2.
pub fn combine(outer: u8, packet: &mut [u8]) -> Result<(), Discard> {
    let inner = traffic_class(packet);
    let combined = match (inner & ECN, outer & ECN) {
        (NOT_ECT, CE) => return Err(Discard::CongestionNotEct),
        (NOT_ECT, _) => NOT_ECT,
        (_, CE) => CE,
        (CE, _) => CE,
        (_, ECT_1) => ECT_1,
        (own, _) => own,
    };
    if combined != inner & ECN {
        mark(packet, combined);
    }
    Ok(())
}

fn mark(packet: &mut [u8], ecn: u8) {
    let Some(&[first, second]) = packet.first_chunk() else { return };
    if first >> 4 == 6 {
        packet[1] = second & !(ECN << 4) | ecn << 4;
        return;
    }
    let marked = second & !ECN | ecn;
    packet[1] = marked;
    if let Some(field) = packet.get_mut(10..12).and_then(|field| field.first_chunk_mut()) {
        checksum::adjust(field, [first, second], [first, marked]);
    }
}
