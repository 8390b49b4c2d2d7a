//! What a node may publish: the judgement that the controller reports and every agent applies.
//!
//! A status is written by the node itself, so each text in it is somebody else's input. What is
//! refused here is left out by agents and named in a condition by the controller.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use keys::{KeyEpoch, KeyError, PublicKey};

use crate::PublishedKey;

/// Why a published key is not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    #[error("key epochs count from 1")]
    Epoch,
    #[error("public key of epoch {epoch}: {source}")]
    Key {
        epoch: u32,
        #[source]
        source: KeyError,
    },
    #[error("epoch {0} has two public keys")]
    EpochTwice(u32),
}

/// Why a published endpoint is not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadEndpoint {
    #[error("endpoint {0:?} is no address:port, such as 192.0.2.1:51820 or [2001:db8::1]:51820")]
    Malformed(String),
    #[error("endpoint {0} has no port")]
    NoPort(SocketAddr),
    #[error("endpoint {0} does not lead to another machine")]
    Nowhere(SocketAddr),
    #[error("endpoint {endpoint} lies inside {range}, which the mesh itself carries")]
    InsideMesh { endpoint: SocketAddr, range: IpNet },
}

/// A published key, if peers may use it.
pub fn public_key(published: &PublishedKey) -> Result<(KeyEpoch, PublicKey), BadKey> {
    let PublishedKey { epoch, public_key } = published;
    if *epoch == 0 {
        return Err(BadKey::Epoch);
    }
    match PublicKey::from_published(public_key) {
        Ok(key) => Ok((KeyEpoch(*epoch), key)),
        Err(source) => Err(BadKey::Key { epoch: *epoch, source }),
    }
}

/// All keys that peers may use, and what is wrong with the others. Of two keys of one epoch
/// neither is used.
pub fn public_keys(published: &[PublishedKey]) -> (Vec<(KeyEpoch, PublicKey)>, Vec<BadKey>) {
    let mut good = Vec::new();
    let mut bad = Vec::new();
    for one in published {
        let twice = published.iter().filter(|other| other.epoch == one.epoch);
        if twice.count() > 1 {
            bad.push(BadKey::EpochTwice(one.epoch));
            continue;
        }
        match public_key(one) {
            Ok(key) => good.push(key),
            Err(problem) => bad.push(problem),
        }
    }
    bad.dedup();
    (good, bad)
}

/// A published endpoint, if it leads over the underlay to another machine. `mesh` holds the pools
/// and the service ranges.
pub fn endpoint(text: &str, mesh: &[IpNet]) -> Result<SocketAddr, BadEndpoint> {
    let endpoint: SocketAddr =
        text.parse().map_err(|_| BadEndpoint::Malformed(text.chars().take(64).collect()))?;
    if endpoint.port() == 0 {
        return Err(BadEndpoint::NoPort(endpoint));
    }
    let address = endpoint.ip().to_canonical();
    if leads_nowhere(address) {
        return Err(BadEndpoint::Nowhere(endpoint));
    }
    match mesh.iter().find(|range| range.contains(&address)) {
        Some(range) => Err(BadEndpoint::InsideMesh { endpoint, range: *range }),
        None => Ok(endpoint),
    }
}

/// A published SHA-256 of a certificate: 64 hexadecimal digits.
pub fn fingerprint(text: &str) -> Option<[u8; 32]> {
    let digits: Vec<u8> =
        text.chars().map(|c| c.to_digit(16).map(|digit| digit as u8)).collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits.chunks_exact(2).map(|two| two[0] << 4 | two[1]).collect();
    bytes.try_into().ok().filter(|_| digits.len() == 64)
}

fn leads_nowhere(address: IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    address.is_loopback() || address.is_multicast() || address.is_unspecified() || broadcast
}

/// A machine's own address, if pods of other nodes may reach it through the tunnel: one of another
/// machine, and none that the mesh or a link carries itself. `mesh` holds the pools and the service
/// ranges.
pub fn machine_address(text: &str, mesh: &[IpNet]) -> Option<IpAddr> {
    let address = text.parse::<IpAddr>().ok()?.to_canonical();
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    let inside = mesh.iter().any(|range| range.contains(&address));
    (!leads_nowhere(address) && !link_local && !inside).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(epoch: u32, byte: u8) -> PublishedKey {
        PublishedKey { epoch, public_key: PublicKey::from_bytes([byte; 32]).to_string() }
    }

    #[test]
    fn a_fingerprint_is_sixty_four_digits_and_nothing_else() {
        let bytes: [u8; 32] = std::array::from_fn(|place| place as u8 * 7);
        let text = crate::join::hex(&bytes);
        assert_eq!(fingerprint(&text), Some(bytes));
        for bad in ["", &text[1..], &format!("{text}0"), &format!("g{}", &text[1..])] {
            assert_eq!(fingerprint(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_low_order_malformed_or_doubled_key_is_refused() {
        let mut malformed = key(4, 9);
        malformed.public_key.push('x');
        let published = [key(1, 9), key(2, 0), key(0, 9), key(3, 8), key(3, 9), malformed];

        let (good, bad) = public_keys(&published);

        assert_eq!(good, [(KeyEpoch(1), PublicKey::from_bytes([9; 32]))]);
        assert_eq!(bad.len(), 4);
        assert!(bad[0].to_string().contains("low-order"));
        assert!(bad.contains(&BadKey::EpochTwice(3)));
    }

    #[test]
    fn an_endpoint_that_leads_nowhere_or_into_the_mesh_is_refused() {
        let mesh = ["10.42.0.0/16".parse().unwrap(), "fd42::/48".parse().unwrap()];
        for text in [
            "127.0.0.1:51820",
            "[::1]:51820",
            "[::ffff:127.0.0.1]:51820",
            "0.0.0.0:51820",
            "[::]:51820",
            "224.0.0.1:51820",
            "[ff02::1]:51820",
            "255.255.255.255:51820",
            "10.42.3.4:51820",
            "[::ffff:10.42.3.4]:51820",
            "[fd42::7]:51820",
            "192.0.2.1:0",
            "192.0.2.1",
            "edge.example:51820",
        ] {
            assert!(endpoint(text, &mesh).is_err(), "{text}");
        }

        assert!(endpoint("192.0.2.1:51820", &mesh).is_ok());
        assert!(endpoint("[2001:db8::1]:51820", &mesh).is_ok());
    }
}
