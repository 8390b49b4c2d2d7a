use std::net::{Ipv4Addr, SocketAddr};

use crypto::Discard;
use sim::{Engine, Flight, World};

use super::{died, mesh, seconds};

/// Three nodes, and an initiation with a valid mac1 from node 3, whom node 2 does not know.
fn flooded() -> (World, Flight) {
    let mut world = mesh(3, 1, None);
    world.nodes[1].peers.retain(|peer| peer.name != "node-3");
    let mut world = world.start();
    world.send(2, 1, 1).unwrap();
    let initiation = world.overheard.back().cloned().unwrap();
    world.cut();
    (world, initiation)
}

fn cookies_to(world: &World, to: SocketAddr) -> usize {
    world.overheard.iter().filter(|f| f.datagram[0] == 3 && f.to == to).count()
}

#[test]
fn one_flooder_is_asked_for_cookies_and_nobody_else_is() {
    let (mut world, initiation) = flooded();
    let flooder = initiation.from;

    for _ in 0..10_000 {
        let _ = world.inject(initiation.clone());
    }
    world.send(0, 1, 7).unwrap();
    world.run(seconds(1));

    assert_eq!(world.nodes[1].numbers_from(world.v4(0)), [7]);
    assert_eq!(cookies_to(&world, world.nodes[0].address), 0);
    let cookies = cookies_to(&world, flooder) as u64;
    assert!(cookies + died(&world.nodes[1], Discard::CookieLimit) > 9_900);
    if world.nodes[1].mesh.engine() == Engine::Native {
        assert!(cookies < 2_100, "there are only so many cookies in a second: {cookies}");
    }
    assert!(died(&world.nodes[1], Discard::UnknownPeer) < 50, "only these cost a key exchange");
}

#[test]
fn a_flood_from_everywhere_delays_a_peer_by_a_round_trip_at_most() {
    let (mut world, initiation) = flooded();

    for source in 0..20_000u32 {
        let from = (Ipv4Addr::from_bits(0x0b00_0000 + source), 1).into();
        let _ = world.inject(Flight { from, ..initiation.clone() });
    }
    world.send(0, 1, 7).unwrap();
    world.run(seconds(1));

    // Our own engine knows where its peers are and has an allowance for them alone.
    let asked = usize::from(world.nodes[1].mesh.engine() == Engine::Boringtun);
    assert_eq!(cookies_to(&world, world.nodes[0].address), asked);
    assert!(died(&world.nodes[1], Discard::CookieDemanded) > 1_500, "the flood was felt");
    assert_eq!(world.nodes[1].numbers_from(world.v4(0)), [7]);
    assert!(died(&world.nodes[1], Discard::UnknownPeer) < 1_100);
}

#[test]
fn somebody_who_forges_a_peers_address_does_not_lock_the_peer_out() {
    let (mut world, initiation) = flooded();
    let victim = world.nodes[0].address;

    for _ in 0..10_000 {
        let _ = world.inject(Flight { from: victim, ..initiation.clone() });
    }
    world.cut();
    world.send(0, 1, 7).unwrap();
    world.run(seconds(1));

    assert_eq!(world.nodes[1].numbers_from(world.v4(0)), [7]);
}

#[test]
fn a_handshake_that_was_not_made_for_us_costs_no_ones_allowance() {
    let (mut world, mut initiation) = flooded();
    initiation.from = world.nodes[0].address;
    initiation.datagram[120] ^= 1;

    for _ in 0..10_000 {
        assert_eq!(world.inject(initiation.clone()), Err(Discard::BadMac));
    }
    world.send(0, 1, 7).unwrap();
    world.run(seconds(1));

    assert_eq!(cookies_to(&world, world.nodes[0].address), 0);
    assert_eq!(world.nodes[1].numbers_from(world.v4(0)), [7]);
}
