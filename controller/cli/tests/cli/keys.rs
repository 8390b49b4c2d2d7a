//! Rotations and revocations as an operator asks for them.

use api::{KeyRotation, MeshNode, MeshNodeSpec};
use serde_json::json;

use crate::world::World;

fn world() -> World {
    let world = World::with_mesh();
    for name in ["node-1", "node-2"] {
        world.create(&MeshNode::new(name, MeshNodeSpec::default()));
    }
    world
}

fn spec(world: &World, name: &str) -> api::KeyRotationSpec {
    let name = name.to_owned();
    world.ask(async move |client| kube::Api::<KeyRotation>::all(client).get(&name).await).spec
}

#[test]
fn a_rotation_shows_its_plan_and_asks_before_it_begins() {
    let world = world();

    let asked = world.run(&["keys", "rotate", "--name=one"]);
    assert_eq!(asked.code, 5, "{asked:?}");
    assert!(asked.err.contains("Rotate all 2 nodes from epoch 1 to 2"), "{asked:?}");
    assert!(asked.err.contains("4 forget epoch 1"), "{asked:?}");
    let dry = world.run(&["keys", "rotate", "--name=one", "--dry-run=server"]);
    assert_eq!(dry.code, 0, "{dry:?}");
    assert!(dry.err.contains("keyrotation/one created (server dry run)"), "{dry:?}");
    assert_eq!(world.run(&["keys", "history", "-o", "name"]).out, "");

    let made = world.run(&["keys", "rotate", "--name=one", "--yes", "--no-wait", "--node=node-1"]);
    assert_eq!(made.code, 0, "{made:?}");
    assert_eq!(made.out, "keyrotation/one created\n");
    assert_eq!(spec(&world, "one").nodes, ["node-1"]);
    assert_eq!(world.run(&["keys", "history", "-o", "name"]).out, "keyrotation/one\n");
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_is_written() {
    let world = world();
    for (flags, says) in [
        (&["--node=nobody"][..], "no node is named \"nobody\""),
        (&["--site=nowhere"], "no node is of site nowhere"),
        (&["--node=node-1", "--canary=node-2"], "canary node-2 is not among the nodes"),
        (&["--deadline=soon"], "\"soon\" is no time"),
        (&["--deadline=2020-01-01T00:00:00Z"], "is in the past"),
    ] {
        let ended = world.run(&[&["keys", "rotate", "--yes"], flags].concat());
        assert!(matches!(ended.code, 1 | 2), "{ended:?}");
        assert!(ended.err.contains(says), "{ended:?}");
    }
    assert_eq!(world.run(&["keys", "history", "-o", "name"]).out, "");
}

#[test]
fn the_rotation_under_way_is_paused_resumed_and_ended_and_a_second_one_refused() {
    let world = world();
    assert_eq!(world.run(&["keys", "pause"]).code, 1, "there is none");
    world.run(&["keys", "rotate", "--name=one", "--yes", "--no-wait"]);

    let second = world.run(&["keys", "rotate", "--yes"]);
    assert_eq!(second.code, 1, "{second:?}");
    assert!(second.err.contains("keyrotation/one is under way"), "{second:?}");
    assert_eq!(world.run(&["keys", "pause"]).out, "keyrotation/one paused\n");
    assert!(spec(&world, "one").paused);
    assert_eq!(world.run(&["keys", "resume", "one"]).out, "keyrotation/one resumed\n");
    assert!(!spec(&world, "one").paused);
    assert_eq!(world.run(&["keys", "rollback"]).code, 5, "it asks");
    assert_eq!(world.run(&["keys", "abort", "--yes"]).out, "keyrotation/one aborted\n");
    assert!(spec(&world, "one").aborted);
    assert_eq!(world.run(&["keys", "abort", "two", "--yes"]).code, 1, "there is no such rotation");
}

#[test]
fn a_revocation_says_what_will_break_and_is_for_ever() {
    let world = world();

    let dry = world.run(&["revoke", "node-1", "--dry-run"]);
    assert_eq!((dry.code, dry.out.as_str()), (0, "meshnode/node-1 revoked (client dry run)\n"));
    assert!(dry.err.contains("1 nodes cut their session with it"), "{dry:?}");
    assert_eq!(world.run(&["revoke", "node-1"]).code, 5, "it asks");
    let unknown = world.run(&["revoke", "nobody", "--yes"]);
    assert!(unknown.code == 1 && unknown.err.contains("the nodes are"), "{unknown:?}");
    let node = || world.ask(async |client| kube::Api::<MeshNode>::all(client).get("node-1").await);
    assert!(!node().spec.revoked);

    assert_eq!(world.run(&["revoke", "node-1", "--yes"]).out, "meshnode/node-1 revoked\n");
    assert!(node().spec.revoked);
    let again = world.run(&["revoke", "node-1", "--yes", "-o", "json"]);
    assert_eq!(again.json()["already"], json!(true));
}
