use std::net::SocketAddr;

use super::*;
use crate::{
    Event, PeerConfig,
    mesh::tests::{Pair, address, peer},
    relay::{self, Detour},
};

/// Datagrams, and to where.
#[derive(Default)]
struct Sent(Vec<(SocketAddr, Vec<u8>)>);

impl Outbox for Sent {
    fn send(&mut self, to: SocketAddr, datagram: &[u8]) {
        self.0.push((to, datagram.to_vec()));
    }

    fn deliver(&mut self, _: &[u8]) {}

    fn event(&mut self, _: Event<'_>) {}
}

fn told(number: u8, others: &[u8]) -> PeerConfig {
    PeerConfig {
        relayed: true,
        others: others.iter().map(|number| address(*number)).collect(),
        ..peer(number, &[(1, number)])
    }
}

/// Each end reaches the other by a relay alone from now on.
fn relayed() -> Pair {
    let mut pair = Pair::connected();
    pair.tell_a(told(2, &[7]));
    pair.tell_b(told(1, &[8]));
    for (mesh, other) in [(&pair.a, "node-2"), (&pair.b, "node-1")] {
        let id = relay::id(other);
        mesh.paths().set_detour(id, Detour::Relay(0));
    }
    pair
}

/// What node 1 sends while so much time passes.
fn sent(pair: &mut Pair, time: Duration) -> Vec<(SocketAddr, Vec<u8>)> {
    let (mut sent, end) = (Sent::default(), pair.now + time);
    while pair.now < end {
        pair.a.tick(&mut sent, pair.now);
        pair.now += Duration::from_millis(4);
    }
    sent.0
}

fn to(sent: &[(SocketAddr, Vec<u8>)], number: u8) -> usize {
    sent.iter().filter(|(to, _)| *to == address(number)).count()
}

#[test]
fn one_that_a_relay_reaches_is_called_where_it_may_be_for_a_while() {
    let mut pair = relayed();

    let first = sent(&mut pair, Duration::from_secs(3));
    let next = sent(&mut pair, Duration::from_secs(12));
    let later = sent(&mut pair, Duration::from_secs(60));

    for place in [2, 7] {
        let calls = [&first, &next, &later].map(|sent| to(sent, place));
        assert!((11..=13).contains(&calls[0]) && (10..=12).contains(&calls[1]), "{calls:?}");
        assert_eq!(calls[2], 0);
    }

    pair.tell_a(told(2, &[7, 9]));
    assert!(to(&sent(&mut pair, Duration::from_secs(1)), 9) >= 3, "there is a new place");
    let mut heard = Sent::default();
    pair.b.announce(&mut heard, pair.now);
    pair.a.open(&heard.0[0].1, address(9), &mut Sent::default(), pair.now).unwrap();
    assert_eq!(pair.a.status()[0].endpoint, Some(address(9)));
    assert_eq!(to(&sent(&mut pair, Duration::from_secs(9)), 7), 0, "it is found");
}

#[test]
fn a_call_that_arrives_is_answered_where_it_came_from() {
    let mut pair = relayed();
    let calls = sent(&mut pair, Duration::from_millis(20));
    let (_, call) = calls.iter().find(|(to, _)| *to == address(7)).unwrap();

    let mut answer = Sent::default();
    pair.b.open(call, address(99), &mut answer, pair.now).unwrap();

    assert_eq!(pair.b.status()[0].endpoint, Some(address(99)));
    let (_, heard) = answer.0.iter().find(|(to, _)| *to == address(99)).unwrap();
    pair.a.open(heard, address(7), &mut Sent::default(), pair.now).unwrap();
    assert_eq!(pair.a.status()[0].endpoint, Some(address(7)));
}

#[test]
fn a_silent_peer_is_called_at_a_new_place_and_one_that_speaks_is_not() {
    for (silence, called) in [(0, false), (2, true)] {
        let mut pair = Pair::connected();
        pair.now += Duration::from_secs(silence);

        let (mut made, now) = (Sent::default(), pair.now);
        pair.a.set_peers(vec![told(2, &[7])], &[], &mut made, now);

        assert_eq!(to(&made.0, 7) > 0, called, "{silence} s");
    }
}
