use crypto::Discard;
use sim::Link;

use super::{KEEPALIVE, died, initiations, mesh, millis, seconds};

/// Virtual hours of traffic both ways.
const HOURS: u64 = 3;

#[test]
fn hours_of_rekeys_lose_nothing_and_reorder_nothing() {
    let mut world = mesh(2, 1, None).start();
    let packets = HOURS * 3600 * 5;

    for number in 0..packets {
        world.send(0, 1, number).unwrap();
        world.send(1, 0, number).unwrap();
        world.run(millis(200));
    }
    world.run(seconds(1));

    let expected: Vec<_> = (0..packets).collect();
    assert!(world.nodes[1].numbers_from(world.v4(0)) == expected, "lost or reordered");
    assert!(world.nodes[0].numbers_from(world.v4(1)) == expected, "lost or reordered");
    // One every two minutes, and so no test of nothing.
    let handshakes = world.nodes[0].handshakes() as u64;
    assert!((HOURS * 28..=HOURS * 31).contains(&handshakes), "{handshakes}");
}

#[test]
fn a_link_that_reorders_and_doubles_loses_nothing_over_a_rekey() {
    for seed in 0..10 {
        let mut world = mesh(2, seed, None);
        world.link =
            Link { delay: millis(5), jitter: millis(400), doubled_per_mille: 200, ..Link::PERFECT };
        let mut world = world.start();

        for number in 0..6000 {
            world.send(0, 1, number).unwrap();
            world.run(millis(100));
        }
        world.run(seconds(2));

        let mut numbers = world.nodes[1].numbers_from(world.v4(0));
        assert!(!numbers.is_sorted(), "the link did not reorder, seed {seed}");
        numbers.sort_unstable();
        assert!(numbers == (0..6000).collect::<Vec<_>>(), "{} of 6000, seed {seed}", numbers.len());
        assert!(died(&world.nodes[1], Discard::Replay) > 500, "seed {seed}");
    }
}

#[test]
fn an_idle_mesh_has_no_sessions_and_the_first_packet_makes_one() {
    let mut world = mesh(2, 1, None).start();
    world.send(0, 1, 1).unwrap();
    world.run(seconds(3600));
    assert!(!world.nodes[0].mesh.status()[0].established);
    let before = initiations(&world);

    world.send(0, 1, 2).unwrap();
    world.run(seconds(1));

    assert_eq!(world.nodes[1].numbers_from(world.v4(0)), [1, 2]);
    assert_eq!(initiations(&world), before + 1);
}

#[test]
fn a_handshake_that_begins_when_the_engine_forgets_the_tunnel_is_not_lost() {
    // boringtun forgets a tunnel 540 s after its last session, even in the middle of a handshake.
    for after in [539_800, 539_900, 540_000, 540_100, 540_200] {
        let mut world = mesh(2, 1, None).start();
        world.link.delay = millis(400);
        world.run(millis(after));

        world.send(0, 1, 1).unwrap();
        world.run(seconds(3));

        assert_eq!(world.nodes[1].numbers_from(world.v4(0)), [1], "after {after} ms");
    }
}

#[test]
fn a_kept_session_costs_one_handshake_in_two_minutes() {
    let mut world = mesh(2, 1, KEEPALIVE).start();

    world.run(seconds(3600));

    let made = initiations(&world);
    assert!((20..=32).contains(&made), "{made} initiations in an hour");
}
