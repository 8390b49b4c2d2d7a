//! A node's address changes while it is spoken with.

use std::time::Duration;

use e2e::lab::{Flow, FlowReport, Node, eventually};
use e2e::mesh::Mesh;
use e2e::oracle::marker;

const LIMIT: Duration = Duration::from_secs(30);
const PER_SECOND: u32 = 1000;
/// What is under way in one round trip, and in the moments without any address.
const A_MOMENT: u64 = 50;

/// Gives up both addresses and takes others of the same networks, as a new lease does; the way out
/// is found again. Returns the new ones.
fn renumber(node: &Node) -> [String; 2] {
    let (old, gateway) = (node.address(), "via");
    let ip = |args: &[&str]| node.command("ip").args(args).stdout().unwrap();
    let routes = [ip(&["route", "show", "default"]), ip(&["-6", "route", "show", "default"])];
    let way_out = routes.each_ref().map(|line| {
        let mut words = line.split_whitespace().skip_while(|word| *word != gateway);
        words.nth(1).map(str::to_owned)
    });
    let new = [
        format!("{}.77", prefix(&old.v4.to_string(), '.')),
        format!("{}:77", prefix(&old.v6.to_string(), ':')),
    ];
    for (at, length) in [24, 64].into_iter().enumerate() {
        let with = |address: &str| format!("{address}/{length}");
        ip(&["address", "del", &with(&old.both()[at].to_string()), "dev", "eth0"]);
        let add = ["address", "add", &with(&new[at]), "dev", "eth0", "nodad"];
        ip(&add[..if at == 0 { 5 } else { 6 }]);
        if let Some(via) = &way_out[at] {
            let family = ["-4", "-6"][at];
            ip(&[family, "route", "replace", "default", "via", via]);
        }
    }
    new
}

fn prefix(address: &str, separator: char) -> &str {
    address.rsplit_once(separator).unwrap().0
}

/// One flow only comes in: nothing but the announcement shows where the node is.
#[test]
fn a_node_that_gets_another_address_is_followed_at_once_and_says_so_to_the_api() {
    let mut mesh = Mesh::start("moved", 3).unwrap();
    mesh.add_pods(1).unwrap();
    let reach = mesh.reach(&marker(), LIMIT);
    assert!(reach.failures().is_empty(), "{}", reach.failures().join("\n"));
    let pods = mesh.pods();
    let flow = |from: usize, to: usize, v4: bool| {
        let to = (&pods[to].namespace, pods[to].address(v4).unwrap());
        Flow::start(&pods[from].namespace, to, PER_SECOND, b"moves").unwrap()
    };
    let flows =
        [("in", flow(0, 1, true)), ("out", flow(1, 2, false)), ("others", flow(2, 0, true))];

    std::thread::sleep(Duration::from_secs(1));
    let new = renumber(&mesh.members[1].node);
    std::thread::sleep(Duration::from_secs(2));

    for (way, flow) in flows {
        let FlowReport { sent, lost, gap, .. } = flow.finish();
        println!("{way}: {lost} of {sent} lost, nothing for {gap:?}");
        assert!(lost <= A_MOMENT, "{way}: {lost} of {sent} lost");
    }
    let told = || {
        let node =
            mesh.controller.hawser().args(["nodes", "show", "node-2", "-o", "json"]).stdout();
        node.is_ok_and(|node| new.iter().all(|address| node.contains(address.as_str())))
    };
    let took = eventually("the API knows the new addresses", LIMIT, told).unwrap();
    println!("the API knew after {took:?}");
}
