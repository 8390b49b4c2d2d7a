//! `hawser analyze`: asks nobody, and its exit code is the verdict.

use std::path::Path;

use crate::world::World;

fn write(world: &World, name: &str, text: &str) -> String {
    let path = world.file(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[test]
fn files_are_judged_without_an_api_and_the_exit_code_tells() {
    let world = World::with_mesh();
    let head = "apiVersion: hawser.dev/v1alpha1\nkind: Mesh\nmetadata: {name: default}\n";
    let pool = "{cidr: 10.42.0.0/16, nodePrefixLength: 24}";
    let good = write(&world, "good.yaml", &format!("{head}spec:\n  pools: [{pool}]\n---\n"));
    let typo = write(&world, "typo.yaml", &format!("{head}spec:\n  pool: [{pool}]\n"));
    let other = write(&world, "other.yaml", "apiVersion: v1\nkind: Pod\n");
    let torn = write(&world, "torn.yaml", "a: [");
    let offline = |file: &str| world.run(&["analyze", file, "--kubeconfig", "/nowhere"]);

    let fine = offline(&good);
    assert_eq!(fine.code, 0, "{fine:?}");
    assert!(fine.out.contains("HW6000  mesh/default in"), "{fine:?}");
    let refused = offline(&typo);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(
        refused.out.contains("HW6003  mesh/default: there is no field spec.pool\n"),
        "{refused:?}"
    );
    assert!(refused.out.contains("fix: kubectl explain"), "{refused:?}");
    let nothing = offline(&other);
    assert_eq!(nothing.code, 2, "{nothing:?}");
    assert!(nothing.err.contains("hawser.dev"), "{nothing:?}");
    assert_eq!(offline(&torn).code, 1);
    let missing = world.file("missing.yaml");
    assert!(!Path::new(&missing).exists());
    assert_eq!(offline(&missing.display().to_string()).code, 2);
}
