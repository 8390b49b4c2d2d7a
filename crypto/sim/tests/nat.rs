//! Nodes behind NATs find each other: each is told where the others are seen, and both call.

#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers as well")]

use std::{net::SocketAddr, time::Duration};

use crypto::PeerConfig;
use keys::{KeyEpoch, PrivateKey};
use sim::{Engines, Mapping, Nat, Told, World};

const IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE: Duration = Duration::from_secs(25);
const SOON: Duration = Duration::from_secs(2);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Two nodes behind such NATs, or none, that know only each other's inside address.
fn pair(nats: [Option<Mapping>; 2]) -> World {
    apart(nats).start()
}

/// The same before they begin.
fn apart(nats: [Option<Mapping>; 2]) -> World {
    let mut world = World::mesh(Engines::Native, 2, 7, Some(KEEPALIVE));
    for (place, mapping) in nats.into_iter().enumerate() {
        let outside = [198, 51, 100, place as u8 + 1].into();
        world.nodes[place].nat = mapping.map(|mapping| Nat::new(mapping, outside, IDLE));
    }
    world
}

/// Tells the node at `place` where the other is seen.
fn tell(world: &mut World, place: usize) {
    let seen = world.nodes[1 - place].nat.as_ref().map(Nat::outside);
    world.nodes[place].peers[0].others = seen.into_iter().collect();
    world.configure(place);
}

fn established(world: &World) -> bool {
    world.nodes.iter().all(|node| node.mesh.status()[0].established)
}

fn at(world: &World, place: usize) -> Option<SocketAddr> {
    world.nodes[place].mesh.status()[0].endpoint
}

/// Both can send to each other now.
fn exchange(world: &mut World, number: u64) -> bool {
    world.send(0, 1, number).unwrap();
    world.send(1, 0, number).unwrap();
    world.run(Duration::from_millis(100));
    let [a, b] = [world.v4(0), world.v4(1)];
    world.nodes[1].numbers_from(a).contains(&number)
        && world.nodes[0].numbers_from(b).contains(&number)
}

#[test]
fn two_behind_nats_of_one_mapping_meet_as_soon_as_both_know_where_the_other_is_seen() {
    for apart in [0, 1, 4, 20] {
        let mut world = pair([Some(Mapping::One); 2]);
        world.run(seconds(10));
        assert!(!established(&world), "nobody was told anything");

        tell(&mut world, 0);
        world.run(seconds(apart));
        tell(&mut world, 1);
        world.run(SOON);

        assert!(established(&world) && exchange(&mut world, 1), "{apart} s apart");
        let seen = world.nodes[1].nat.as_ref().map(Nat::outside);
        assert_eq!(at(&world, 0), seen);
    }
}

/// Only the caller behind its NAT can begin, and it is a stranger until the other end hears of it.
#[test]
fn whoever_is_told_of_the_other_late_is_met_two_seconds_later() {
    let (one, each) = (Some(Mapping::One), Some(Mapping::Each));
    for nats in [[None, None], [one, None], [each, None], [one, one]] {
        for late in [0, 300, 1700, 2900, 7000, 14_000] {
            let mut world = apart(nats);
            for (place, other) in [(0, 1), (1, 0)] {
                let seen = world.nodes[other].nat.as_ref().map(Nat::outside);
                world.nodes[place].peers[0].others = seen.into_iter().collect();
            }
            let told = std::mem::take(&mut world.nodes[1].peers);
            let mut world = world.start();
            world.run(millis(late));
            assert!(!established(&world));

            world.nodes[1].peers = told;
            world.configure(1);
            world.run(SOON);

            assert!(established(&world) && exchange(&mut world, 1), "{nats:?}, {late} ms");
        }
    }
}

#[test]
fn quick_calls_over_a_long_way_make_one_session() {
    let mut world = apart([None, None]);
    world.link.delay = millis(400);
    let mut world = world.start();
    world.send(0, 1, 1).unwrap();
    world.run(SOON);
    assert!(established(&world));
    world.run(seconds(10));

    assert_eq!([0, 1].map(|place| world.nodes[place].handshakes()), [1, 1]);
    assert_eq!(world.nodes[1].numbers_from(world.v4(0)), [1]);
}

#[test]
fn a_thousand_that_do_not_answer_are_called_as_wireguard_has_it_and_fifty_times_a_second_more() {
    let mut world = apart([None, None]);
    let stranger = world.nodes[0].peers[0].clone();
    world.nodes[0].peers = (0..1000_u16)
        .map(|number| {
            let [high, low] = number.to_be_bytes();
            let mut key = [7; 32];
            key[1..3].copy_from_slice(&[high, low]);
            PeerConfig {
                name: format!("stranger-{number}"),
                keys: vec![(KeyEpoch::FIRST, PrivateKey::from_bytes(key).public())],
                endpoint: Some(([198, 18, high, low], 51820).into()),
                allowed: vec![format!("10.77.{high}.{low}/32").parse().unwrap()],
                ..stranger.clone()
            }
        })
        .collect();
    world.nodes[1].peers.clear();
    let mut world = world.start();

    let mut sent = Vec::new();
    for _ in 0..20 {
        let before = world.overheard.len();
        world.run(seconds(1));
        sent.push(world.overheard.len() - before);
    }

    println!("{sent:?}");
    let all: usize = sent.iter().sum();
    assert!(all > 4000, "each of them every five seconds: {all}");
    assert!(all <= 4 * 1000 + 100 + 20 * 50, "and not many more: {all}");
}

#[test]
fn whoever_has_a_nat_of_any_kind_meets_one_who_has_none() {
    for mapping in [Mapping::One, Mapping::Each] {
        for nats in [[Some(mapping), None], [None, Some(mapping)]] {
            let mut world = pair(nats);
            world.run(SOON);
            assert!(established(&world) && exchange(&mut world, 1), "{nats:?}");
        }
    }
}

#[test]
fn calls_in_vain_are_few() {
    let mut world = pair([Some(Mapping::Each); 2]);
    tell(&mut world, 0);
    tell(&mut world, 1);

    world.run(seconds(600));

    assert!(!established(&world));
    let sent = world.overheard.len();
    assert!(sent < 2 * 2 * (600 / 5 + 30), "{sent} datagrams in ten minutes");
}

#[test]
fn a_found_peer_is_not_lost_to_what_the_control_plane_says() {
    let mut world = pair([Some(Mapping::Each), None]);
    world.run(SOON);
    let found = at(&world, 1);

    tell(&mut world, 1);
    assert_eq!(at(&world, 1), found);
    world.nodes[1].peers[0].endpoint = Some(([192, 168, 7, 7], 51820).into());
    world.configure(1);

    assert_eq!(at(&world, 1), found);
    assert!(exchange(&mut world, 1));
}

#[test]
fn a_nat_that_forgets_its_mappings_costs_what_is_on_its_way_to_them() {
    let mut world = pair([Some(Mapping::One), None]);
    world.run(SOON);
    assert!(exchange(&mut world, 1));

    world.nodes[0].nat.as_mut().unwrap().rebind();
    let lost = world.send(1, 0, 2).and(world.send(0, 1, 3));
    world.run(Duration::from_millis(10));

    assert_eq!(lost, Ok(()));
    assert!(exchange(&mut world, 4));
    assert_eq!(world.nodes[0].numbers_from(world.v4(1)), [1, 4]);
    assert_eq!(world.nodes[1].numbers_from(world.v4(0)), [1, 3, 4]);
    let moved = |told: &&Told| matches!(told, Told::EndpointChanged(..));
    assert_eq!(world.nodes[1].events.iter().filter(moved).count(), 2, "found, and found again");
}

#[test]
fn the_session_of_two_behind_nats_outlives_an_hour_without_packets() {
    let mut world = pair([Some(Mapping::One); 2]);
    tell(&mut world, 0);
    tell(&mut world, 1);
    world.run(seconds(3600));
    assert!(exchange(&mut world, 1));
}
