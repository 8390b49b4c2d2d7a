use crypto::Discard;
use keys::PresharedKey;
use sim::{Link, Told, packet};

use super::{KEEPALIVE, died, mesh, millis, seconds};

#[test]
fn everybody_reaches_everybody_over_both_families() {
    let count = 8;
    let mut world = mesh(count, 1, None).start();
    let places = || 0..usize::from(count);

    for (from, to) in places().flat_map(|a| places().map(move |b| (a, b))).filter(|(a, b)| a != b) {
        world.seal(from, &packet(world.v4(from), world.v4(to), 4)).unwrap();
        world.seal(from, &packet(world.v6(from), world.v6(to), 6)).unwrap();
    }
    world.run(seconds(3));

    for (from, to) in places().flat_map(|a| places().map(move |b| (a, b))).filter(|(a, b)| a != b) {
        assert_eq!(world.nodes[to].numbers_from(world.v4(from)), [4], "{from} to {to}");
        assert_eq!(world.nodes[to].numbers_from(world.v6(from)), [6], "{from} to {to}");
    }
}

#[test]
fn a_bad_link_costs_packets_but_neither_sessions_nor_truth() {
    for seed in 0..20 {
        let mut world = mesh(4, seed, KEEPALIVE);
        world.link = Link::BAD;
        let mut world = world.start();

        for number in 0..600 {
            world.run(millis(100));
            for from in 0..4 {
                world.send(from, (from + 1) % 4, number).unwrap();
            }
        }
        world.run(seconds(10));

        for to in 0..4 {
            let mut numbers = world.nodes[to].numbers_from(world.v4((to + 3) % 4));
            let received = numbers.len();
            numbers.sort_unstable();
            numbers.dedup();
            assert_eq!(numbers.len(), received, "delivered twice, seed {seed}");
            // One in ten is lost, one in twenty corrupted, and the first handshake takes retries.
            assert!(received > 350, "{received} of 600 at {to}, seed {seed}");
            assert_eq!(world.nodes[to].delivered.len(), received, "corrupted, seed {seed}");
        }
    }
}

#[test]
fn packets_wait_for_the_first_session_and_keep_their_order() {
    let mut world = mesh(2, 1, None).start();

    for number in 0..100 {
        world.send(0, 1, number).unwrap();
    }
    world.run(seconds(1));

    assert_eq!(world.nodes[1].numbers_from(world.v4(0)), (0..100).collect::<Vec<_>>());
}

#[test]
fn what_cannot_wait_is_counted_and_the_newest_are_kept() {
    let mut world = mesh(2, 1, None).start();

    for number in 0..200 {
        world.send(0, 1, number).unwrap();
    }
    world.run(seconds(1));

    assert_eq!(world.nodes[1].numbers_from(world.v4(0)), (72..200).collect::<Vec<_>>());
    assert_eq!(died(&world.nodes[0], Discard::QueueFull), 72);
}

#[test]
fn a_peer_that_never_answers_is_given_up_after_90_seconds_and_tried_again_when_asked() {
    let mut world = mesh(2, 1, None).start();
    let away = world.nodes[1].address;
    world.nodes[1].address = "203.0.113.9:9".parse().unwrap();

    world.send(0, 1, 1).unwrap();
    world.run(seconds(89));
    assert_eq!(died(&world.nodes[0], Discard::HandshakeTimeout), 0);
    world.run(seconds(7));

    assert_eq!(died(&world.nodes[0], Discard::HandshakeTimeout), 1);
    assert_eq!(world.nodes[0].events, [Told::HandshakeTimeout("node-2".to_owned())]);
    world.nodes[1].address = away;
    world.send(0, 1, 2).unwrap();
    world.run(seconds(1));
    assert_eq!(world.nodes[1].numbers_from(world.v4(0)), [2]);
}

#[test]
fn a_peer_that_shall_stay_connected_comes_back_by_itself() {
    let mut world = mesh(2, 1, KEEPALIVE).start();
    world.run(seconds(5));
    world.link.lost_per_mille = 1000;
    world.run(seconds(3600));
    assert!(!world.nodes[0].mesh.status()[0].established);
    let before = world.nodes[0].handshakes();

    world.link = Link::PERFECT;
    world.run(seconds(30));

    assert!(world.nodes[0].handshakes() > before);
    assert!(world.nodes[0].mesh.status()[0].established);
}

#[test]
fn a_packet_for_nobody_and_one_for_ourselves_do_not_leave() {
    let mut world = mesh(2, 1, None).start();
    let (us, elsewhere) = (world.v4(0), "10.42.77.1".parse().unwrap());

    assert_eq!(world.seal(0, &packet(us, elsewhere, 1)), Err(Discard::NoRoute));
    assert_eq!(world.seal(0, &packet(us, us, 1)), Err(Discard::OwnDestination));
    assert_eq!(world.seal(0, b"garbage"), Err(Discard::NotIp));

    world.run(seconds(1));
    assert!(world.overheard.is_empty());
}

#[test]
fn a_preshared_key_must_be_the_same_at_both_ends() {
    let tried = |first: u8, second: u8| {
        let mut world = mesh(2, 1, None);
        world.nodes[0].peers[0].preshared_key = Some(PresharedKey::from_bytes([first; 32]));
        world.nodes[1].peers[0].preshared_key = Some(PresharedKey::from_bytes([second; 32]));
        let mut world = world.start();
        world.send(0, 1, 7).unwrap();
        world.run(seconds(10));
        world.nodes[1].numbers_from(world.v4(0))
    };

    assert_eq!(tried(1, 1), [7]);
    assert!(tried(1, 2).is_empty());
}
