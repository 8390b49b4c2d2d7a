//! Bridges: local sockets that carry sealed datagrams in a byte stream, to wherever its other end is.
//! They speak to the tunnel's own port over loopback, and everything behind this seam knows them as
//! `[100::port]:65535` (`crypto::relay::bridge`): so none is taken for an endpoint, or told to others.

use std::net::{Ipv4Addr, SocketAddr};

use crypto::relay;

use super::udp::{Arrival, Train};

/// Where every bridge is, each on a port of its own: no peer is, as loopback leads to no other machine.
pub const BRIDGES: Ipv4Addr = Ipv4Addr::new(127, 72, 87, 1);

/// What came from a bridge, as coming from one.
pub(super) fn take_in(arrivals: &mut [Arrival]) {
    for came in arrivals {
        if came.from.ip() == BRIDGES {
            came.from = relay::bridge(came.from.port());
        }
    }
}

/// Where to send what is for a bridge, or for anybody else.
pub(super) fn on_the_wire(to: SocketAddr) -> SocketAddr {
    relay::bridge_port(to).map_or(to, |port| (BRIDGES, port).into())
}

/// The same train, if it is for a bridge.
pub(super) fn across(train: &Train) -> Option<Train> {
    relay::bridge_port(train.to)?;
    Some(Train { to: on_the_wire(train.to), ..train.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bridge_has_an_address_of_its_own_behind_the_seam_and_nobody_else_has() {
        for (from, seen) in [
            ("127.72.87.1:40001", relay::bridge(40_001)),
            ("127.0.0.1:40001", "127.0.0.1:40001".parse().unwrap()),
            ("[::1]:40001", "[::1]:40001".parse().unwrap()),
        ] {
            let from: SocketAddr = from.parse().unwrap();
            let mut arrivals = [Arrival { from, range: 0..96, stride: 96, class: 0 }];

            take_in(&mut arrivals);

            assert_eq!(arrivals[0].from, seen);
            assert_eq!(on_the_wire(seen), from);
            let train = Train { to: seen, range: 0..96, stride: 96, class: 0 };
            assert_eq!(
                across(&train).map(|train| train.to),
                (from.ip() == BRIDGES).then_some(from)
            );
        }
        let relayed = Train { to: relay::address(40_001, 0), range: 0..1, stride: 1, class: 0 };
        assert_eq!(across(&relayed), None);
    }
}
