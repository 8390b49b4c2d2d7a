//! What a peer is called where another node passes its datagrams on: an id of 8 bytes, and an address
//! that says "by its relay of that place" wherever an endpoint is meant.
//!
//! ```text
//! [100::<id>]:<place>     100::/64 leads nowhere on any wire (RFC 6666), so no endpoint is mistaken
//! ```
//! So a session, its timers and its handshakes need not know how their datagrams travel. Nobody is
//! believed because of such an address: only what is authentic counts, as with every other.
//!
//! One place is no relay's: `[100::<port>]:65535` is a bridge of this machine, which carries datagrams
//! in a byte stream to wherever its other end is ([`crate::bridges`]).

use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};

use crate::blake2s;

const LABEL: &[u8] = b"hawser relay 1";
const PREFIX: [u8; 8] = [1, 0, 0, 0, 0, 0, 0, 0];

/// What the peer of that name is called: the same in the whole mesh, through all rotations of keys.
pub fn id(name: &str) -> u64 {
    let hash = blake2s::hash(&[LABEL, name.as_bytes()]);
    u64::from_be_bytes(std::array::from_fn(|place| hash[place]))
}

/// The peer `id`, by the relay of that place in the list that both ends have.
pub fn address(id: u64, place: u16) -> SocketAddr {
    let mut octets = [0; 16];
    octets[..8].copy_from_slice(&PREFIX);
    octets[8..].copy_from_slice(&id.to_be_bytes());
    SocketAddrV6::new(Ipv6Addr::from(octets), place, 0, 0).into()
}

/// Id and place, if it is such an address.
pub fn parse(address: SocketAddr) -> Option<(u64, u16)> {
    let SocketAddr::V6(address) = address else { return None };
    let octets = address.ip().octets();
    let (prefix, id) = octets.split_first_chunk::<8>()?;
    let id = u64::from_be_bytes(id.try_into().ok()?);
    (*prefix == PREFIX).then_some((id, address.port()))
}

/// In the place of a relay's.
const BRIDGE: u16 = u16::MAX;

/// What is sent to a peer instead of to where it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Detour {
    #[default]
    None,
    /// By the relay of that place in the list that both ends have.
    Relay(u16),
    /// By the bridge that it was heard by last, if there is one.
    Bridge,
}

/// The bridge at that local port.
pub fn bridge(port: u16) -> SocketAddr {
    address(port.into(), BRIDGE)
}

/// The local port, if it is a bridge.
pub fn bridge_port(address: SocketAddr) -> Option<u16> {
    let (port, place) = parse(address)?;
    u16::try_from(port).ok().filter(|_| place == BRIDGE)
}

pub(crate) fn is(address: &SocketAddr) -> bool {
    parse(*address).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_who_and_by_which_relay_and_no_other_address_does() {
        for (name, place) in [("node-1", 0), ("node-2", 2), ("", u16::MAX)] {
            assert_eq!(parse(address(id(name), place)), Some((id(name), place)));
        }
        assert_ne!(id("node-1"), id("node-2"));
        for other in ["192.0.2.1:51820", "[2001:db8::1]:51820", "[100:0:0:1::1]:1", "[::1]:1"] {
            assert_eq!(parse(other.parse().unwrap()), None, "{other}");
        }
    }
}
