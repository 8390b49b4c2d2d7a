//! A small mesh for the tests of what is printed: three nodes, one of them new, and a laptop.

use api::{KeyRotation, Mesh, MeshNode, MeshPeer, SubnetClaim};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::state::State;

/// A public key made of one repeated byte.
pub(crate) fn key(byte: u8) -> String {
    keys::PublicKey::from_bytes([byte; 32]).to_string()
}

pub(crate) fn now() -> Timestamp {
    "2026-11-22T10:00:00Z".parse().unwrap()
}

fn object<T: DeserializeOwned>(kind: &str, name: &str, spec: Value, status: Value) -> T {
    serde_json::from_value(json!({
        "apiVersion": "hawser.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": name, "uid": format!("uid-{name}"), "resourceVersion": "7",
                     "creationTimestamp": "2026-11-19T06:00:00Z"},
        "spec": spec,
        "status": status,
    }))
    .unwrap()
}

fn condition(type_: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({"type": type_, "status": status, "reason": reason, "message": message,
           "lastTransitionTime": "2026-11-22T09:00:00Z"})
}

pub(crate) fn mesh() -> Mesh {
    object(
        "Mesh",
        "default",
        json!({"pools": [{"cidr": "10.42.0.0/16", "nodePrefixLength": 24},
                         {"cidr": "fd42::/48", "nodePrefixLength": 64}]}),
        json!({"nodes": "2/3", "keyEpoch": 1,
               "conditions": [condition("Ready", "True", "NodesReady", "")]}),
    )
}

pub(crate) fn nodes() -> Vec<MeshNode> {
    let ready = |n: u8, site: Value| {
        json!({"spec": {"subnets": [format!("10.42.{n}.0/24"), format!("fd42:0:0:{n}::/64")],
                        "keyEpoch": 1, "site": site},
               "status": {"publicKeys": [{"epoch": 1, "publicKey": key(n)}],
                          "endpoints": [format!("10.0.0.{n}:51820")], "peers": "1/2",
                          "mtu": 1420, "version": "0.1.0",
                          "conditions": [condition("Ready", "True", "TunnelsUp", "")]}})
    };
    let make = |name: &str, parts: Value| {
        object("MeshNode", name, parts["spec"].clone(), parts["status"].clone())
    };
    let joining = json!({
        "spec": {"keyEpoch": 1},
        "status": {"conditions": [condition("Ready", "False", "NoSubnet", "pool 10.42.0.0/16 is full")]},
    });
    vec![
        make("node-1", ready(1, json!("aws"))),
        make("node-2", ready(2, Value::Null)),
        make("node-3", joining),
    ]
}

pub(crate) fn laptop() -> MeshPeer {
    object(
        "MeshPeer",
        "laptop",
        json!({"publicKey": key(9), "addresses": ["10.42.1.200/32"], "persistentKeepalive": 25}),
        Value::Null,
    )
}

pub(crate) fn claims() -> Vec<SubnetClaim> {
    ["10.42.1.0/24", "fd42:0:0:1::/64", "10.42.2.0/24", "fd42:0:0:2::/64"]
        .iter()
        .map(|subnet| {
            let node = if subnet.contains(".1.") || subnet.contains(":1:") { 1 } else { 2 };
            object(
                "SubnetClaim",
                &api::claim_name(&subnet.parse().unwrap()),
                json!({"subnet": subnet, "generation": 3, "node": format!("node-{node}"),
                       "nodeUID": format!("uid-node-{node}")}),
                json!({"phase": "Bound"}),
            )
        })
        .collect()
}

/// One that ended then, if it is over.
pub(crate) fn rotation(phase: &str, ended: &str) -> KeyRotation {
    let status = json!({"phase": phase, "epoch": 2, "done": "3/3", "endedAt": ended});
    object("KeyRotation", "manual-1", json!({}), status)
}

/// What the agent of node-1 says.
pub(crate) fn state() -> State {
    serde_json::from_value(json!({
        "node": "node-1", "version": "0.1.0", "engine": "boringtun", "mtu": 1420,
        "view": {"source": "kube"},
        "peers": [
            {"name": "node-2", "endpoint": "10.0.0.2:51820", "epoch": 1,
             "lastHandshake": "2026-11-22T09:59:26Z", "rxBytes": 1_288_490_189_u64,
             "txBytes": 922_746_880, "rttSeconds": 0.0004, "mtu": 1420,
             "subnets": ["10.42.2.0/24", "fd42:0:0:2::/64"], "site": null},
            {"name": "laptop", "endpoint": null, "lastHandshake": null, "rxBytes": 0,
             "txBytes": 0, "subnets": ["10.42.1.200/32"]},
        ],
        "routes": [
            {"prefix": "10.42.0.0/16", "kind": "unreachable"},
            {"prefix": "fd42::/48", "kind": "unreachable"},
            {"prefix": "10.42.1.0/24", "kind": "local"},
            {"prefix": "fd42:0:0:1::/64", "kind": "local"},
            {"prefix": "10.42.2.0/24", "peer": "node-2"},
            {"prefix": "fd42:0:0:2::/64", "peer": "node-2"},
            {"prefix": "10.42.1.200/32", "peer": "laptop"},
        ],
        "guard": {"routes": true, "nft": true, "blockedPackets": 17},
        "discards": {"NoRoute": 3, "Replayed": 0},
    }))
    .unwrap()
}
