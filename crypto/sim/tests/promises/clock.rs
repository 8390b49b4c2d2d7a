//! A machine without a battery clock boots in the past: the engine's timestamps begin again at the
//! real time of its start, while the simulated time is hours ahead. Exactly the fault in question.

use crypto::Discard;

use super::{KEEPALIVE, died, initiations, mesh, seconds};

#[test]
fn a_node_whose_clock_went_back_is_helped_by_its_peers() {
    let mut world = mesh(3, 1, KEEPALIVE).start();
    for _ in 0..20 {
        world.run(seconds(360));
        world.send(0, 1, 0).unwrap();
    }
    world.run(seconds(10));

    world.restart(0);
    world.run(seconds(2));

    assert!(died(&world.nodes[1], Discard::StaleHandshake) > 0, "its clock did go back");
    assert!(world.nodes[0].mesh.status().iter().all(|peer| peer.established));
    world.send(0, 1, 1).unwrap();
    world.send(1, 0, 2).unwrap();
    world.run(seconds(1));
    assert_eq!(world.nodes[1].delivered.last().map(|content| content.number), Some(1));
    assert_eq!(world.nodes[0].delivered.last().map(|content| content.number), Some(2));
}

#[test]
fn a_replayed_handshake_cannot_make_a_node_busy() {
    let mut world = mesh(2, 1, None).start();
    world.send(0, 1, 1).unwrap();
    let initiation = world.overheard.back().cloned().unwrap();
    world.run(seconds(60));
    let before = initiations(&world);

    for _ in 0..1000 {
        let _ = world.inject(initiation.clone());
        world.run(seconds(1) / 10);
    }

    // A hundred seconds, at most one handshake in five.
    let made = initiations(&world) - before;
    assert!(made <= 20, "{made}");
    assert!(died(&world.nodes[1], Discard::StaleHandshake) > 500);
}
