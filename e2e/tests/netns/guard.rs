//! What the guard says of what it stops, and pods that say they are somebody else.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use ::agent::kernel::Kernel;
use ::agent::plan::{Guard, Open};
use e2e::lab::{Lab, Namespace, eventually};
use e2e::mesh::{Mesh, Pod, local_api};
use e2e::oracle::promised;
use k8s_openapi::api::events::v1::Event;

const LIMIT: Duration = Duration::from_secs(20);
const PORT: u16 = 7100;
/// Of the guard, under a flood.
const CHANGES: u32 = 60;

fn send(from: &Namespace, source: IpAddr, to: SocketAddr) {
    let sent = from.run(move || UdpSocket::bind((source, 0))?.send_to(b"it is me", to));
    sent.unwrap();
}

fn listen(pod: &Pod, address: IpAddr) -> UdpSocket {
    let socket = pod.namespace.run(move || UdpSocket::bind((address, PORT)).unwrap());
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    socket
}

fn metric(mesh: &Mesh, name: &str) -> u64 {
    let socket = mesh.members[0].node.state().join("agent.sock");
    let (_, text) = local_api::get(&socket, "/metrics").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|figure| figure.trim().parse().ok()).unwrap_or_default()
}

/// One pod takes another's address and writes to a third, all of one node.
#[test]
fn a_pod_cannot_send_in_another_pods_name_in_either_family() {
    let mut mesh = Mesh::start("forge", 1).unwrap();
    mesh.add_pods(3).unwrap();
    let ip = |pod: &Pod, args: &[&str]| {
        let net = format!("--net={}", pod.namespace.path().display());
        let command = mesh.members[0].node.command("nsenter").arg(net).arg("ip");
        command.args(args).stdout().unwrap();
    };
    let pods = mesh.pods();
    let (victim, forger, reader) = (pods[0], pods[1], pods[2]);

    for v4 in [true, false] {
        let (name, own) = (victim.address(v4).unwrap(), forger.address(v4).unwrap());
        ip(forger, &["address", "add", &ipnet::IpNet::from(name).to_string(), "dev", "lo"]);
        std::thread::sleep(Duration::from_millis(50));
        let inbox = listen(reader, reader.address(v4).unwrap());
        let to = inbox.local_addr().unwrap();

        send(&forger.namespace, name, to);
        assert!(inbox.recv(&mut [0; 16]).is_err(), "v4={v4}: a forged packet arrived");
        send(&forger.namespace, own, to);
        assert_eq!(inbox.recv_from(&mut [0; 16]).unwrap().1.ip(), own);
    }
    let table = ["add", "table", "inet", "news"];
    mesh.members[0].node.command("nft").args(table).stdout().unwrap();
    let reason = r#"hawser_discarded_packets_total{reason="pod_source_forged"}"#;
    eventually("the count", LIMIT, || metric(&mesh, reason) > 0).unwrap();

    // Without the rule the IPv6 packet arrives: no reverse-path filter stops it.
    mesh.members[0].kill_agent();
    let gone = ["delete", "table", "inet", "hawser"];
    mesh.members[0].node.command("nft").args(gone).stdout().unwrap();
    let inbox = listen(mesh.pods()[2], mesh.pods()[2].address(false).unwrap());
    let name = mesh.pods()[0].address(false).unwrap();
    send(&mesh.pods()[1].namespace, name, inbox.local_addr().unwrap());
    assert_eq!(inbox.recv_from(&mut [0; 16]).unwrap().1.ip(), name);
}

/// A stranger on the underlay speaks in the mesh's name.
#[test]
fn blocked_packets_are_a_metric_an_event_and_a_line_of_status() {
    let mut mesh = Mesh::start("told", 1).unwrap();
    mesh.add_pods(1).unwrap();
    let stranger = mesh.lab.node("stranger").unwrap();
    let via = mesh.members[0].node.address().v4.to_string();
    let pod = mesh.pods()[0].address(true).unwrap();
    for args in [
        &["address", "add", "10.42.77.7/32", "dev", "lo"][..],
        &["route", "add", "10.42.0.0/16", "via", &via],
    ] {
        stranger.command("ip").args(args).stdout().unwrap();
    }

    // A question for the node's link address that comes in the mesh's name gets no answer either.
    stranger.namespace().ping_until(mesh.members[0].node.address().v4.into(), b"", LIMIT).unwrap();

    for _ in 0..5 {
        send(stranger.namespace(), "10.42.77.7".parse().unwrap(), (pod, PORT).into());
    }

    let blocked = || metric(&mesh, "hawser_clear_packets_blocked_total");
    eventually("the metric", LIMIT, || blocked() >= 5).unwrap();
    let told = || {
        let events = mesh.controller.api(async |client| {
            let events = kube::Api::<Event>::namespaced(client, "default");
            Ok(events.list(&kube::api::ListParams::default()).await?.items)
        });
        let ours = |event: &Event| {
            let about = event.regarding.clone().unwrap_or_default();
            event.reason.as_deref() == Some("PlaintextBlocked")
                && about.name.as_deref() == Some("node-1")
        };
        events.unwrap().iter().any(ours)
    };
    eventually("the event", LIMIT, told).unwrap();
    let agent = mesh.members[0].node.state().join("agent.sock");
    let status = mesh.members[0].node.command("hawser").arg("status").arg("--agent").arg(agent);
    let status = status.env("KUBECONFIG", mesh.controller.kubeconfig()).output().unwrap();
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(status.contains("5 packets blocked"), "{status}");
}

/// As for each node that joins or leaves, and each backend that comes or goes.
fn change_the_guard(node: &Namespace, times: u32) {
    let changed = node.block_on(async move || {
        let mut kernel = Kernel::open("hawser0")?;
        for time in 0..times {
            let open = Open { from: ["10.42.2.0/24".parse()?].into(), ..Open::default() };
            let guard = Guard {
                ranges: ["10.42.0.0/16".parse()?, "fd42::/48".parse()?].into(),
                tun: "hawser0".into(),
                masquerade: ["10.42.1.0/24".parse()?].into(),
                behind: [].into(),
                forwards: false,
                machines: [].into(),
                devices: [].into(),
                open: if time % 2 == 0 { BTreeMap::new() } else { [("eth0".into(), open)].into() },
            };
            kernel.replace_table(&guard).await?;
        }
        Ok(())
    });
    changed.unwrap();
}

/// A stranger writes in the mesh's name as fast as he can.
#[test]
fn no_packet_slips_in_between_an_old_guard_and_a_new_one() {
    let lab = Lab::new("between").unwrap();
    let (node, stranger) = (lab.node("a").unwrap(), lab.node("stranger").unwrap());
    let via = node.address().v4.to_string();
    node.command("ip").args(["address", "add", "10.42.1.1/32", "dev", "lo"]).stdout().unwrap();
    for args in [
        &["address", "add", "10.42.77.7/32", "dev", "lo"][..],
        &["route", "add", "10.42.0.0/16", "via", &via],
    ] {
        stranger.command("ip").args(args).stdout().unwrap();
    }
    let inbox = node.namespace().run(|| UdpSocket::bind("10.42.1.1:7100").unwrap());
    inbox.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let forged = stranger.namespace().run(|| UdpSocket::bind("10.42.77.7:0").unwrap());
    forged.connect("10.42.1.1:7100").unwrap();
    forged.send(b"control").unwrap();
    inbox.recv(&mut [0; 16]).expect("without a guard it arrives");

    change_the_guard(node.namespace(), 1);
    let (sent, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let (count, until) = (Arc::clone(&sent), Arc::clone(&stop));
    let flood = std::thread::spawn(move || {
        while !until.load(Ordering::Relaxed) {
            let _ = forged.send(b"forged");
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    change_the_guard(node.namespace(), CHANGES);
    stop.store(true, Ordering::Relaxed);
    flood.join().unwrap();

    let arrived = std::iter::from_fn(|| inbox.recv(&mut [0; 16]).ok()).count();
    let sent = sent.load(Ordering::Relaxed);
    println!("{arrived} of {sent} forged packets came in while the guard changed {CHANGES} times");
    promised(arrived == 0, || format!("{arrived} of {sent} forged packets came in"));
}
