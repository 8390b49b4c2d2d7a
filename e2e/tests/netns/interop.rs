//! Plain WireGuard implementations as a `MeshPeer`: a laptop with somebody else's program on it.
//!
//! ```text
//!   laptop: wireguard-go or boringtun-cli, set up with `wg`
//!      └── underlay ── node-1 (pod), node-2 (pod): hawser-agent
//! ```

use std::time::Duration;

use e2e::mesh::{Alone, add_pods, pods};
use e2e::oracle::{Oracles, marker};

use crate::laptop::{BORINGTUN, Laptop, Program, WIREGUARD_GO, preshared, reaches};

/// Two nodes with a pod each and a laptop: everybody pings everybody, over both families, and
/// nothing of it is readable underneath. Who begins depends on who knows whose address.
fn plain_peer(program: Program, with_preshared: bool, laptop_begins: bool) {
    let marker = marker();
    let mut mesh = Alone::start("interop", 2).unwrap();
    let oracles = Oracles::watch(&mesh.lab, &marker).unwrap();
    add_pods(&mesh.lab, &mut mesh.members, 1).unwrap();
    let laptop = Laptop::start(&mesh.lab, program, 7);
    let key = with_preshared.then(|| preshared(&laptop.node, "preshared"));
    laptop.connect(&mesh.members, key.as_ref());
    let tunnel = laptop.node.capture(&laptop.device, &[&marker]).unwrap();

    mesh.write(&[laptop.as_peer(!laptop_begins, key.as_ref())]).unwrap();
    let pods = pods(&mesh.members);
    let ours = laptop.addresses;
    for pod in pods {
        if laptop_begins {
            reaches(laptop.node.namespace(), &pod.addresses, &marker);
            reaches(&pod.namespace, &ours, &marker);
        } else {
            reaches(&pod.namespace, &ours, &marker);
            reaches(laptop.node.namespace(), &pod.addresses, &marker);
        }
    }

    oracles.judge(&tunnel.seen()).unwrap();
}

#[test]
fn wireguard_go_joins_and_begins() {
    plain_peer(WIREGUARD_GO, false, true);
}

#[test]
fn wireguard_go_with_a_preshared_key_joins_and_is_called() {
    plain_peer(WIREGUARD_GO, true, false);
}

#[test]
fn boringtun_joins_and_is_called() {
    plain_peer(BORINGTUN, false, false);
}

#[test]
fn boringtun_with_a_preshared_key_joins_and_begins() {
    plain_peer(BORINGTUN, true, true);
}

#[test]
fn a_wrong_preshared_key_opens_nothing() {
    let marker = marker();
    let mut mesh = Alone::start("wrongpsk", 1).unwrap();
    add_pods(&mesh.lab, &mut mesh.members, 1).unwrap();
    let laptop = Laptop::start(&mesh.lab, WIREGUARD_GO, 7);
    let (right, wrong) = (preshared(&laptop.node, "right"), preshared(&laptop.node, "wrong"));
    let pod = pods(&mesh.members)[0];

    laptop.connect(&mesh.members, Some(&wrong));
    mesh.write(&[laptop.as_peer(true, Some(&right))]).unwrap();
    for &address in &pod.addresses {
        let answer = laptop.node.namespace().ping_until(address, &marker, Duration::from_secs(3));
        assert!(answer.is_err(), "{address} answers over a wrong preshared key");
    }

    laptop.connect(&mesh.members, Some(&right));
    reaches(laptop.node.namespace(), &pod.addresses, &marker);
}
