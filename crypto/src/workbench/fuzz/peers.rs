//! Lists of peers, routes and the text of keys.

use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;
use keys::{KeyEpoch, PresharedKey, PrivateKey, PublicKey};

use super::input::Input;
use crate::{
    PeerConfig, Routes,
    admission::{Own, admit},
};

/// Few bits, so that prefixes meet.
fn address(input: &mut Input<'_>) -> IpAddr {
    let [family, a, b] = input.array();
    if family % 2 == 0 {
        Ipv4Addr::new(10, a & 3, b & 3, b).into()
    } else {
        Ipv6Addr::from_bits(0xfd42 << 112 | u128::from(a) << 64 | u128::from(b)).into()
    }
}

fn prefix(input: &mut Input<'_>) -> IpNet {
    let address = address(input);
    let longest = if address.is_ipv4() { 32 } else { 128 };
    IpNet::new(address, input.byte() % (longest + 1)).expect("a length of that family")
}

/// The longest prefix wins, as it does when all are tried one after the other.
pub(super) fn routes(data: &[u8]) {
    let mut input = Input::new(data);
    let mut routes = Routes::default();
    let mut list: Vec<(IpNet, u8)> = Vec::new();
    for owner in 0..input.byte() % 32 {
        let prefix = prefix(&mut input).trunc();
        let before = routes.insert(prefix, owner);
        let place = list.iter().position(|(other, _)| *other == prefix);
        assert_eq!(before, place.map(|place| list.swap_remove(place).1));
        list.push((prefix, owner));
    }
    while !input.is_empty() {
        let address = address(&mut input);
        let longest = list
            .iter()
            .filter(|(prefix, _)| prefix.contains(&address))
            .max_by_key(|(prefix, _)| prefix.prefix_len());
        assert_eq!(routes.owner_of(address), longest.map(|(_, owner)| *owner));
    }
}

/// Of any list, no two peers share a name, a key or a prefix, and none has ours.
pub(super) fn peers(data: &[u8]) {
    let mut input = Input::new(data);
    let own_keys = [PublicKey::from_bytes([9; 32])];
    let own = [prefix(&mut input)];
    let mut list = Vec::new();
    while !input.is_empty() && list.len() < 32 {
        list.push(config(&mut input));
    }

    let (admitted, _) = admit(list, &Own { keys: &own_keys, prefixes: &own });

    let (mut names, mut keys, mut prefixes) = (HashSet::new(), HashSet::new(), HashSet::new());
    for peer in &admitted {
        assert!(names.insert(&peer.name));
        assert!(peer.keys.is_sorted_by(|a, b| a.0 < b.0));
        for (_, key) in &peer.keys {
            assert!(keys.insert(*key) && !own_keys.contains(key) && !key.is_low_order());
        }
        for allowed in &peer.allowed {
            assert!(prefixes.insert(allowed.trunc()) && allowed.trunc() != own[0].trunc());
        }
    }
}

fn config(input: &mut Input<'_>) -> PeerConfig {
    let [name, keys, allowed] = input.array();
    let key = |input: &mut Input<'_>| {
        let [epoch, key] = input.array();
        (KeyEpoch(u32::from(epoch % 4)), PublicKey::from_bytes([key % 16; 32]))
    };
    PeerConfig {
        name: (name % 16).to_string(),
        keys: (0..keys % 4).map(|_| key(input)).collect(),
        allowed: (0..allowed % 4).map(|_| prefix(input)).collect(),
        ..super::mesh::config("", 0)
    }
}

/// Text that is a key gives back the same text; an error never repeats the text.
pub(super) fn key_text(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match text.parse::<PublicKey>() {
        Ok(key) => {
            assert_eq!(key.to_string(), text.trim());
            assert_eq!(PublicKey::from_published(&text).is_err(), key.is_low_order());
        }
        Err(error) => assert!(text.len() != 44 || !error.to_string().contains(&*text)),
    }
    if let Ok(private) = PrivateKey::from_base64(&text) {
        assert_eq!(*private.to_base64(), text.trim());
    }
    let _ = PresharedKey::from_base64(&text);
}
