use std::net::SocketAddr;

use crypto::Discard;
use sim::{Flight, Told, World};

use super::{died, mesh, millis, seconds};

fn elsewhere() -> SocketAddr {
    "[2001:db8:7::1]:4242".parse().unwrap()
}

fn connected() -> World {
    let mut world = mesh(2, 1, None).start();
    world.send(0, 1, 0).unwrap();
    world.run(seconds(1));
    world.nodes[1].events.clear();
    world
}

fn endpoint(world: &World, place: usize) -> Option<SocketAddr> {
    world.nodes[place].mesh.status()[0].endpoint
}

#[test]
fn a_peer_that_moves_is_followed_within_one_packet() {
    let mut world = connected();

    world.nodes[0].address = elsewhere();
    world.send(0, 1, 1).unwrap();
    world.run(millis(2));
    world.send(1, 0, 2).unwrap();
    world.run(millis(2));

    assert_eq!(world.nodes[1].numbers_from(world.v4(0)), [0, 1]);
    assert_eq!(world.nodes[0].numbers_from(world.v4(1)), [2]);
    assert_eq!(world.nodes[1].events, [Told::EndpointChanged("node-1".to_owned(), elsewhere())]);
}

#[test]
fn nothing_but_fresh_authentic_data_moves_an_endpoint() {
    let mut world = connected();
    let home = world.nodes[0].address;
    let recorded: Vec<Flight> = world.overheard.iter().cloned().collect();
    let kinds: Vec<u8> = recorded.iter().map(|flight| flight.datagram[0]).collect();
    assert!([1, 2, 4].iter().all(|kind| kinds.contains(kind)), "{kinds:?}");

    // Every message there was, again and with a bit turned, from somewhere else.
    for flight in recorded {
        let mut turned = flight.clone();
        turned.from = elsewhere();
        let _ = world.inject(turned.clone());
        *turned.datagram.last_mut().unwrap() ^= 1;
        let _ = world.inject(turned);
    }
    world.run(seconds(1));

    assert_eq!(endpoint(&world, 1), Some(home));
    assert_eq!(endpoint(&world, 0), Some(world.nodes[1].address));
    assert_eq!(world.nodes[1].events, []);
}

#[test]
fn a_fresh_handshake_from_elsewhere_is_answered_there_but_moves_nothing_before_data() {
    let mut world = mesh(2, 1, None).start();
    let home = world.nodes[0].address;
    world.send(0, 1, 0).unwrap();
    let initiation = world.overheard.back().cloned().unwrap();
    world.cut();

    world.inject(Flight { from: elsewhere(), ..initiation }).unwrap();

    let answer = world.overheard.back().unwrap();
    assert_eq!((answer.datagram[0], answer.to), (2, elsewhere()));
    assert_eq!(endpoint(&world, 1), Some(home));
}

#[test]
fn a_cookie_moves_nothing() {
    let mut world = mesh(2, 1, None).start();
    world.send(0, 1, 0).unwrap();
    let initiation = world.overheard.back().cloned().unwrap();
    world.cut();
    // Empties node 2's bucket for node 1, so that it answers with a cookie.
    while world.inject(initiation.clone()) != Err(Discard::CookieDemanded) {}
    let cookie = world.overheard.back().cloned().unwrap();
    assert_eq!(cookie.datagram[0], 3);
    world.cut();

    world.inject(Flight { from: elsewhere(), ..cookie }).unwrap();

    assert_eq!(endpoint(&world, 0), Some(world.nodes[1].address));
}

#[test]
fn a_learned_endpoint_outlives_a_configuration_that_did_not_change_it() {
    let mut world = connected();
    world.nodes[0].address = elsewhere();
    world.send(0, 1, 1).unwrap();
    world.run(seconds(1));
    let handshakes = world.nodes[1].handshakes();

    world.nodes[1].peers[0].allowed.push("10.77.0.0/16".parse().unwrap());
    world.configure(1);
    world.send(1, 0, 2).unwrap();
    world.run(seconds(1));

    assert_eq!(endpoint(&world, 1), Some(elsewhere()));
    assert_eq!(world.nodes[0].numbers_from(world.v4(1)), [2]);
    assert_eq!(world.nodes[1].handshakes(), handshakes, "the session stays as well");

    let new = "198.51.100.77:51820".parse().unwrap();
    world.nodes[1].peers[0].endpoint = Some(new);
    world.configure(1);
    assert_eq!(endpoint(&world, 1), Some(new), "a changed one wins");
}

#[test]
fn a_peer_without_an_endpoint_is_learned_from_what_it_sends() {
    let mut world = mesh(2, 1, None);
    world.nodes[1].peers[0].endpoint = None;
    let mut world = world.start();
    assert_eq!(world.send(1, 0, 1), Err(Discard::NoEndpoint));

    world.send(0, 1, 2).unwrap();
    world.run(seconds(1));
    world.send(1, 0, 3).unwrap();
    world.run(seconds(1));

    assert_eq!(world.nodes[0].numbers_from(world.v4(1)), [3]);
    assert_eq!(died(&world.nodes[1], Discard::NoEndpoint), 1);
}
