//! Sites with gateways: who speaks with whom, what happens when a gateway dies, and that nothing
//! leaves in clear on the way.

use std::{collections::BTreeSet, time::Duration};

use e2e::{
    lab::{Flow, eventually},
    mesh::{Member, Mesh, Pod},
    oracle::{marker, promised},
};
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(20);
/// From a gateway's death until another one is used.
const REPLACED: Duration = Duration::from_secs(2);

fn names(member: &Member, list: &str, field: &str) -> BTreeSet<String> {
    let state = member.state().unwrap_or_default();
    let all = state[list].as_array().cloned().unwrap_or_default();
    all.iter().filter_map(|one| one[field].as_str().map(str::to_owned)).collect()
}

fn speaks_with(member: &Member, peers: &[&str]) -> bool {
    names(member, "peers", "name") == peers.iter().map(ToString::to_string).collect()
}

fn goes_through(member: &Member, gateway: &str) -> bool {
    names(member, "behind", "through") == [gateway.to_owned()].into()
}

fn flow(from: &Pod, to: &Pod, marker: &[u8], v4: bool) -> Flow {
    Flow::start(&from.namespace, (&to.namespace, to.address(v4).unwrap()), 500, marker).unwrap()
}

/// Site a: node-1. Site b: gateways node-2 and node-3, and node-4 behind them.
fn two_sites(name: &str) -> Mesh {
    let mut mesh = Mesh::start(name, 4).unwrap();
    mesh.stand(&[("node-1", "a"), ("node-2", "b"), ("node-3", "b"), ("node-4", "b")]).unwrap();
    let gateways = json!([{"site": "b", "gateways": ["node-2", "node-3"]}]);
    mesh.ask_for(json!({"siteGateways": gateways, "returnAfter": "3s"})).unwrap();
    mesh.add_pods(1).unwrap();
    let [a, g1, g2, b] = mesh.members.as_slice() else { panic!("four nodes") };
    eventually("sites apart", LIMIT, || {
        speaks_with(a, &["node-2", "node-3"])
            && speaks_with(b, &["node-2", "node-3"])
            && speaks_with(g1, &["node-1", "node-3", "node-4"])
            && speaks_with(g2, &["node-1", "node-2", "node-4"])
            && goes_through(a, "node-2")
            && goes_through(b, "node-2")
    })
    .unwrap();
    mesh
}

#[test]
fn sites_reach_each_other_through_a_gateway_and_by_another_two_seconds_after_it_died() {
    let marker = marker();
    let mut mesh = two_sites("gwsites");
    let capture = mesh.lab.switch().unwrap().capture(&[&marker]).unwrap();
    let reach = mesh.reach(&marker, LIMIT);
    assert!(reach.failures().is_empty(), "{}", reach.failures().join("\n"));
    let pods = mesh.pods();
    let (a, b, g2) = (pods[0], pods[3], pods[2]);
    let across = [true, false].map(|v4| [flow(a, b, &marker, v4), flow(b, a, &marker, v4)]);
    let beside = flow(a, g2, &marker, true);
    std::thread::sleep(Duration::from_secs(2));

    mesh.members[1].kill_agent();
    let replaced = eventually("the other gateway", LIMIT, || {
        goes_through(&mesh.members[0], "node-3") && goes_through(&mesh.members[3], "node-3")
    });
    let replaced = replaced.unwrap();
    std::thread::sleep(Duration::from_secs(1));
    mesh.members[1].start_agent().unwrap();
    let returned = eventually("the first gateway again", LIMIT, || {
        goes_through(&mesh.members[0], "node-2") && goes_through(&mesh.members[3], "node-2")
    });
    println!("replaced after {replaced:?}, back after {:?}", returned.unwrap());
    std::thread::sleep(Duration::from_secs(1));

    for flow in across.into_iter().flatten() {
        let report = flow.finish();
        println!("across: {report:?}");
        assert!(report.gap <= REPLACED + Duration::from_millis(500), "{report:?}");
        // One break, at its death; going back to it costs nothing.
        let one_break = report.gap.as_millis() as u64 / 2 + 20;
        promised(report.lost <= one_break, || format!("the way back lost packets: {report:?}"));
    }
    let report = beside.finish();
    promised(report.lost == 0, || format!("no gateway of this pair died: {report:?}"));
    promised(capture.seen().marked() == 0, || "in clear on the way".into());
    let clear = mesh.ask_for(json!({"backend": "direct", "encryption": "None"}));
    clear.unwrap();
    eventually("the control: in clear", LIMIT, || {
        mesh.reach(&marker, Duration::from_secs(2));
        capture.seen().marked() > 0
    })
    .unwrap();
}

#[test]
fn a_gateway_that_is_not_of_its_site_is_passed_over_and_the_mesh_says_so() {
    let mesh = two_sites("gwstranger");
    let twice = json!([{"site": "b", "gateways": ["node-2", "node-2"]}]);
    let error = mesh.ask_for(json!({"siteGateways": twice})).unwrap_err();
    assert!(format!("{error:#}").contains("gateways repeats a node"), "{error:#}");
    let sites =
        json!([{"site": "b", "gateways": ["node-2"]}, {"site": "b", "gateways": ["node-3"]}]);
    let error = mesh.ask_for(json!({"siteGateways": sites})).unwrap_err();
    assert!(format!("{error:#}").contains("siteGateways repeats a site"), "{error:#}");

    let stranger = json!([{"site": "b", "gateways": ["node-1"]}]);
    mesh.ask_for(json!({"siteGateways": stranger})).unwrap();

    let all = ["node-2", "node-3", "node-4"];
    eventually("everybody speaks with everybody", LIMIT, || speaks_with(&mesh.members[0], &all))
        .unwrap();
    let reach = mesh.reach(&marker(), LIMIT);
    assert!(reach.failures().is_empty(), "{}", reach.failures().join("\n"));
    eventually("the Mesh says so", LIMIT, || {
        let (reason, message) = degraded(&mesh);
        reason == "GatewayElsewhere" && message.contains("node-1 (of b)")
    })
    .unwrap();
}

fn degraded(mesh: &Mesh) -> (String, String) {
    let found = mesh
        .controller
        .api(async move |client| Ok(kube::Api::<api::Mesh>::all(client).get(api::MESH).await?));
    let conditions = found.unwrap().status.unwrap_or_default().conditions;
    let degraded = api::conditions::get(&conditions, "Degraded").unwrap();
    (degraded.reason.clone(), degraded.message.clone())
}
