//! Plain peers, against the real embedded server: what is made, refused and given back.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt,
    process::{Command, Stdio},
};

use api::{MeshNode, MeshNodeSpec, MeshPeer, SubnetClaim};
use kube::{
    Api, ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::json;

use crate::world::{Ended, World};

/// A mesh with these nodes, each with a key and this endpoint.
fn world(nodes: &[(&str, &str)]) -> World {
    let world = World::with_mesh();
    for (number, (name, endpoint)) in (1..).zip(nodes) {
        let subnets = vec![format!("10.42.{number}.0/24"), format!("fd42:0:0:{number}::/64")];
        let spec = MeshNodeSpec { subnets, ..MeshNodeSpec::default() };
        world.create(&MeshNode::new(name, spec));
        let key = keys::PrivateKey::from_bytes([number; 32]).public().to_string();
        let status = json!({"status": {"publicKeys": [{"epoch": 1, "publicKey": key}],
                                       "endpoints": [endpoint], "mtu": 1400}});
        world.ask(async |client| {
            let api = Api::<MeshNode>::all(client);
            api.patch_status(name, &PatchParams::default(), &Patch::Merge(&status)).await
        });
    }
    world
}

fn peers(world: &World) -> Vec<MeshPeer> {
    world.ask(async |client| Api::<MeshPeer>::all(client).list(&ListParams::default()).await).items
}

/// What claims list: an address and its peer.
fn listed(world: &World) -> Vec<(String, String)> {
    let claims = world
        .ask(async |client| Api::<SubnetClaim>::all(client).list(&ListParams::default()).await);
    let of = |claim: SubnetClaim| claim.spec.addresses.into_iter();
    claims.items.into_iter().flat_map(of).map(|one| (one.address, one.peer)).collect()
}

/// The value of a line in a configuration.
fn value(text: &str, name: &str) -> String {
    let mut lines = text.lines().filter_map(|line| line.split_once(" = "));
    lines.find(|(key, _)| *key == name).unwrap().1.to_owned()
}

const PUBLIC: [(&str, &str); 2] = [("n1", "203.0.113.1:51820"), ("n2", "[2001:db8::2]:51820")];

#[test]
fn a_peer_is_made_with_a_file_for_each_entry_and_its_private_key_is_nowhere_else() {
    let world = world(&PUBLIC);

    let ended = world.run(&["peer", "create", "laptop", "--out", "laptop.conf", "-vv"]);

    assert_eq!((ended.code, ended.out.as_str()), (0, ""), "{ended:?}");
    let text = fs::read_to_string(world.file("laptop.conf")).unwrap();
    let other = fs::read_to_string(world.file("laptop-2.conf")).unwrap();
    let key = value(&text, "PrivateKey");
    assert_eq!(value(&other, "PrivateKey"), key);
    assert_eq!(value(&text, "Endpoint"), "203.0.113.1:51820");
    assert_eq!(value(&other, "Endpoint"), "[2001:db8::2]:51820");
    assert_eq!(value(&text, "Address"), "10.42.255.2/32, fd42:0:0:ffff::2/128");
    assert_eq!(value(&text, "AllowedIPs"), "10.42.0.0/16, fd42::/48");
    assert_eq!(value(&text, "MTU"), "1400");
    for file in ["laptop.conf", "laptop-2.conf"] {
        let mode = fs::metadata(world.file(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    let peer = peers(&world).remove(0);
    let public = keys::PrivateKey::from_base64(&key).unwrap().public().to_string();
    assert_eq!(peer.spec.public_key, public);
    assert_eq!(peer.spec.entries, ["n1", "n2"]);
    assert_eq!(peer.spec.addresses, ["10.42.255.2/32", "fd42:0:0:ffff::2/128"]);
    let resource = serde_json::to_string(&peer).unwrap();
    assert!(!resource.contains(&key) && !ended.err.contains(&key), "{ended:?}");
}

#[test]
fn eight_at_once_get_eight_addresses() {
    let world = world(&PUBLIC);
    let children: Vec<_> = (0..8)
        .map(|number| {
            let (name, file) = (format!("p{number}"), format!("p{number}.conf"));
            let mut command = world.command(&["peer", "create", &name, "--via", "n1"]);
            command.args(["--out", &file]).stdout(Stdio::piped()).stderr(Stdio::piped());
            command.spawn().unwrap()
        })
        .collect();

    for child in children {
        let ended = Ended::from(child.wait_with_output().unwrap());
        assert_eq!(ended.code, 0, "{ended:?}");
    }

    let given: BTreeSet<String> =
        peers(&world).into_iter().flat_map(|p| p.spec.addresses).collect();
    assert_eq!(given.len(), 16, "one of each family for each: {given:?}");
    assert_eq!(listed(&world).len(), 16);
}

#[test]
fn of_two_with_one_name_one_is_made_and_the_other_leaves_nothing() {
    let world = world(&PUBLIC);
    let children: Vec<_> = ["a.conf", "b.conf"]
        .iter()
        .map(|file| {
            let mut command = world.command(&["peer", "create", "laptop", "--out", file]);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();

    let ended = children.into_iter().map(|c| Ended::from(c.wait_with_output().unwrap()));
    let mut codes: Vec<i32> = ended.map(|ended| ended.code).collect();
    codes.sort_unstable();

    assert_eq!(codes, [0, 1]);
    let made = peers(&world).remove(0);
    let mut held: Vec<String> = listed(&world).into_iter().map(|(address, _)| address).collect();
    let mut its: Vec<String> =
        made.spec.addresses.iter().map(|n| n.split_once('/').unwrap().0.to_owned()).collect();
    held.sort_unstable();
    its.sort_unstable();
    assert_eq!(held, its);
    assert_ne!(world.file("a.conf").exists(), world.file("b.conf").exists());
}

#[test]
fn a_peer_that_is_deleted_gives_its_addresses_back() {
    let world = world(&PUBLIC);
    world.run(&["peer", "create", "laptop", "--out", "f"]);
    let refused = world.run(&["peer", "delete", "laptop"]);
    assert_eq!(refused.code, 5, "{refused:?}");
    let dry = world.run(&["peer", "delete", "laptop", "--dry-run"]);
    assert_eq!(dry.out, "meshpeer/laptop deleted (client dry run)\n");
    assert_eq!(listed(&world).len(), 2);

    let ended = world.run(&["peer", "delete", "laptop", "--yes"]);

    assert_eq!((ended.code, ended.out.as_str()), (0, "meshpeer/laptop deleted\n"), "{ended:?}");
    assert_eq!((peers(&world).len(), listed(&world)), (0, vec![]));
    let again = world.run(&["peer", "delete", "laptop", "--yes"]);
    assert_eq!(again.code, 1);
    assert!(again.err.contains("no peer is named \"laptop\""), "{again:?}");
    // What was left of one that was interrupted.
    world.run(&["peer", "create", "laptop", "--out", "g"]);
    world.ask(async |client| {
        Api::<MeshPeer>::all(client).delete("laptop", &kube::api::DeleteParams::default()).await
    });
    assert_eq!(listed(&world).len(), 2);
    assert_eq!(world.run(&["peer", "delete", "laptop"]).code, 0);
    assert_eq!(listed(&world), vec![]);
}

#[test]
fn what_cannot_be_made_is_refused_with_what_to_check_and_leaves_nothing() {
    let world = world(&[("n1", "10.0.0.1:51820"), ("n2", "192.168.7.1:51820")]);
    fs::write(world.file("there"), "mine").unwrap();
    let create = |args: &[&str]| world.run(&[&["peer", "create"], args].concat());

    for (args, code, words) in [
        (&["laptop", "--out", "f"][..], 1, "no node has a public endpoint"),
        (&["laptop", "--via", "n9", "--out", "f"], 1, "the nodes are n1,n2"),
        (&["laptop", "--via", "n1"], 2, "--out FILE"),
        (&["laptop", "--via", "n1", "-o", "json", "--out", "there"], 1, "--force"),
        (&["laptop", "--via", "n1", "--out", "there"], 1, "there already"),
        (&["n2", "--via", "n1", "--out", "f"], 1, "a node is named"),
        (&["Lap_Top", "--via", "n1", "--out", "f"], 1, "metadata.name"),
        (&["laptop", "--via", "n1", "--out", "nowhere/f"], 1, "writing nowhere/f"),
    ] {
        let ended = create(args);
        assert_eq!(ended.code, code, "{ended:?}");
        assert!(ended.err.contains(words), "{words}: {ended:?}");
        assert_eq!((peers(&world).len(), listed(&world)), (0, vec![]), "{args:?}");
    }
    assert_eq!(fs::read_to_string(world.file("there")).unwrap(), "mine");

    assert_eq!(create(&["laptop", "--via", "n1", "--out", "there", "--force"]).code, 0);
    let again = create(&["laptop", "--via", "n1", "--out", "f"]);
    assert!(again.err.contains("hawser peer delete laptop"), "{again:?}");
    assert!(!world.file("f").exists());
    assert!(fs::read_to_string(world.file("there")).unwrap().contains("[Interface]"));
    let list = world.run(&["peer", "list"]);
    assert!(list.out.contains("laptop  10.42.255."), "{list:?}");
    for how in ["--dry-run=client", "--dry-run=server"] {
        let dry = create(&["phone", "--via", "n1", how]);
        assert!(dry.out.starts_with("meshpeer/phone created ("), "{dry:?}");
    }
    assert_eq!(peers(&world).iter().map(ResourceExt::name_any).collect::<Vec<_>>(), ["laptop"]);
}

/// On a terminal, which Python's standard library makes.
#[test]
fn a_terminal_shows_the_configuration_and_a_picture_of_it() {
    const ON_A_TERMINAL: &str =
        "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))";
    let world = world(&PUBLIC);
    let inner = world.command(&["peer", "create", "phone", "--via", "n1"]);
    let mut command = Command::new("python3");
    command.args(["-c", ON_A_TERMINAL]).arg(inner.get_program()).args(inner.get_args());
    command.env("KUBECONFIG", world.kubeconfig()).env("TERM", "xterm").env_remove("NO_COLOR");

    let ended = Ended::from(command.stdin(Stdio::null()).output().unwrap());

    assert_eq!(ended.code, 0, "{ended:?}");
    let key = value(&ended.out.replace('\r', ""), "PrivateKey");
    let public = keys::PrivateKey::from_base64(&key).unwrap().public().to_string();
    assert_eq!(peers(&world)[0].spec.public_key, public);
    assert!(ended.out.contains("shown once") && ended.out.contains('█'), "{}", ended.out);
    let listed = world.run(&["peer", "list", "-o", "json"]).out;
    assert!(listed.contains(&public) && !listed.contains(&key), "{listed}");
}
