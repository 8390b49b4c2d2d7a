//! Addresses of the underlay: one for each family, computed from numbers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// An IPv4 and an IPv6 address of one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    pub v4: Ipv4Addr,
    pub v6: Ipv6Addr,
}

/// The last octet of a switch's own address, where machines send what they have no route for.
pub(super) const GATEWAY: u16 = 254;
pub(super) const PREFIX_V4: u8 = 24;
pub(super) const PREFIX_V6: u8 = 64;

impl Pair {
    /// Host `host` on switch `switch`: 10.99.1.7 and fd99:0:0:1::7.
    pub(super) fn on_switch(switch: u32, host: u16) -> Self {
        assert!(switch < 256 && host < 255, "a lab has room for 255 switches of 253 machines");
        Self {
            v4: Ipv4Addr::new(10, 99, switch as u8, host as u8),
            v6: Ipv6Addr::new(0xfd99, 0, 0, switch as u16, 0, 0, 0, host),
        }
    }

    pub fn both(self) -> [IpAddr; 2] {
        [self.v4.into(), self.v6.into()]
    }

    pub fn sockets(self, port: u16) -> [SocketAddr; 2] {
        self.both().map(|address| SocketAddr::new(address, port))
    }
}
