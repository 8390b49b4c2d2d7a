//! Both ends of a pair change their keys, and hear of each other's change, in whatever order, over
//! links that are as slow as busy machines make them.

#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers as well")]

use std::time::Duration;

use keys::{KeyEpoch, PrivateKey};
use sim::{Engines, Link, World};

const TIMES: u64 = 2000;
const OLD: KeyEpoch = KeyEpoch(1);
const NEW: KeyEpoch = KeyEpoch(2);

#[derive(Clone, Copy)]
enum Change {
    /// This node sends with its new key.
    Own(usize),
    /// It is told that the other does.
    Theirs(usize),
}

fn new_key(place: usize) -> PrivateKey {
    PrivateKey::from_bytes([place as u8 + 101; 32])
}

/// Two nodes with a session of their old keys, which both know both keys of both.
fn pair(seed: u64, link: Link) -> World {
    let mut world = World::mesh(Engines::Native, 2, seed, Some(Duration::from_secs(25))).start();
    world.run(Duration::from_secs(1));
    for place in 0..2 {
        let other = &mut world.nodes[place].peers[0];
        other.keys.push((NEW, new_key(1 - place).public()));
        other.send_to = Some(OLD);
        world.configure(place);
        identify(&mut world, place, OLD);
    }
    world.link = link;
    world
}

fn identify(world: &mut World, place: usize, sending: KeyEpoch) {
    let old = (OLD, world.nodes[place].private.clone());
    world.identify(place, vec![old, (NEW, new_key(place))], sending);
}

fn make(world: &mut World, change: Change) {
    match change {
        Change::Own(place) => identify(world, place, NEW),
        Change::Theirs(place) => {
            world.nodes[place].peers[0].send_to = Some(NEW);
            world.configure(place);
        }
    }
}

/// The keys in use, ours and theirs, at each end.
fn epochs(world: &World) -> Vec<(Option<KeyEpoch>, Option<KeyEpoch>)> {
    let of = |node: &sim::Node| {
        let status = &node.mesh.status()[0];
        (status.own_epoch, status.epoch)
    };
    world.nodes.iter().map(of).collect()
}

#[test]
fn whatever_comes_first_a_pair_is_on_its_new_keys_within_a_minute() {
    for seed in 0..TIMES {
        let slow = seed % 4 * 1000;
        let link = Link {
            delay: Duration::from_millis(5),
            jitter: Duration::from_millis(20 + slow),
            lost_per_mille: if seed % 3 == 0 { 50 } else { 0 },
            ..Link::PERFECT
        };
        let mut world = pair(seed, link);
        let changes = [Change::Own(0), Change::Own(1), Change::Theirs(0), Change::Theirs(1)];
        let mut changes = changes.map(|change| (world.random().below(2500), change));
        changes.sort_by_key(|(at, _)| *at);
        let mut now = 0;
        for (at, change) in changes {
            world.run(Duration::from_millis(at - now));
            now = at;
            make(&mut world, change);
        }

        world.run(Duration::from_secs(60));

        let wanted = (Some(NEW), Some(NEW));
        assert_eq!(epochs(&world), [wanted; 2], "seed {seed}");
    }
}
