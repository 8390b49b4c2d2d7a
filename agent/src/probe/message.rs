//! What nodes ask each other in the tunnel: whether a probe comes back, and where one is seen. A
//! question and its answer are of one size, and only questions are answered, so nobody gets more than
//! he sent and no two echo each other for ever.
//!
//! ```text
//! "hawser" │ version 1 │ 1 question, 2 answer │ number, 8 bytes, big endian
//!                      │ 3 where?, 4 there    │ number │ IPv6 address (or IPv4 as ::ffff:…) │ port
//! ```

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

pub(super) const LONGEST: usize = LENGTH + PLACE;
const LENGTH: usize = 16;
const PLACE: usize = 18;
const NAME: [u8; 7] = *b"hawser\x01";
const QUESTION: u8 = 1;
const ANSWER: u8 = 2;
const WHERE: u8 = 3;
const THERE: u8 = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Message {
    Question(u64),
    Answer(u64),
    /// Where am I seen?
    Where(u64),
    There(u64, SocketAddr),
}

impl Message {
    pub(super) fn write(self) -> Vec<u8> {
        let (kind, number, place) = match self {
            Self::Question(number) => (QUESTION, number, None),
            Self::Answer(number) => (ANSWER, number, None),
            Self::Where(number) => (WHERE, number, Some([0; PLACE])),
            Self::There(number, at) => (THERE, number, Some(place(at))),
        };
        let mut bytes = NAME.to_vec();
        bytes.push(kind);
        bytes.extend(number.to_be_bytes());
        bytes.extend(place.into_iter().flatten());
        bytes
    }

    /// None if it is something else.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let (head, rest) = bytes.split_first_chunk::<8>()?;
        let (number, rest) = rest.split_first_chunk::<8>()?;
        let number = u64::from_be_bytes(*number);
        match (head[..7] == NAME, head[7], rest.len()) {
            (true, QUESTION, 0) => Some(Self::Question(number)),
            (true, ANSWER, 0) => Some(Self::Answer(number)),
            (true, WHERE, PLACE) => Some(Self::Where(number)),
            (true, THERE, PLACE) => Some(Self::There(number, at(rest)?)),
            (_, _, _) => None,
        }
    }
}

fn place(at: SocketAddr) -> [u8; PLACE] {
    let address = match at.ip() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    let mut bytes = [0; PLACE];
    bytes[..16].copy_from_slice(&address.octets());
    bytes[16..].copy_from_slice(&at.port().to_be_bytes());
    bytes
}

fn at(bytes: &[u8]) -> Option<SocketAddr> {
    let (address, port) = bytes.split_first_chunk::<16>()?;
    let port = u16::from_be_bytes(port.try_into().ok()?);
    Some((Ipv6Addr::from(*address).to_canonical(), port).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        let places = ["198.51.100.1:40001", "[2001:db8::1]:9"].map(|text| text.parse().unwrap());
        let there = places.map(|at| Message::There(9, at));
        for message in [Message::Question(7), Message::Answer(u64::MAX), Message::Where(8)]
            .into_iter()
            .chain(there)
        {
            let bytes = message.write();
            assert!(bytes.len() <= LONGEST);
            assert_eq!(Message::read(&bytes), Some(message));
            assert_eq!(Message::read(&bytes[1..]), None);
            assert_eq!(Message::read(&[bytes.as_slice(), &[0]].concat()), None);
            for place in 0..8 {
                let mut other = bytes.clone();
                other[place] ^= 0x40;
                assert_eq!(Message::read(&other), None, "byte {place}");
            }
        }
    }

    #[test]
    fn nobody_gets_more_than_he_sent() {
        let place = "[2001:db8::1]:9".parse().unwrap();
        assert_eq!(Message::Where(1).write().len(), Message::There(1, place).write().len());
        assert_eq!(Message::Question(1).write().len(), Message::Answer(1).write().len());
    }
}
