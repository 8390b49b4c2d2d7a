use sim::{Link, World};

use super::{initiations, mesh, millis, seconds};

/// How many pairs begin at once.
const TIMES: u64 = 1000;

#[test]
fn both_ends_begin_at_once_and_one_session_comes_of_it() {
    for seed in 0..TIMES {
        let mut world = mesh(2, seed, None);
        world.link = Link { delay: millis(5), jitter: millis(20), ..Link::PERFECT };
        let mut world = world.start();

        world.send(0, 1, 1).unwrap();
        let apart = world.random().below(5);
        world.run(millis(apart));
        world.send(1, 0, 2).unwrap();
        world.run(seconds(2));

        assert_eq!(world.nodes[1].numbers_from(world.v4(0)), [1], "seed {seed}");
        assert_eq!(world.nodes[0].numbers_from(world.v4(1)), [2], "seed {seed}");
        assert_eq!(initiations(&world), 2, "they did begin at once, seed {seed}");
        let handshakes = world.nodes.iter().map(|node| node.handshakes()).collect::<Vec<_>>();
        assert_eq!(handshakes, [1, 1], "seed {seed}");
    }
}

#[test]
fn the_losers_handshake_is_used_when_the_winners_is_lost() {
    for seed in 0..20 {
        let mut world = mesh(2, seed, None).start();
        let wins = |world: &World, place: usize| {
            let key = |node: usize| world.nodes[node].private.public();
            key(place) < key(1 - place)
        };
        let (winner, loser) = if wins(&world, 0) { (0, 1) } else { (1, 0) };

        world.send(winner, loser, 1).unwrap();
        world.cut();
        world.send(loser, winner, 2).unwrap();
        world.run(seconds(1));

        assert_eq!(world.nodes[loser].numbers_from(world.v4(winner)), [1], "seed {seed}");
        assert_eq!(world.nodes[winner].numbers_from(world.v4(loser)), [2], "seed {seed}");
    }
}

#[test]
fn a_mesh_that_starts_at_once_makes_one_session_a_pair() {
    let count = 12;
    let mut world = mesh(count, 3, super::KEEPALIVE);
    world.link = Link { delay: millis(2), jitter: millis(10), ..Link::PERFECT };
    let mut world = world.start();

    world.run(seconds(2));

    for node in &world.nodes {
        assert_eq!(node.handshakes(), usize::from(count) - 1, "{}", node.name);
    }
}
