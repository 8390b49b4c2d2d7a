//! A plain WireGuard machine in a mesh whose keys rotate: it cannot follow, and is told of.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use e2e::lab::eventually;
use e2e::mesh::Mesh;
use kube::{Api, api::PostParams};

use super::{LIMIT, epochs};
use crate::laptop::{Laptop, PORT, WIREGUARD_GO};

fn subnets(mesh: &Mesh) -> Vec<Vec<String>> {
    mesh.controller.nodes().unwrap().into_iter().map(|node| node.spec.subnets).collect()
}

/// Tells the laptop the keys that the nodes use now, in the place of those it knew.
fn configure(laptop: &Laptop, mesh: &Mesh, epoch: u32, before: &mut Vec<String>) {
    for old in before.drain(..) {
        laptop.wg(&["peer", &old, "remove"]).stdout().unwrap();
    }
    for (node, member) in mesh.controller.nodes().unwrap().iter().zip(&mesh.members) {
        let keys = node.status.clone().unwrap_or_default().public_keys;
        let key = keys.into_iter().find(|key| key.epoch == epoch).unwrap().public_key;
        let endpoint = SocketAddr::new(member.node.address().v4.into(), PORT).to_string();
        let allowed = node.spec.subnets.join(",");
        let wg = laptop.wg(&["peer", &key, "endpoint", &endpoint, "allowed-ips", &allowed]);
        wg.stdout().unwrap();
        before.push(key);
    }
}

#[test]
fn a_plain_peer_keeps_its_tunnels_till_it_knows_the_new_keys_and_the_operator_ends_the_old() {
    let mut mesh = Mesh::start("plain", 2).unwrap();
    mesh.add_pods(1).unwrap();
    let laptop = Laptop::start(&mesh.lab, WIREGUARD_GO, 7);
    let peer = laptop.as_peer(true, None);
    let created = mesh.controller.api(async move |client| {
        Ok(Api::<api::MeshPeer>::all(client).create(&PostParams::default(), &peer).await?)
    });
    created.unwrap();
    assert_eq!(subnets(&mesh).len(), 2);
    let mut known = Vec::new();
    configure(&laptop, &mesh, 1, &mut known);
    let pods: Vec<IpAddr> = mesh.pods().iter().map(|pod| pod.address(true).unwrap()).collect();
    for pod in &pods {
        laptop.node.namespace().ping_until(*pod, b"before", LIMIT).unwrap();
    }
    let calls = |mesh: &Mesh, words: &[u8]| {
        for pod in mesh.pods() {
            pod.namespace.ping_until(laptop.addresses[0], words, LIMIT).unwrap();
        }
    };

    let rotate = mesh.controller.hawser().args(["keys", "rotate", "--yes"]).output().unwrap();
    let said = String::from_utf8_lossy(&rotate.stderr).into_owned()
        + &String::from_utf8_lossy(&rotate.stdout);
    assert!(said.contains("Plain peers know the nodes' old keys by heart"), "{said}");
    assert!(said.contains("switched   2/2 on epoch 2   probes lost 0 of "), "{said}");
    assert!(said.contains("   (laptop7 pending"), "{said}");
    assert_eq!(epochs(&mesh), [(2, vec![1, 2]), (2, vec![1, 2])]);
    // A node that has to begin must use the key that the laptop knows.
    mesh.members[0].kill_agent();
    mesh.members[0].start_agent().unwrap();
    mesh.members[0].wait_until_ready(LIMIT).unwrap();
    let begun = Instant::now();
    calls(&mesh, b"between");
    println!("called again after {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(5), "with the wrong key first");

    configure(&laptop, &mesh, 2, &mut known);
    for pod in &pods {
        laptop.node.namespace().ping_until(*pod, b"after", LIMIT).unwrap();
    }
    mesh.controller.hawser().args(["keys", "forget", "--yes"]).stdout().unwrap();
    let gone = || epochs(&mesh) == [(2, vec![2]), (2, vec![2])];
    eventually("the old keys are gone", LIMIT, gone).unwrap();
    calls(&mesh, b"gone");
}
