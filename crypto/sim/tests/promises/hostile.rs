use std::net::IpAddr;

use crypto::Discard;
use sim::{Flight, World, packet};

use super::{died, mesh, millis, seconds};

#[test]
fn a_replay_is_never_delivered_twice() {
    let mut world = mesh(2, 1, None).start();
    for number in 0..3000 {
        world.send(0, 1, number).unwrap();
        world.run(millis(100));
    }
    let recorded: Vec<Flight> = world.overheard.iter().cloned().collect();
    assert_eq!(world.nodes[1].delivered.len(), 3000);

    // Now (two rekeys later), and once more after another one.
    for _ in 0..2 {
        for flight in &recorded {
            let _ = world.inject(flight.clone());
        }
        for number in 3000..4500 {
            world.send(0, 1, number).unwrap();
            world.run(millis(100));
        }
    }

    let mut numbers = world.nodes[1].numbers_from(world.v4(0));
    assert_eq!(numbers.len(), 3000 + 2 * 1500);
    numbers.truncate(4500);
    assert!(numbers.is_sorted());
    let (replays, gone) =
        (died(&world.nodes[1], Discard::Replay), died(&world.nodes[1], Discard::NoSession));
    assert!(replays > 1000 && gone > 1000, "{replays} replays, {gone} of dead sessions");
}

/// Node 3 owns the whole of 10.0.0.0/8 and ::/0; within, node 2 owns 10.42.2.0/24.
fn world_with_a_wide_peer() -> World {
    let mut world = mesh(3, 1, None);
    for node in &mut world.nodes {
        for peer in node.peers.iter_mut().filter(|peer| peer.name == "node-3") {
            peer.allowed.push("10.0.0.0/8".parse().unwrap());
            peer.allowed.push("::/0".parse().unwrap());
        }
    }
    world.start()
}

#[test]
fn a_peer_cannot_send_from_anothers_address() {
    let mut world = world_with_a_wide_peer();
    let us = world.v4(0);
    let theirs: IpAddr = "10.99.0.1".parse().unwrap();
    let (anothers, our_own) = (world.v4(1), world.v4(0));

    world.seal(2, &packet(theirs, us, 1)).unwrap();
    world.seal(2, &packet(anothers, us, 2)).unwrap();
    world.seal(2, &packet(our_own, us, 3)).unwrap();
    world.run(seconds(1));

    assert_eq!(world.nodes[0].numbers_from(theirs), [1], "the control: its own address is fine");
    assert_eq!(world.nodes[0].delivered.len(), 1);
    assert_eq!(died(&world.nodes[0], Discard::NotTheirAddress), 1);
    assert_eq!(died(&world.nodes[0], Discard::OwnSource), 1);
}

#[test]
fn a_gateway_hands_on_packets_of_whom_is_behind_it_and_of_nobody_else_until_it_is_none() {
    let mut world = mesh(4, 7, None);
    let behind: Vec<_> = world.nodes[0].peers[1].allowed.clone();
    world.nodes[0].peers[2].forwards = behind;
    let mut world = world.start();
    let (us, behind, another, our_own) = (world.v6(0), world.v6(2), world.v6(1), world.v6(0));

    for (number, source) in [(1, behind), (2, another), (3, our_own)] {
        world.seal(3, &packet(source, us, number)).unwrap();
    }
    world.run(seconds(1));
    assert_eq!(world.nodes[0].numbers_from(behind), [1]);
    assert_eq!(world.nodes[0].delivered.len(), 1);
    assert_eq!(died(&world.nodes[0], Discard::NotTheirAddress), 1);
    assert_eq!(died(&world.nodes[0], Discard::OwnSource), 1);

    world.nodes[0].peers[2].forwards.clear();
    world.configure(0);
    world.seal(3, &packet(behind, us, 4)).unwrap();
    world.run(seconds(1));
    assert_eq!(died(&world.nodes[0], Discard::NotTheirAddress), 2);
    assert_eq!(world.nodes[0].delivered.len(), 1);
}

#[test]
fn an_address_of_nobody_is_refused_even_from_the_owner_of_everything() {
    let mut world = world_with_a_wide_peer();
    let us = world.v6(0);
    let martians = ["::ffff:10.42.2.5", "::1", "::", "ff02::1", "fe80::1", "::10.42.2.5"]
        .map(|text| text.parse::<IpAddr>().unwrap());

    for martian in martians {
        world.seal(2, &packet(martian, us, 1)).unwrap();
    }
    world.seal(2, &packet("2001:db8::1".parse().unwrap(), us, 2)).unwrap();
    world.run(seconds(1));

    assert_eq!(died(&world.nodes[0], Discard::Martian), martians.len() as u64);
    assert_eq!(world.nodes[0].delivered.len(), 1, "the control");
}

#[test]
fn garbage_of_every_length_is_counted_and_nothing_stops() {
    let mut world = mesh(2, 7, None).start();
    let (from, to) = (world.nodes[0].address, world.nodes[1].address);

    for length in 0..2000usize {
        let kind = world.random().below(6) as u8;
        let mut datagram: Vec<u8> = (0..length).map(|_| world.random().number() as u8).collect();
        if length >= 4 {
            datagram[..4].copy_from_slice(&[kind, 0, 0, 0]);
        }
        assert!(world.inject(Flight { from, to, datagram }).is_err());
    }
    world.send(0, 1, 1).unwrap();
    world.run(seconds(1));

    assert_eq!(world.nodes[1].numbers_from(world.v4(0)), [1]);
    let died: u64 = world.nodes[1].mesh.discards().iter().map(|(_, count)| count).sum();
    assert_eq!(died, 2000);
}

#[test]
fn a_forged_response_that_is_faster_than_the_real_one_stops_nothing() {
    let mut world = mesh(2, 1, None).start();
    world.send(0, 1, 1).unwrap();
    world.run(millis(1));
    let response = world.overheard.back().cloned().unwrap();
    assert_eq!(response.datagram[0], 2);

    // mac1 is over the first 60 bytes only if they are right: an attacker who knows the public key
    // can make it. Here the authentic part is broken and mac1 with it, or mac1 alone is right.
    for byte in 12..60 {
        let mut forged = response.clone();
        forged.datagram[byte] ^= 1;
        assert!(world.inject(forged).is_err());
    }
    world.run(seconds(1));

    assert_eq!(world.nodes[1].numbers_from(world.v4(0)), [1]);
}

#[test]
fn a_removed_peer_is_not_heard_any_more() {
    let mut world = mesh(2, 1, None).start();
    world.send(0, 1, 1).unwrap();
    world.run(seconds(1));

    world.nodes[1].peers.clear();
    world.configure(1);
    world.send(0, 1, 2).unwrap();
    world.run(seconds(200));

    assert_eq!(world.nodes[1].numbers_from(world.v4(0)), [1]);
    assert!(died(&world.nodes[1], Discard::UnknownReceiver) > 0);
    assert!(died(&world.nodes[1], Discard::UnknownPeer) > 0);
}
