//! Encryption of a pair of sites: in clear inside of one that is trusted, sealed across, and from one
//! to the other without losing a packet.

use std::time::Duration;

use e2e::lab::{Flow, eventually};
use e2e::mesh::{Member, Mesh, Pod, every_pair};
use e2e::oracle::{marker, promised};
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(20);

/// What carries from one node to another, and what the Mesh says of the pair, by the agent's own word.
fn said(member: &Member, peer: &str) -> [String; 2] {
    let state = member.state().unwrap_or_default();
    let peers = state["peers"].as_array().cloned().unwrap_or_default();
    let peer = peers.into_iter().find(|one| one["name"] == *peer).unwrap_or_default();
    ["backend", "encryption"].map(|field| peer[field].as_str().unwrap_or_default().to_owned())
}

/// Waits until the first two reach each other so, and the third as it is reached at first, and all
/// have done what the last change asked for.
fn near_by(mesh: &Mesh, backend: &str, encryption: &str) {
    let [a, b, c] = mesh.members.as_slice() else { panic!("three nodes") };
    let (near, far) = ([backend, encryption], ["wireguard", "Required"]);
    eventually(&format!("near by {backend}, {encryption}"), LIMIT, || {
        (said(a, "node-2"), said(b, "node-1")) == (near.map(String::from), near.map(String::from))
            && [said(a, "node-3"), said(b, "node-3"), said(c, "node-1"), said(c, "node-2")]
                .iter()
                .all(|is| *is == far.map(String::from))
    })
    .unwrap();
    std::thread::sleep(Duration::from_secs(1));
}

fn flows(from: &Pod, to: &Pod, marker: &[u8]) -> Vec<Flow> {
    let start = |(from, to): (&Pod, &Pod), v4| {
        let to = (&to.namespace, to.address(v4).unwrap());
        Flow::start(&from.namespace, to, 200, marker).unwrap()
    };
    let ways = [(from, to), (to, from)];
    ways.into_iter().flat_map(|way| [true, false].map(|v4| start(way, v4))).collect()
}

/// Sites a (two nodes) and b (one): a goes from Required to None and back, by way of Preferred.
fn clear_inside_and_sealed_across(name: &str, backend: &'static str) {
    let (near, far) = (marker(), marker());
    let mut mesh = Mesh::start(name, 3).unwrap();
    mesh.stand(&[("node-1", "a"), ("node-2", "a"), ("node-3", "b")]).unwrap();
    mesh.add_pods(1).unwrap();
    let reach = mesh.reach(&far, LIMIT);
    assert!(reach.failures().is_empty(), "{}", reach.failures().join("\n"));
    let [a, b, c] = mesh.pods()[..] else { panic!("three pods") };
    let flows = flows(a, b, &near).into_iter().chain(flows(a, c, &far)).collect::<Vec<_>>();
    let capture = || mesh.lab.switch().unwrap().capture(&[&near, &far]).unwrap();
    let of_a = |encryption| json!([{"sites": ["a"], "encryption": encryption}]);

    let all = capture();
    mesh.ask_for(json!({"backend": backend, "siteEncryption": of_a("Preferred")})).unwrap();
    near_by(&mesh, "wireguard", "Preferred");
    promised(all.seen().marked() == 0, || "Preferred sends sealed where it can".into());
    mesh.ask_for(json!({"siteEncryption": of_a("None")})).unwrap();
    near_by(&mesh, backend, "None");
    assert!(all.seen().hits[0] > 0, "this capture must see what is in clear inside of a site");
    mesh.ask_for(json!({"siteEncryption": of_a("Preferred")})).unwrap();
    near_by(&mesh, "wireguard", "Preferred");
    let back = capture();
    mesh.ask_for(json!({"backend": "wireguard", "siteEncryption": null})).unwrap();
    near_by(&mesh, "wireguard", "Required");

    promised(back.seen().marked() == 0, || "in clear though both ends are back".into());
    promised(all.seen().hits[1] == 0, || "in clear across sites".into());
    for flow in flows {
        let report = flow.finish();
        println!("{backend}: {report:?}");
        promised((report.lost, report.duplicated) == (0, 0), || format!("{report:?}"));
    }
    let across = json!([{"sites": ["b", "a"], "encryption": "None"}]);
    mesh.ask_for(json!({"backend": backend, "siteEncryption": across})).unwrap();
    eventually("in clear across", LIMIT, || said(&mesh.members[0], "node-3")[0] == backend)
        .unwrap();
    let reach = every_pair(&[a, c], &far, LIMIT);
    assert!(reach.failures().is_empty(), "{}", reach.failures().join("\n"));
    assert!(all.seen().hits[1] > 0, "this capture must see what is in clear across sites");
}

#[test]
fn plain_routes_carry_inside_a_site_while_what_leaves_it_is_sealed_and_nothing_is_lost() {
    clear_inside_and_sealed_across("sitedirect", "direct");
}

#[test]
fn plain_frames_carry_inside_a_site_while_what_leaves_it_is_sealed_and_nothing_is_lost() {
    clear_inside_and_sealed_across("siteudp", "udp");
}
