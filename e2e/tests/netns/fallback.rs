//! A list of carriers: a pair leaves one that is blocked for the next, and goes back; never into
//! clear text that nobody asked for. And sealed datagrams in the shape of VXLAN, where their own port
//! is blocked.

use std::time::{Duration, Instant};

use e2e::lab::eventually;
use e2e::mesh::Mesh;
use e2e::oracle::{marker, promised};
use serde_json::{Value, json};

use crate::backends::{carriers, flows, notes};

const LIMIT: Duration = Duration::from_secs(20);
/// From the block to the other carrier.
const SWITCHED: Duration = Duration::from_secs(5);

fn all_by(mesh: &Mesh, backend: &str) -> bool {
    mesh.members.iter().all(|member| carriers(member).iter().all(|is| is == backend))
}

fn carried_by(mesh: &Mesh, backend: &str) -> Duration {
    eventually(&format!("carried by {backend}"), LIMIT, || all_by(mesh, backend)).unwrap()
}

/// What each peer's carrier stands in for, as the first agent tells.
fn instead_of(mesh: &Mesh) -> Value {
    mesh.members[0].state().unwrap()["peers"][0]["insteadOf"].clone()
}

/// What is blocked comes to the first machine no more; what it sends still leaves.
fn falls_back_and_returns(name: &str, backend: &str, blocked: &[&str]) {
    let marker = marker();
    let mut mesh = Mesh::start(name, 2).unwrap();
    mesh.add_pods(1).unwrap();
    let list = json!(["udp", "wireguard"]);
    let spec =
        json!({"encryption": "None", "backend": backend, "fallback": list, "returnAfter": "2s"});
    mesh.ask_for(spec).unwrap();
    carried_by(&mesh, backend);
    let reach = mesh.reach(&marker, LIMIT);
    assert!(reach.failures().is_empty(), "{}", reach.failures().join("\n"));
    let flows = flows(&mesh, &marker);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(instead_of(&mesh), Value::Null);

    let harmed = Instant::now();
    mesh.members[0].node.block(blocked).unwrap();
    carried_by(&mesh, "udp");
    let switched = harmed.elapsed();
    assert_eq!(instead_of(&mesh), backend);
    let reach = mesh.reach(&marker, LIMIT);
    assert!(reach.failures().is_empty(), "{}", reach.failures().join("\n"));
    mesh.members[0].node.block(&[]).unwrap();
    let returned = carried_by(&mesh, backend);

    println!("{backend}: left after {switched:?}, back after {returned:?}");
    assert!(switched <= SWITCHED, "{switched:?}");
    assert_eq!(instead_of(&mesh), Value::Null);
    for member in &mesh.members {
        assert_eq!(member.state().unwrap()["guard"]["blockedPackets"], 0);
    }
    for (place, flow) in flows.into_iter().enumerate() {
        let report = flow.finish();
        println!("{backend}: {report:?}");
        assert!(report.gap <= SWITCHED, "{report:?}");
        let open = place < 2;
        promised(!open || report.lost == 0, || format!("the way that is open lost: {report:?}"));
    }
}

#[test]
fn a_pair_leaves_a_blocked_vxlan_within_five_seconds_and_goes_back() {
    falls_back_and_returns("fbvxlan", "vxlan", &["udp dport 4789"]);
}

#[test]
fn a_pair_leaves_blocked_plain_routes_within_five_seconds_and_goes_back() {
    let foreign = ["ip saddr 10.42.0.0/16", "ip6 saddr fd42::/48"];
    falls_back_and_returns("fbdirect", "direct", &foreign);
}

#[test]
fn a_tunnel_that_is_blocked_turns_into_clear_text_only_where_the_mesh_says_none() {
    let marker = marker();
    let mut mesh = Mesh::start("fbclear", 2).unwrap();
    mesh.add_pods(1).unwrap();
    for encryption in ["Required", "Preferred"] {
        let plain =
            json!({"encryption": encryption, "backend": "wireguard", "fallback": ["vxlan"]});
        let asked = mesh.ask_for(plain);
        assert_eq!(asked.is_err(), encryption == "Required", "{asked:?}");
    }
    let reach = mesh.reach(&marker, LIMIT);
    assert!(reach.failures().is_empty(), "{}", reach.failures().join("\n"));
    let flows = flows(&mesh, &marker);
    std::thread::sleep(Duration::from_secs(1));

    let sealed = mesh.lab.switch().unwrap().capture(&[&marker]).unwrap();
    mesh.members[0].node.block(&["udp dport 51820"]).unwrap();
    std::thread::sleep(SWITCHED);
    assert!(all_by(&mesh, "wireguard"), "there is no other way");
    promised(sealed.seen().marked() == 0, || "Preferred sent in clear to a node with a key".into());
    mesh.ask_for(json!({"encryption": "None"})).unwrap();
    carried_by(&mesh, "vxlan");
    let reach = mesh.reach(&marker, LIMIT);

    assert!(reach.failures().is_empty(), "{}", reach.failures().join("\n"));
    assert!(sealed.seen().marked() > 0, "this capture must see what is in clear");
    for flow in flows {
        flow.finish();
    }
}

/// How datagrams to each peer travel, by the agents' own word.
fn all_travel(mesh: &Mesh, path: &Value) -> bool {
    let travels = |member: &e2e::mesh::Member| {
        let peers = member.state().unwrap_or_default()["peers"].clone();
        peers.as_array().is_some_and(|peers| peers.iter().all(|peer| peer["path"] == *path))
    };
    mesh.members.iter().all(travels)
}

#[test]
fn sealed_datagrams_take_the_shape_of_vxlan_where_their_port_is_blocked_and_leave_it_again() {
    let (marker, shaped) = (marker(), json!("vxlan-shaped"));
    let mut mesh = Mesh::start("shaped", 2).unwrap();
    mesh.ask_for(json!({"vxlanShapedPort": 8472, "returnAfter": "2s"})).unwrap();
    eventually("room for the shape", LIMIT, || {
        mesh.members.iter().all(|member| member.state().unwrap_or_default()["mtu"] == 1370)
    })
    .unwrap();
    mesh.add_pods(1).unwrap();
    let reach = mesh.reach(&marker, LIMIT);
    assert!(reach.failures().is_empty(), "{}", reach.failures().join("\n"));
    let flows = flows(&mesh, &marker);
    std::thread::sleep(Duration::from_secs(2));
    assert!(all_travel(&mesh, &Value::Null));
    let capture = || mesh.lab.switch().unwrap().capture(&[&marker]).unwrap();

    let all = capture();
    for member in &mesh.members {
        member.node.block_outgoing(&["udp dport 51820"]).unwrap();
    }
    let harmed = Instant::now();
    eventually("in the shape", LIMIT, || all_travel(&mesh, &shaped)).unwrap();
    let switched = harmed.elapsed();
    let while_blocked = capture();
    let reach = mesh.reach(&marker, LIMIT);
    assert!(reach.failures().is_empty(), "{}", reach.failures().join("\n"));
    let seen = while_blocked.seen();
    for member in &mesh.members {
        member.node.block_outgoing(&[]).unwrap();
    }
    let returned = eventually("plain", LIMIT, || all_travel(&mesh, &Value::Null)).unwrap();

    println!("left after {switched:?}, back after {returned:?}, {} frames meanwhile", seen.frames);
    assert!(switched <= SWITCHED, "{switched:?}");
    assert_eq!(seen.udp_ports, [8472].into(), "nothing but the shape");
    promised(all.seen().marked() == 0, || "in clear in another shape".into());
    for flow in flows {
        let report = flow.finish();
        println!("{report:?}");
        assert!(report.gap <= SWITCHED, "{report:?}");
    }
    let after = capture();
    let reach = mesh.reach(&marker, LIMIT);
    assert!(reach.failures().is_empty(), "{}", reach.failures().join("\n"));
    assert!(after.seen().udp_ports.contains(&51820), "{:?}", after.seen().udp_ports);
}

/// From the first packet on the plain port lets nothing through.
fn comes_up_in_the_shape(name: &str, flags: &[&str]) {
    let (marker, shaped) = (marker(), json!("vxlan-shaped"));
    let mut mesh = Mesh::prepare(name, 2, &mut |_| {}).unwrap();
    mesh.ask_for(json!({"vxlanShapedPort": 8472})).unwrap();
    for member in &mut mesh.members {
        member.node.block_outgoing(&["udp dport 51820"]).unwrap();
        member.start_agent_with(flags).unwrap();
    }
    mesh.wait_until_ready().unwrap();
    mesh.add_pods(1).unwrap();
    let all = mesh.lab.switch().unwrap().capture(&[&marker]).unwrap();

    let began = Instant::now();
    let reach = mesh.reach(&marker, LIMIT);

    assert!(reach.failures().is_empty(), "{}", reach.failures().join("\n"));
    println!("{name}: all pods reach all others {:?} after they were there", began.elapsed());
    eventually("in the shape", LIMIT, || all_travel(&mesh, &shaped)).unwrap();
    let seen = all.seen();
    assert_eq!(seen.udp_ports, [8472].into(), "nothing but the shape");
    promised(seen.marked() == 0, || "in clear in the shape".into());
}

#[test]
fn a_mesh_comes_up_in_the_shape_of_vxlan_where_the_plain_port_never_worked() {
    comes_up_in_the_shape("upshaped", &[]);
}

#[test]
fn the_other_engine_comes_up_in_the_shape_as_well() {
    comes_up_in_the_shape("upshapedbt", &["--engine", "boringtun"]);
}

#[test]
fn an_agent_that_starts_again_begins_with_the_carrier_that_it_used_last() {
    let mut mesh = Mesh::start("fblast", 2).unwrap();
    let list = json!({"encryption": "None", "backend": "vxlan", "fallback": ["udp"],
                      "returnAfter": "2s"});
    mesh.ask_for(list).unwrap();
    carried_by(&mesh, "vxlan");
    mesh.members[0].node.block(&["udp dport 4789"]).unwrap();
    carried_by(&mesh, "udp");
    let told = |words: &str| notes(&mesh, "CarrierChanged").iter().any(|note| note.contains(words));
    eventually("the event", LIMIT, || told("node-2 by udp instead of vxlan")).unwrap();

    mesh.members[0].kill_agent();
    mesh.members[0].start_agent().unwrap();
    mesh.members[0].wait_until_ready(LIMIT).unwrap();

    assert_eq!(carriers(&mesh.members[0]), ["udp"], "from the first moment on");
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(carriers(&mesh.members[0]), ["udp"]);
    mesh.members[0].node.block(&[]).unwrap();
    carried_by(&mesh, "vxlan");
    let told = |words: &str| notes(&mesh, "CarrierChanged").iter().any(|note| note.contains(words));
    eventually("its end", LIMIT, || told("again")).unwrap();
}

#[test]
fn uninstall_takes_the_probes_tables_and_rules_away() {
    let mut mesh = Mesh::start("fbremove", 2).unwrap();
    let list = json!({"encryption": "None", "backend": "vxlan", "fallback": ["direct", "udp"]});
    mesh.ask_for(list).unwrap();
    carried_by(&mesh, "vxlan");
    std::thread::sleep(Duration::from_secs(1));
    let ip = |args: &[&str], mesh: &Mesh| {
        mesh.members[0].node.command("ip").args(args).output().unwrap().stdout
    };
    let left = |mesh: &Mesh| -> Vec<u8> {
        let rules = [["-4", "rule"], ["-6", "rule"]].map(|args| ip(&args, mesh)).concat();
        let tables = ["73", "74"].into_iter().flat_map(|table| {
            ["-4", "-6"].map(|family| ip(&[family, "route", "show", "table", table], mesh))
        });
        let marked = |line: &&str| line.contains("0x4857");
        let rules: String = String::from_utf8_lossy(&rules).lines().filter(marked).collect();
        tables.chain([rules.into_bytes()]).flatten().collect()
    };
    assert!(!left(&mesh).is_empty(), "probes have their tables");

    mesh.members[0].kill_agent();
    let node = &mesh.members[0].node;
    let uninstall = node.command("hawser-agent").args(["uninstall", "--state"]);
    uninstall.arg(node.state()).stdout().unwrap();

    assert_eq!(String::from_utf8_lossy(&left(&mesh)), "");
}
