//! Backends in clear, where somebody asked for them in writing: they carry, and a mesh comes and
//! goes between them and the tunnel without losing a packet.

use std::time::{Duration, Instant};

use e2e::lab::{Flow, eventually};
use e2e::mesh::{Member, Mesh};
use e2e::oracle::{marker, promised};
use k8s_openapi::api::events::v1::Event;
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(20);
const TUNNEL: &str = "hawser0";
const VXLAN: &str = "hawser-vx";

pub(crate) fn ask_for(
    mesh: &Mesh,
    encryption: &'static str,
    backend: &'static str,
) -> anyhow::Result<()> {
    mesh.ask_for(json!({"encryption": encryption, "backend": backend}))
}

/// What carries to each peer, by the agents' own word.
pub(crate) fn carriers(member: &Member) -> Vec<String> {
    let state = member.state().unwrap_or_default();
    let peers = state["peers"].as_array().cloned().unwrap_or_default();
    peers.iter().map(|peer| peer["backend"].as_str().unwrap_or_default().to_owned()).collect()
}

/// Waits until every node is reached by `backend`, and everybody has done what the last change
/// asked for.
fn carried_by(mesh: &Mesh, backend: &str) {
    eventually(&format!("carried by {backend}"), LIMIT, || {
        mesh.members.iter().all(|member| carriers(member).iter().all(|is| is == backend))
    })
    .unwrap();
    std::thread::sleep(Duration::from_secs(1));
}

pub(crate) fn flows(mesh: &Mesh, marker: &[u8]) -> Vec<Flow> {
    let pods = mesh.pods();
    let ways = [(pods[0], pods[1]), (pods[1], pods[0])];
    let start = |(from, to): (&e2e::mesh::Pod, &e2e::mesh::Pod), v4| {
        let to = (&to.namespace, to.address(v4).unwrap());
        Flow::start(&from.namespace, to, 200, marker).unwrap()
    };
    ways.into_iter().flat_map(|way| [true, false].map(|v4| start(way, v4))).collect()
}

/// From Required to None and back, by way of Preferred, which sends sealed and hears both.
fn there_and_back(name: &str, backend: &'static str) {
    let marker = marker();
    let mut mesh = Mesh::start(name, 2).unwrap();
    mesh.add_pods(1).unwrap();
    let reach = mesh.reach(&marker, LIMIT);
    assert!(reach.failures().is_empty(), "{}", reach.failures().join("\n"));
    let flows = flows(&mesh, &marker);
    let clear = || mesh.lab.switch().unwrap().capture(&[&marker]).unwrap();

    let sealed = clear();
    ask_for(&mesh, "Preferred", backend).unwrap();
    carried_by(&mesh, "wireguard");
    promised(sealed.seen().marked() == 0, || "Preferred sends sealed where it can".into());
    let plain = clear();
    ask_for(&mesh, "None", backend).unwrap();
    carried_by(&mesh, backend);
    assert!(plain.seen().marked() > 0, "this capture must see what is in clear");
    ask_for(&mesh, "Preferred", backend).unwrap();
    carried_by(&mesh, "wireguard");
    let sealed = clear();
    ask_for(&mesh, "Required", "wireguard").unwrap();
    std::thread::sleep(Duration::from_secs(1));
    carried_by(&mesh, "wireguard");

    promised(sealed.seen().marked() == 0, || "in clear though both ends are back".into());
    for flow in flows {
        let report = flow.finish();
        println!("{backend}: {report:?}");
        promised((report.lost, report.duplicated) == (0, 0), || format!("{report:?}"));
    }
}

#[test]
fn a_mesh_goes_to_vxlan_and_back_without_losing_a_packet() {
    there_and_back("vxlan", "vxlan");
}

#[test]
fn a_mesh_goes_to_plain_udp_and_back_without_losing_a_packet() {
    there_and_back("plainudp", "udp");
}

#[test]
fn a_mesh_goes_to_plain_routes_and_back_without_losing_a_packet() {
    there_and_back("direct", "direct");
}

#[test]
fn a_backend_in_clear_is_refused_at_admission_while_encryption_is_required() {
    let mesh = Mesh::start("refused", 1).unwrap();

    for backend in ["udp", "vxlan", "direct"] {
        let refused = ask_for(&mesh, "Required", backend).unwrap_err();
        assert!(format!("{refused:#}").contains("in clear"), "{refused:#}");
    }
    ask_for(&mesh, "None", "vxlan").unwrap();
}

/// What the first node's status says of its tunnels: the reason, and the message.
fn tunnels_up(mesh: &Mesh) -> (String, String) {
    let node = mesh
        .controller
        .api(async |client| Ok(kube::Api::<api::MeshNode>::all(client).get("node-1").await?));
    let conditions = node.unwrap().status.unwrap_or_default().conditions;
    let found = api::conditions::get(&conditions, "TunnelsUp").cloned();
    found.map(|is| (is.reason, is.message)).unwrap_or_default()
}

#[test]
fn direct_between_nodes_without_a_common_link_is_a_condition_that_names_the_way_out() {
    let marker = marker();
    let mut mesh = Mesh::start("nolink", 2).unwrap();
    mesh.add_pods(1).unwrap();
    let gateway = mesh.lab.switch().unwrap().gateway();
    let far = mesh.members[1].node.address();
    let router = |verb: &str| {
        for (at, length) in [(0, 32), (1, 128)] {
            let (to, via) =
                (format!("{}/{length}", far.both()[at]), gateway.both()[at].to_string());
            let route = ["route", verb, &to, "via", &via];
            mesh.members[0].node.command("ip").args(route).stdout().unwrap();
        }
    };
    router("add");

    ask_for(&mesh, "None", "direct").unwrap();

    eventually("the condition", LIMIT, || tunnels_up(&mesh).0 == "NotOnLink").unwrap();
    let (_, message) = tunnels_up(&mesh);
    println!("{message}");
    for word in ["backend direct cannot reach", "node-2", "use vxlan"] {
        assert!(message.contains(word), "{word}: {message}");
    }
    assert!(carriers(&mesh.members[0]).iter().all(String::is_empty), "nothing carries");
    router("del");
    ask_for(&mesh, "None", "vxlan").unwrap();
    carried_by(&mesh, "vxlan");
    let reach = mesh.reach(&marker, LIMIT);
    assert!(reach.failures().is_empty(), "{}", reach.failures().join("\n"));
    eventually("good again", LIMIT, || tunnels_up(&mesh).0 == "AllUp").unwrap();
}

/// Notes of the first node's events of this reason.
pub(crate) fn notes(mesh: &Mesh, reason: &str) -> Vec<String> {
    let events = mesh.controller.api(async |client| {
        let events = kube::Api::<Event>::namespaced(client, "default");
        Ok(events.list(&kube::api::ListParams::default()).await?.items)
    });
    let about = |event: &Event| event.regarding.clone().unwrap_or_default().name;
    let ours = |event: &Event| {
        about(event).as_deref() == Some("node-1") && event.reason.as_deref() == Some(reason)
    };
    events.unwrap().into_iter().filter(ours).filter_map(|event| event.note).collect()
}

#[test]
fn a_node_says_in_an_event_that_it_sends_in_clear_and_when_that_is_over() {
    let mesh = Mesh::start("tellclear", 2).unwrap();
    assert!(notes(&mesh, "SentInClear").is_empty());

    ask_for(&mesh, "None", "vxlan").unwrap();
    eventually("the event", LIMIT, || {
        let notes = notes(&mesh, "SentInClear");
        notes.iter().any(|note| note.contains("CLEAR by vxlan") && note.contains("node-2"))
    })
    .unwrap();
    assert!(notes(&mesh, "SealedAgain").is_empty());

    ask_for(&mesh, "Required", "wireguard").unwrap();
    eventually("its end", LIMIT, || !notes(&mesh, "SealedAgain").is_empty()).unwrap();
}

#[test]
fn vxlan_floods_nothing_and_is_repaired_within_a_second() {
    let marker = marker();
    let mut mesh = Mesh::start("vxtamper", 2).unwrap();
    mesh.add_pods(1).unwrap();
    ask_for(&mesh, "None", "vxlan").unwrap();
    carried_by(&mesh, "vxlan");
    let reach = mesh.reach(&marker, LIMIT);
    assert!(reach.failures().is_empty(), "{}", reach.failures().join("\n"));
    let node = &mesh.members[0].node;
    let run = |program: &str, args: &[&str]| node.command(program).args(args).stdout().unwrap();

    let entries = run("bridge", &["fdb", "show", "dev", VXLAN]);
    let (from, to) = (mesh.pods()[0], mesh.pods()[1]);
    let mut fastest = LIMIT;
    for _ in 0..3 {
        run("ip", &["link", "del", VXLAN]);
        let harmed = Instant::now();
        for &address in &to.addresses {
            from.namespace.ping_until(address, &marker, LIMIT).unwrap();
        }
        fastest = fastest.min(harmed.elapsed());
    }

    println!("{entries}repaired after {fastest:?}");
    assert_eq!(entries.lines().count(), 1, "one entry for one peer: {entries}");
    assert!(!entries.contains("00:00:00:00:00:00"), "a default entry floods: {entries}");
    assert!(fastest <= Duration::from_secs(1), "{fastest:?}");
    assert!(run("ip", &["-d", "link", "show", VXLAN]).contains("nolearning"));
    assert!(run("ip", &["link", "show", TUNNEL]).contains("UP"), "sessions are kept");
}

#[test]
fn uninstall_takes_the_vxlan_device_away() {
    let mut mesh = Mesh::start("vxremove", 2).unwrap();
    ask_for(&mesh, "None", "vxlan").unwrap();
    carried_by(&mesh, "vxlan");

    mesh.members[0].kill_agent();
    let node = &mesh.members[0].node;
    let uninstall = node.command("hawser-agent").args(["uninstall", "--state"]);
    uninstall.arg(node.state()).stdout().unwrap();

    let devices = node.namespace().netlink(async |net| net.devices().await).unwrap();
    assert!(!devices.contains(&VXLAN.to_owned()), "{devices:?}");
}
