//! Nodes from the first command to their own kubeconfig, against the real embedded server.

use std::{fs, os::unix::fs::PermissionsExt};

use api::{Mesh, MeshNode, MeshNodeSpec};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;

use crate::world::World;

#[test]
fn a_new_node_gets_a_kubeconfig_with_its_own_rights() {
    let world = World::with_mesh();

    let ended =
        world.run(&["nodes", "add", "edge-1", "--site", "onprem", "--out", "edge-1.kubeconfig"]);

    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(ended.out, "meshnode/edge-1 created\n");
    let file = world.file("edge-1.kubeconfig");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("certificate-authority-data"));
    let token = token_of(&text);
    assert!(!ended.out.contains(&token) && !ended.err.contains(&token));

    let listed = world.run(&["--kubeconfig", "edge-1.kubeconfig", "nodes", "-o", "name"]);
    assert_eq!((listed.code, listed.out.as_str()), (0, "meshnode/edge-1\n"));
    let shown = world.run(&["nodes", "show", "edge-1", "-o", "json"]).json();
    assert_eq!(shown["kind"], "Node");
    assert_eq!(shown["site"], "onprem");
    assert_eq!(shown["ready"], "Unknown");
}

#[test]
fn yes_replaces_the_file_and_the_token() {
    let world = World::with_mesh();
    world.run(&["nodes", "add", "n", "--out", "f"]);
    let first = token_of(&fs::read_to_string(world.file("f")).unwrap());

    let again = world.run(&["nodes", "add", "n", "--out", "f", "--yes"]);

    assert_eq!((again.code, again.out.as_str()), (0, "meshnode/n unchanged\n"));
    assert_ne!(token_of(&fs::read_to_string(world.file("f")).unwrap()), first);
}

#[test]
fn a_node_that_exists_is_not_given_away_silently() {
    let world = World::with_mesh();
    world.run(&["nodes", "add", "n", "--out", "f"]);

    let ended = world.run(&["nodes", "add", "n", "--out", "g"]);

    assert_eq!(ended.code, 5, "{ended:?}");
    assert!(!world.file("g").exists());
}

#[test]
fn a_dry_run_changes_nothing() {
    let world = World::with_mesh();

    for how in ["--dry-run", "--dry-run=server"] {
        let ended = world.run(&["nodes", "add", "n", "--out", "f", how]);
        assert_eq!(ended.code, 0, "{ended:?}");
        assert!(ended.out.starts_with("meshnode/n created ("), "{ended:?}");
    }

    assert!(!world.file("f").exists());
    assert_eq!(world.run(&["nodes", "-o", "name"]).out, "");
}

#[test]
fn the_api_judges_the_name() {
    let world = World::with_mesh();

    let ended = world.run(&["nodes", "add", "Not_A_Name", "--out", "f"]);

    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(!world.file("f").exists());
}

#[test]
fn a_token_never_goes_to_a_server_in_clear() {
    let world = World::with_mesh();

    let ended =
        world.run(&["nodes", "add", "n", "--out", "f", "--server", "http://192.0.2.1:7443"]);

    assert_eq!(ended.code, 2, "{ended:?}");
    assert_eq!(world.run(&["nodes", "-o", "name"]).out, "");
}

#[test]
fn a_file_that_cannot_be_written_says_where() {
    let world = World::with_mesh();

    let ended = world.run(&["nodes", "add", "n", "--out", "no/such/directory/f"]);

    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.err.contains("no/such/directory/f"), "{ended:?}");
}

#[test]
fn an_unknown_node_says_which_there_are() {
    let world = World::with_mesh();
    world.run(&["nodes", "add", "n", "--out", "f"]);

    let ended = world.run(&["nodes", "show", "m"]);

    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.err.contains("the nodes are n"), "{ended:?}");
}

fn token_of(kubeconfig: &str) -> String {
    let line = kubeconfig.lines().find(|line| line.trim_start().starts_with("token:")).unwrap();
    line.split_once(':').unwrap().1.trim().trim_matches('"').to_owned()
}

#[test]
fn an_uninstall_names_the_nodes_that_are_not_out_and_ends_when_all_are() {
    let world = World::with_mesh();
    let status = |removed: &str| {
        json!({"status": {"version": "0.1.0", "conditions": [{
            "type": "Removed", "status": removed, "reason": "TakenDown", "message": "disk is full",
            "lastTransitionTime": "2026-11-22T09:00:00Z",
        }]}})
    };
    let tell = |removed: &str| {
        let (patch, none) = (Patch::Merge(status(removed)), PatchParams::default());
        world.ask(async move |client| {
            Api::<MeshNode>::all(client).patch_status("a", &none, &patch).await
        });
    };
    for name in ["a", "never-reported"] {
        world.create(&MeshNode::new(name, MeshNodeSpec::default()));
    }
    let removing =
        || world.ask(async |client| Api::<Mesh>::all(client).get(api::MESH).await).spec.removing;

    tell("False");
    assert_eq!(world.run(&["uninstall", "--dry-run"]).code, 0);
    assert_eq!(world.run(&["uninstall"]).code, 5, "it asks");
    assert!(!removing());
    let late = world.run(&["uninstall", "--yes", "--wait=1s"]);
    assert_eq!(late.code, 4, "{late:?}");
    assert!(late.err.contains("a: disk is full") && late.err.contains("--no-hooks"), "{late:?}");
    assert!(removing());

    tell("True");
    let done = world.run(&["uninstall", "--wait=1s"]);
    assert_eq!(done.code, 0, "{done:?}");
}
