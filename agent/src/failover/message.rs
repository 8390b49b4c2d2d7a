//! A carrier's probe on the wire: a question, or its echo by the same carrier. Both are of one size,
//! and only a question is answered, so nobody gets more than he sent.
//!
//! ```text
//! IP │ UDP 7375 to 7375 │ "hawser" │ version 2 │ 1 question, 2 answer, 3 alarm, and 16 × carrier │ number, 8
//! ```
//! Some carriers are the kernel's, which takes the payload; the data path's take a whole packet.

use std::net::IpAddr;

use crate::{datapath::udp_packet, plan::Way, view::Backend};

pub(super) const LENGTH: usize = 16;
/// Every agent's, on its mesh addresses alone. Below the range that outgoing connections take.
pub(super) const PORT: u16 = 7375;
const SHAPED: u8 = 8;
/// The tunnel by the first of its relays; the others follow.
const RELAY: u8 = 5;
const RELAYS: u8 = 3;
/// The tunnel in TLS: a code that nothing else in the shape of VXLAN has.
const TLS: u8 = SHAPED | 1;
const NAME: [u8; 7] = *b"hawser\x02";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Question,
    Answer,
    /// A question of one that sent something and hears nothing: perhaps what is sent to it gets lost.
    Alarm,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) kind: Kind,
    pub(super) by: Way,
    pub(super) number: u64,
}

impl Message {
    pub(super) fn write(self) -> [u8; LENGTH] {
        let kind: u8 = match self.kind {
            Kind::Question => 1,
            Kind::Answer => 2,
            Kind::Alarm => 3,
        };
        let by = match self.by.backend {
            Backend::Wireguard => 0,
            Backend::Esp => 1,
            Backend::Udp => 2,
            Backend::Vxlan => 3,
            Backend::Direct => 4,
        } | if self.by.shaped { SHAPED } else { 0 };
        let by = self.by.relay.map_or(by, |place| RELAY + place.min(RELAYS - 1));
        let by = if self.by.tls { TLS } else { by };
        let mut bytes = [0; LENGTH];
        bytes[..7].copy_from_slice(&NAME);
        bytes[7] = kind | (by << 4);
        bytes[8..].copy_from_slice(&self.number.to_be_bytes());
        bytes
    }

    /// None if it is something else.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; LENGTH] = bytes.try_into().ok()?;
        let (head, number) = bytes.split_first_chunk::<8>()?;
        let number = u64::from_be_bytes(number.try_into().ok()?);
        let kind = match head[7] & 0xf {
            1 => Kind::Question,
            2 => Kind::Answer,
            3 => Kind::Alarm,
            _ => return None,
        };
        let backend = match (head[7] >> 4) & !SHAPED {
            0 => Backend::Wireguard,
            1 => Backend::Esp,
            2 => Backend::Udp,
            3 => Backend::Vxlan,
            4 => Backend::Direct,
            RELAY.. => Backend::Wireguard,
        };
        let (code, shaped) = ((head[7] >> 4) & !SHAPED, (head[7] >> 4) & SHAPED != 0);
        let by = match head[7] >> 4 {
            TLS => Way { tls: true, ..Backend::Wireguard.into() },
            _ => Way { shaped, relay: code.checked_sub(RELAY), ..backend.into() },
        };
        if by.shaped && by.relay.is_some() {
            return None;
        }
        (head[..7] == NAME).then_some(Self { kind, by, number })
    }

    /// As a whole packet; none if the addresses are of two families.
    pub(super) fn packet(self, from: IpAddr, to: IpAddr) -> Option<Vec<u8>> {
        udp_packet((from, PORT), (to, PORT), &self.write())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        use Backend::{Direct, Esp, Udp, Vxlan, Wireguard};
        let shaped = Way { shaped: true, ..Wireguard.into() };
        let relayed = [0, 1, 2].map(|place| Way { relay: Some(place), ..Wireguard.into() });
        let tls = Way { tls: true, ..Wireguard.into() };
        let all = [Wireguard, Esp, Udp, Vxlan, Direct].map(Way::from);
        for by in all.into_iter().chain([shaped, tls]).chain(relayed) {
            for kind in [Kind::Question, Kind::Answer, Kind::Alarm] {
                let message = Message { kind, by, number: u64::MAX - 7 };
                let bytes = message.write();

                assert_eq!(Message::read(&bytes), Some(message));
                assert_eq!(Message::read(&bytes[1..]), None);
                assert_eq!(Message::read(&[bytes.as_slice(), &[0]].concat()), None);
                for place in 0..8 {
                    let mut other = bytes;
                    other[place] ^= 0x04;
                    assert_eq!(Message::read(&other), None, "byte {place}");
                }
            }
        }
    }
}
