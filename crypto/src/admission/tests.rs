use keys::{KeyEpoch, PublicKey};

use super::{Own, admit};
use crate::{PeerConfig, Problem};

fn key(byte: u8) -> PublicKey {
    PublicKey::from_bytes([byte; 32])
}

fn peer(name: &str, keys: &[(u32, u8)], allowed: &[&str]) -> PeerConfig {
    PeerConfig {
        name: name.to_owned(),
        keys: keys.iter().map(|&(epoch, byte)| (KeyEpoch(epoch), key(byte))).collect(),
        send_to: None,
        follows: true,
        preshared_key: None,
        endpoint: None,
        keepalive: None,
        allowed: allowed.iter().map(|prefix| prefix.parse().unwrap()).collect(),
        others: Vec::new(),
        forwards: Vec::new(),
        relayed: false,
    }
}

fn judged(peers: Vec<PeerConfig>) -> (Vec<PeerConfig>, Vec<Problem>) {
    let own = ["10.42.1.0/24".parse().unwrap()];
    admit(peers, &Own { keys: &[key(200)], prefixes: &own })
}

#[test]
fn a_list_without_rivals_is_taken_by_name_with_the_newest_key_last() {
    let two = peer("two", &[(3, 12), (1, 11)], &["10.42.2.0/24"]);
    let one = peer("one", &[(1, 10)], &["fd42::/64", "10.42.3.0/24"]);

    let (peers, problems) = judged(vec![two, one.clone()]);

    assert_eq!(problems, []);
    assert_eq!(peers[0], one);
    assert_eq!(peers[1].keys, [(KeyEpoch(1), key(11)), (KeyEpoch(3), key(12))]);
}

#[test]
fn of_two_rivals_the_same_one_wins_in_whatever_order_they_come() {
    let a = peer("a", &[(1, 10)], &["10.42.2.0/24"]);
    let b = peer("b", &[(1, 10), (2, 20)], &["10.42.2.9/24", "10.42.3.0/24"]);

    let forwards = judged(vec![a.clone(), b.clone()]);

    assert_eq!(forwards, judged(vec![b, a.clone()]));
    let (peers, problems) = forwards;
    assert_eq!(peers, [a, peer("b", &[(2, 20)], &["10.42.3.0/24"])]);
    let (a, b) = ("a".to_owned(), "b".to_owned());
    let prefix = "10.42.2.9/24".parse().unwrap();
    assert_eq!(
        problems,
        [Problem::SameKey(a.clone(), b.clone()), Problem::SamePrefix(a, b, prefix)]
    );
}

#[test]
fn nobody_takes_our_key_our_prefix_or_a_key_of_nobody() {
    let (peers, problems) = judged(vec![peer("a", &[(1, 200), (2, 0)], &["10.42.1.0/24"])]);

    assert_eq!(peers, [peer("a", &[], &[])]);
    let name = || "a".to_owned();
    let prefix = "10.42.1.0/24".parse().unwrap();
    assert_eq!(
        problems,
        [Problem::OwnKey(name()), Problem::LowOrderKey(name()), Problem::OwnPrefix(name(), prefix)]
    );
}

#[test]
fn one_name_is_one_peer_and_one_epoch_one_key() {
    let twice = vec![peer("a", &[(1, 10), (1, 11)], &[]), peer("a", &[(1, 12)], &[])];

    let (peers, problems) = judged(twice);

    assert_eq!(peers, [peer("a", &[(1, 10)], &[])]);
    let same_epoch = Problem::SameEpoch("a".to_owned(), KeyEpoch(1));
    assert_eq!(problems, [Problem::SameName("a".to_owned()), same_epoch]);
}

#[test]
fn the_same_prefix_twice_from_one_peer_is_no_problem() {
    let (peers, problems) = judged(vec![peer("a", &[], &["10.42.2.0/24", "10.42.2.7/24"])]);

    assert_eq!(problems, []);
    assert_eq!(peers[0].allowed.len(), 1);
}
