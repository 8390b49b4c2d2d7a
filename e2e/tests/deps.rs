//! The arrows of DESIGN.md: who may import whom, read from `cargo metadata`.
//!
//! Only normal dependencies count; `sim`, the tests and `e2e` itself are free.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, PackageId};

/// Our packages and which of ours each may import.
const ARROWS: [(&str, &[&str]); 8] = [
    ("keys", &[]),
    ("crypto", &["keys"]),
    ("cni", &[]),
    ("api", &["keys"]),
    ("embedded", &["api", "keys"]),
    ("controller", &["embedded", "api", "keys"]),
    ("cli", &["api", "keys"]),
    ("agent", &["keys", "crypto", "api", "cni"]),
];

/// No sockets, no executor, no clock's owner, however deep.
const PURE: [&str; 2] = ["keys", "crypto"];
const WORLD: [&str; 11] = [
    "tokio",
    "kube",
    "kube-client",
    "hyper",
    "axum",
    "reqwest",
    "socket2",
    "mio",
    "tun",
    "rustix",
    "nix",
];

/// boringtun brings its own system calls along; it is an engine behind a seam, taken as it is.
const OPAQUE: &str = "boringtun";

/// Whoever sees public keys only never links what encrypts packets.
const NO_DATA_PLANE: [&str; 3] = ["controller", "cli", "embedded"];
const DATA_PLANE: [&str; 4] = ["crypto", "agent", "boringtun", "tun"];

/// Libraries that stay behind one of our packages.
const BEHIND: [(&str, &[&str]); 4] = [
    ("ring", &["crypto"]),
    ("boringtun", &["crypto"]),
    ("kube-cel", &["embedded"]),
    ("redb", &["embedded"]),
];

#[test]
fn nobody_imports_what_the_design_forbids() {
    let found = violations(&Graph::of(metadata()));

    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn every_package_of_ours_is_judged() {
    let metadata = metadata();
    let ours: BTreeSet<&str> =
        metadata.workspace_packages().iter().map(|package| package.name.as_str()).collect();

    let judged = ARROWS.iter().map(|(name, _)| *name).chain(["sim", "e2e"]).collect();

    assert_eq!(ours, judged);
}

#[test]
fn a_doctored_import_is_found() {
    let graph = Graph::of(metadata());
    let doctored = |from: &str, to: &str| {
        let mut graph = graph.clone();
        graph.imports.entry(from.into()).or_default().insert(to.into());
        violations(&graph)
    };

    for (from, to) in [
        ("keys", "tokio"),
        ("crypto", "api"),
        ("crypto", "hyper"),
        ("api", "embedded"),
        ("controller", "crypto"),
        ("cli", "agent"),
        ("agent", "embedded"),
        ("agent", "ring"),
        ("cni", "agent"),
    ] {
        assert!(!doctored(from, to).is_empty(), "{from} may import {to}");
    }
    assert!(doctored("keys", "blake2").len() < 9, "not far more than one crate is judged pure");
}

#[test]
fn an_import_in_a_doctored_metadata_value_is_found() {
    let mut value = serde_json::to_value(metadata()).unwrap();
    let id = |value: &serde_json::Value, name: &str| {
        let packages = value["packages"].as_array().unwrap();
        let package = packages.iter().find(|package| package["name"] == name).unwrap();
        package["id"].as_str().unwrap().to_owned()
    };
    let (from, to) = (id(&value, "cli"), id(&value, "crypto"));
    let nodes = value["resolve"]["nodes"].as_array_mut().unwrap();
    let node = nodes.iter_mut().find(|node| node["id"] == *from).unwrap();
    let import = serde_json::json!({
        "name": "crypto", "pkg": to, "dep_kinds": [{"kind": null, "target": null}],
    });
    node["deps"].as_array_mut().unwrap().push(import);

    let found = violations(&Graph::of(&serde_json::from_value(value).unwrap()));

    assert!(found.iter().any(|line| line == "cli may not import crypto"), "{found:?}");
}

fn metadata() -> &'static Metadata {
    static READ: OnceLock<Metadata> = OnceLock::new();
    READ.get_or_init(read_metadata)
}

fn read_metadata() -> Metadata {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    // no need to download other platforms' crates
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let options = ["--filter-platform".into(), platform];
    let mut command = MetadataCommand::new();
    command.manifest_path(manifest).other_options(options).exec().expect("cargo metadata answers")
}

/// Package → the packages it imports in a normal build.
#[derive(Clone)]
struct Graph {
    imports: BTreeMap<String, BTreeSet<String>>,
}

impl Graph {
    fn of(metadata: &Metadata) -> Self {
        let name: BTreeMap<&PackageId, &str> =
            metadata.packages.iter().map(|package| (&package.id, package.name.as_str())).collect();
        let resolve = metadata.resolve.as_ref().expect("metadata holds a resolved graph");
        let mut imports: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for node in &resolve.nodes {
            let normal = node.deps.iter().filter(|dependency| {
                dependency.dep_kinds.iter().any(|kind| kind.kind == DependencyKind::Normal)
            });
            let names = normal.map(|dependency| name[&dependency.pkg].to_owned());
            imports.entry(name[&node.id].to_owned()).or_default().extend(names);
        }
        Self { imports }
    }

    fn direct(&self, package: &str) -> BTreeSet<String> {
        self.imports.get(package).cloned().unwrap_or_default()
    }

    /// Everything that is linked in the end, the inside of boringtun left out.
    fn all(&self, package: &str) -> BTreeSet<String> {
        let mut seen = BTreeSet::new();
        let mut open = vec![package.to_owned()];
        while let Some(next) = open.pop() {
            if next == OPAQUE {
                continue;
            }
            let fresh = self.direct(&next).into_iter().filter(|name| seen.insert(name.clone()));
            open.extend(fresh.collect::<Vec<_>>());
        }
        seen
    }
}

fn violations(graph: &Graph) -> Vec<String> {
    let ours = |name: &str| ARROWS.iter().any(|(ours, _)| *ours == name);
    let mut found = Vec::new();
    for (package, allowed) in ARROWS {
        let wrong = graph.direct(package).into_iter().filter(|name| {
            let name = name.as_str();
            name != package
                && (ours(name) || name == "sim" || name == "e2e")
                && !allowed.contains(&name)
        });
        found.extend(wrong.map(|name| format!("{package} may not import {name}")));
        for (library, behind) in BEHIND {
            if graph.direct(package).contains(library) && !behind.contains(&package) {
                found.push(format!("{package} may not import {library}: only {behind:?} does"));
            }
        }
    }
    found.extend(linked(graph, &PURE, &WORLD));
    found.extend(linked(graph, &NO_DATA_PLANE, &DATA_PLANE));
    found
}

fn linked(graph: &Graph, packages: &[&str], forbidden: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for package in packages {
        let all = graph.all(package);
        let wrong = forbidden.iter().filter(|name| all.contains(**name));
        found.extend(wrong.map(|name| format!("{package} may not link {name}")));
    }
    found
}
