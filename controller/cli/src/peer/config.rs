//! A plain peer's configuration as `wg-quick` and the phones' apps read it. Pure.

use std::fmt::Write as _;

use ipnet::IpNet;
use keys::PrivateKey;
use zeroize::Zeroizing;

use super::entries::Entry;

/// Keeps a NAT's mapping open, so that the mesh can speak first.
const KEEPALIVE: u16 = 25;
/// What fits into 1500 bytes over IPv4 and IPv6.
const LARGEST_MTU: u16 = 1420;
/// Below this Linux takes IPv6 off a device (RFC 8200, section 5).
const SMALLEST_MTU: u16 = 1280;
/// Longer than any of these, so the text is never moved: that would leave a copy behind.
const LONGEST: usize = 8192;

/// What all of a peer's configurations have in common.
pub struct Peer<'a> {
    pub name: &'a str,
    pub key: &'a PrivateKey,
    pub addresses: &'a [IpNet],
    /// What it may reach: the mesh's pools.
    pub allowed: &'a [IpNet],
    pub mtu: u16,
}

impl Peer<'_> {
    /// The file for one entry. Holds the private key: for a file of mode 0600, or the operator's
    /// eyes.
    pub fn through(&self, entry: &Entry) -> Zeroizing<String> {
        let Entry { name, key, endpoint, mtu: _ } = entry;
        let mut text = Zeroizing::new(String::with_capacity(LONGEST));
        let written = write!(
            text,
            "# {} through {name}\n\
             [Interface]\nPrivateKey = {}\nAddress = {}\nMTU = {}\n\n\
             [Peer]\nPublicKey = {key}\nEndpoint = {endpoint}\nAllowedIPs = {}\n\
             PersistentKeepalive = {KEEPALIVE}\n",
            self.name,
            self.key.to_base64().as_str(),
            list(self.addresses),
            self.mtu,
            list(self.allowed),
        );
        written.expect("a string takes what is written");
        text
    }
}

/// What fits through all of `mtus`, as far as they are known.
pub fn mtu(mtus: impl IntoIterator<Item = u16>) -> u16 {
    mtus.into_iter().min().unwrap_or(LARGEST_MTU).clamp(SMALLEST_MTU, LARGEST_MTU)
}

fn list(nets: &[IpNet]) -> String {
    nets.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_configuration_is_what_wg_quick_reads() {
        let key = PrivateKey::from_bytes([7; 32]);
        let addresses = nets(&["10.42.255.2/32", "fd42:0:0:ffff::2/128"]);
        let allowed = nets(&["10.42.0.0/16", "fd42::/48"]);
        let peer =
            Peer { name: "laptop", key: &key, addresses: &addresses, allowed: &allowed, mtu: 1420 };
        let entry = Entry {
            name: "node-1".into(),
            key: fixture::key(1).parse().unwrap(),
            endpoint: "[2001:db8::1]:51820".parse().unwrap(),
            mtu: None,
        };

        let text = peer.through(&entry);

        let expected = format!(
            "# laptop through node-1\n\
             [Interface]\nPrivateKey = {}\nAddress = 10.42.255.2/32, fd42:0:0:ffff::2/128\n\
             MTU = 1420\n\n[Peer]\nPublicKey = {}\nEndpoint = [2001:db8::1]:51820\n\
             AllowedIPs = 10.42.0.0/16, fd42::/48\nPersistentKeepalive = 25\n",
            key.to_base64().as_str(),
            fixture::key(1),
        );
        assert_eq!(*text, expected);
        assert_eq!(text.capacity(), LONGEST, "it was moved");
    }

    #[test]
    fn the_mtu_fits_through_every_tunnel_and_ipv6_stays() {
        assert_eq!(mtu([]), 1420);
        assert_eq!(mtu([8920, 1370]), 1370);
        assert_eq!(mtu([8920]), 1420);
        assert_eq!(mtu([900]), 1280);
    }
}
