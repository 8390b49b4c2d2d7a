//! The whole mesh: controller, agents and pods, as the demo starts them, under faults.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket},
    time::{Duration, Instant},
};

use e2e::lab::{Cni, Flow, Namespace, eventually};
use e2e::mesh::{Alone, Member, Mesh, Pod, add_pods, every_pair, pods};
use e2e::oracle::{Baseline, Oracles, marker, promised};

const LIMIT: Duration = Duration::from_secs(20);
const TUNNEL: &str = "hawser0";

/// The library's own words while nobody listens at the API.
const API_AWAY: &str = "kube_client::client::builder";

fn peers(member: &Member) -> Vec<String> {
    let state = member.state().unwrap_or_default();
    let peers = state["peers"].as_array().cloned().unwrap_or_default();
    peers.iter().filter_map(|peer| peer["name"].as_str().map(str::to_owned)).collect()
}

/// Every pair reaches; panics with the pairs that do not.
fn all_reach(mesh: &Mesh, marker: &[u8]) {
    let reach = mesh.reach(marker, LIMIT);
    assert!(reach.total() > 0 && reach.failures().is_empty(), "{}", reach.failures().join("\n"));
}

fn first_and_last(mesh: &Mesh) -> (&Pod, &Pod) {
    let pods = mesh.pods();
    (pods[0], pods[pods.len() - 1])
}

/// A flow between the first and the last pod while `fault` happens; its packets must not show up
/// on the underlay, and every pair must reach again afterwards.
fn survives(mesh: &mut Mesh, marker: &[u8], fault: impl FnOnce(&mut Mesh)) {
    let oracles = Oracles::watch(&mesh.lab, marker).unwrap().allow_error(API_AWAY);
    let tunnel = mesh.members[0].node.capture(TUNNEL, &[marker]).unwrap();
    all_reach(mesh, marker);
    let (from, to) = first_and_last(mesh);
    let flows: Vec<Flow> = to
        .addresses
        .iter()
        .map(|&address| {
            Flow::start(&from.namespace, (&to.namespace, address), 200, marker).unwrap()
        })
        .collect();
    std::thread::sleep(Duration::from_millis(200));

    fault(mesh);
    all_reach(mesh, marker);
    std::thread::sleep(Duration::from_millis(300));

    for flow in flows {
        let report = flow.finish();
        assert!(report.received > 20, "the flow never came back: {report:?}");
        println!("flow: {report:?}");
    }
    oracles.judge(&tunnel.seen()).unwrap();
}

#[test]
fn every_pod_and_every_node_reaches_every_pod_and_nothing_is_readable() {
    let marker = marker();
    let mut mesh = Mesh::start("all", 3).unwrap();
    let oracles = Oracles::watch(&mesh.lab, &marker).unwrap();
    mesh.add_pods(2).unwrap();
    let tunnel = mesh.members[0].node.capture(TUNNEL, &[&marker]).unwrap();

    all_reach(&mesh, &marker);
    for member in &mesh.members {
        for pod in mesh.pods() {
            for &address in &pod.addresses {
                member.node.namespace().ping_until(address, &marker, LIMIT).unwrap();
            }
        }
    }

    let control = tunnel.seen();
    let verdict = oracles.judge(&control).unwrap();
    assert!(verdict.underlay.udp_ports.contains(&51820), "no tunnel traffic was captured");
}

/// Whom `to` sees when `from` sends a datagram to its `address`.
fn seen_source(from: &Namespace, to: &Namespace, address: IpAddr) -> IpAddr {
    let receiver = to.run(move || UdpSocket::bind((address, 0)).unwrap());
    receiver.set_read_timeout(Some(LIMIT)).unwrap();
    let target = receiver.local_addr().unwrap();
    from.run(move || {
        let any: IpAddr = if target.is_ipv4() {
            Ipv4Addr::UNSPECIFIED.into()
        } else {
            Ipv6Addr::UNSPECIFIED.into()
        };
        UdpSocket::bind((any, 0)).unwrap().send_to(b"who am I?", target).unwrap();
    });
    receiver.recv_from(&mut [0; 16]).unwrap().1.ip()
}

#[test]
fn pods_keep_their_address_in_the_mesh_and_take_the_nodes_outside_of_it() {
    let marker = marker();
    let mut mesh = Mesh::start("masq", 2).unwrap();
    mesh.add_pods(1).unwrap();
    all_reach(&mesh, &marker);
    let outside = mesh.lab.node("outside").unwrap();
    let node = mesh.members[0].node.address();
    let (pod, other) = first_and_last(&mesh);

    for v4 in [true, false] {
        let (own, theirs) = (pod.address(v4).unwrap(), other.address(v4).unwrap());
        assert_eq!(seen_source(&pod.namespace, &other.namespace, theirs), own);

        let (far, near): (IpAddr, IpAddr) = if v4 {
            (outside.address().v4.into(), node.v4.into())
        } else {
            (outside.address().v6.into(), node.v6.into())
        };
        outside.namespace().ping_until(near, &marker, LIMIT).unwrap();
        assert_eq!(seen_source(&pod.namespace, outside.namespace(), far), near);
    }
}

#[test]
fn without_a_controller_agents_and_pods_of_a_file_reach_each_other() {
    let marker = marker();
    let mut mesh = Alone::start("alone", 2).unwrap();
    let oracles = Oracles::watch(&mesh.lab, &marker).unwrap();
    add_pods(&mesh.lab, &mut mesh.members, 2).unwrap();
    let tunnel = mesh.members[0].node.capture(TUNNEL, &[&marker]).unwrap();

    let reach = every_pair(&pods(&mesh.members), &marker, LIMIT);

    assert_eq!((reach.total(), reach.failures()), (24, Vec::new()));
    oracles.judge(&tunnel.seen()).unwrap();
}

#[test]
fn a_killed_agent_leaks_nothing_and_comes_back() {
    let marker = marker();
    let mut mesh = Mesh::start("killa", 2).unwrap();
    mesh.add_pods(1).unwrap();

    survives(&mut mesh, &marker, |mesh| {
        for at in [0, 1] {
            mesh.members[at].kill_agent();
            std::thread::sleep(Duration::from_secs(1));
            mesh.members[at].start_agent().unwrap();
            mesh.members[at].wait_until_ready(LIMIT).unwrap();
        }
    });
}

#[test]
fn a_killed_controller_costs_no_packet_and_comes_back() {
    let marker = marker();
    let mut mesh = Mesh::start("killc", 2).unwrap();
    mesh.add_pods(1).unwrap();
    all_reach(&mesh, &marker);
    let (from, to) = first_and_last(&mesh);
    let target = (&to.namespace, to.address(true).unwrap());
    let flow = Flow::start(&from.namespace, target, 200, &marker).unwrap();

    mesh.controller.kill();
    std::thread::sleep(Duration::from_secs(1));
    mesh.controller.start().unwrap();
    std::thread::sleep(Duration::from_secs(1));

    let report = flow.finish();
    promised((report.lost, report.duplicated) == (0, 0), || format!("{report:?}"));
    assert_eq!(mesh.controller.nodes().unwrap().len(), 2);
    let kubeconfig = mesh.controller.add_node("node-3").unwrap();
    let mut late = Member::new(mesh.lab.node("node-3").unwrap(), kubeconfig);
    late.start_agent().unwrap();
    late.wait_until_ready(LIMIT).unwrap();
    mesh.members.push(late);
    for member in &mesh.members {
        eventually("two peers", LIMIT, || peers(member).len() == 2).unwrap();
    }
}

#[test]
fn with_everything_killed_nothing_leaks_and_everything_comes_back() {
    let marker = marker();
    let mut mesh = Mesh::start("killb", 2).unwrap();
    mesh.add_pods(1).unwrap();

    survives(&mut mesh, &marker, |mesh| {
        mesh.controller.kill();
        for member in &mut mesh.members {
            member.kill_agent();
        }
        std::thread::sleep(Duration::from_secs(1));
        mesh.controller.start().unwrap();
        for member in &mut mesh.members {
            member.start_agent().unwrap();
        }
        mesh.wait_until_ready().unwrap();
    });
}

#[test]
fn with_the_api_away_traffic_goes_on_and_pods_and_agents_start() {
    let marker = marker();
    let mut mesh = Mesh::start("away", 2).unwrap();
    mesh.add_pods(1).unwrap();
    all_reach(&mesh, &marker);
    let tunnel = mesh.members[0].node.capture(TUNNEL, &[&marker]).unwrap();
    let oracles = Oracles::watch(&mesh.lab, &marker).unwrap().allow_error(API_AWAY);

    mesh.controller.kill();
    mesh.members[0].add_pod(&mesh.lab, "late").unwrap();
    all_reach(&mesh, &marker);
    oracles.judge(&tunnel.seen()).unwrap();
    for member in &mut mesh.members {
        member.kill_agent();
        member.start_agent().unwrap();
    }
    let restarted = Instant::now();
    let (from, to) = first_and_last(&mesh);
    for &address in &to.addresses {
        from.namespace.ping_until(address, &marker, LIMIT).unwrap();
    }
    let took = restarted.elapsed();

    println!("both agents restarted without an API: first packets after {took:?}");
    assert!(took < Duration::from_secs(5), "tunnels were back after {took:?}");
    all_reach(&mesh, &marker);
}

#[test]
fn a_deleted_node_is_dropped_by_its_peers() {
    let marker = marker();
    let mut mesh = Mesh::start("gone", 3).unwrap();
    mesh.add_pods(1).unwrap();
    all_reach(&mesh, &marker);

    mesh.controller
        .api(async |client| {
            let nodes = kube::Api::<api::MeshNode>::all(client);
            nodes.delete("node-3", &kube::api::DeleteParams::default()).await?;
            Ok(())
        })
        .unwrap();

    for member in &mesh.members[..2] {
        eventually("node-3 is dropped", LIMIT, || !peers(member).contains(&"node-3".into()))
            .unwrap();
        assert_eq!(peers(member).len(), 1);
    }
    let (from, gone) = first_and_last(&mesh);
    for &address in &gone.addresses {
        assert!(from.namespace.ping(address, &marker).is_err(), "{address} still answers");
    }
}

#[test]
fn uninstall_leaves_nothing_behind() {
    let mut mesh = Alone::prepare("uninst", 2).unwrap();
    let before = Baseline::of(&mesh.members[0].node).unwrap();
    let member = &mut mesh.members[0];
    member.start_agent().unwrap();
    member.wait_until_ready(LIMIT).unwrap();
    member.add_pod(&mesh.lab, "a").unwrap();
    let during = before.difference(&Baseline::of(&member.node).unwrap());

    let pod = member.pods.remove(0);
    let deleted = Cni::new(&member.node).del(&pod.container, &pod.namespace).unwrap();
    member.kill_agent();
    let state = member.node.state();
    member
        .node
        .command("hawser-agent")
        .arg("uninstall")
        .arg("--state")
        .arg(state)
        .stdout()
        .unwrap();
    let after = before.difference(&Baseline::of(&member.node).unwrap());

    assert!(deleted.ok, "{}", deleted.json);
    assert!(during.iter().any(|line| line.contains(TUNNEL)), "{during:#?}");
    assert_eq!(after, [""; 0]);
}

#[test]
fn descriptors_return_to_where_they_were() {
    let marker = marker();
    let mut mesh = Mesh::start("fds", 2).unwrap();
    mesh.add_pods(1).unwrap();
    all_reach(&mesh, &marker);
    let held = |mesh: &Mesh| {
        let agent = mesh.members[0].agent().unwrap().open_files().unwrap();
        (agent, mesh.controller.process().unwrap().open_files().unwrap())
    };
    std::thread::sleep(Duration::from_secs(1));
    let before = held(&mesh);

    for round in 0..5 {
        let pod = mesh.lab.pod(&mesh.members[0].node, &format!("p{round}")).unwrap();
        assert!(Cni::new(&mesh.members[0].node).add("p", &pod).unwrap().ok);
        mesh.controller.hawser().arg("status").output().unwrap();
        mesh.members[0].state().unwrap();
        mesh.members[1].kill_agent();
        mesh.members[1].start_agent().unwrap();
        mesh.members[1].wait_until_ready(LIMIT).unwrap();
        all_reach(&mesh, &marker);
        assert!(Cni::new(&mesh.members[0].node).del("p", &pod).unwrap().ok);
    }

    let returned = || {
        let (agent, controller) = held(&mesh);
        agent <= before.0 + 1 && controller <= before.1 + 1
    };
    eventually("the descriptors of before", LIMIT, returned)
        .unwrap_or_else(|error| panic!("{error}: {before:?}, then {:?}", held(&mesh)));
}

#[test]
fn a_hundred_nodes_converge() {
    const NODES: usize = 100;
    let marker = marker();
    let mut mesh = Mesh::prepare("hundred", NODES, &mut |_| {}).unwrap();
    let start = Instant::now();
    for member in &mut mesh.members {
        member.start_agent().unwrap();
    }

    for member in &mesh.members {
        let name = member.node.name();
        eventually(&format!("99 peers on {name}"), Duration::from_secs(60), || {
            peers(member).len() == NODES - 1
        })
        .unwrap();
    }
    let converged = start.elapsed();

    let rss = mesh.members.iter().map(|member| member.agent().unwrap().rss_kib().unwrap());
    let (most, total) = rss.fold((0, 0), |(most, total), one| (one.max(most), total + one));
    println!(
        "{NODES} nodes: every agent knows every peer after {:.1} s; agent RSS {} KiB on average, {most} KiB at most; controller {} KiB",
        converged.as_secs_f64(),
        total / NODES as u64,
        mesh.controller.process().unwrap().rss_kib().unwrap(),
    );
    let nodes = mesh.controller.nodes().unwrap();
    let subnets = nodes.iter().flat_map(|node| {
        let name = node.metadata.name.clone().unwrap();
        node.spec.subnets.iter().map(move |subnet| (name.clone(), subnet.parse().unwrap()))
    });
    let held: Vec<_> = subnets.collect();
    assert_eq!(held.len(), 2 * NODES);
    assert_eq!(e2e::oracle::double_owners(&held), [""; 0]);
    for (at, (owner, subnet)) in held.iter().enumerate().step_by(20) {
        let from = &mesh.members[(at + 7) % NODES];
        assert_ne!(from.node.name(), owner);
        let own = api::first_host(*subnet);
        from.node.namespace().ping_until(own, &marker, LIMIT).unwrap();
    }
    assert!(most < 64 << 10, "an agent takes {most} KiB");
}
