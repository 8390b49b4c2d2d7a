//! A site loses all of its links to the others, and gets them back.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use e2e::lab::Flow;
use e2e::mesh::Mesh;
use e2e::oracle::{marker, promised};

const LIMIT: Duration = Duration::from_secs(30);
/// From when the links are back until packets arrive.
const BACK: Duration = Duration::from_secs(2);
const PER_SECOND: u32 = 100;
/// To the tunnel's port, of the length of an initiation: no data record is so long.
const INITIATION: [u8; 4] = [0xca, 0x6c, 0, 156];
/// Of a pair of nodes, each way, beyond one a second: at its begin and end.
const AND_MORE: u64 = 30;

/// The last two of four nodes hear nobody else, and are heard by nobody else.
fn cut(mesh: &Mesh) {
    let [_, _, c, d] = mesh.members.as_slice() else { panic!("four nodes") };
    let [c, d] = [c, d].map(|member| member.node.address());
    let (v4, v6) = (format!("{}, {}", c.v4, d.v4), format!("{}, {}", c.v6, d.v6));
    let theirs = [format!("ip saddr {{ {v4} }}"), format!("ip6 saddr {{ {v6} }}")];
    let others = [format!("ip saddr != {{ {v4} }}"), format!("ip6 saddr != {{ {v6}, fe80::/10 }}")];
    for (place, member) in mesh.members.iter().enumerate() {
        let which = if place < 2 { &theirs } else { &others };
        member.node.block(&which.each_ref().map(String::as_str)).unwrap();
    }
    mesh.controller.node().block(&theirs.each_ref().map(String::as_str)).unwrap();
}

fn mend(mesh: &Mesh) {
    let nodes = mesh.members.iter().map(|member| &member.node);
    nodes.chain([mesh.controller.node()]).for_each(|node| node.block(&[]).unwrap());
}

fn is_cut_off(prefix: &str, time: Duration) {
    let marker = marker();
    let mut mesh = Mesh::start(prefix, 4).unwrap();
    mesh.stand(&[("node-1", "a"), ("node-2", "a"), ("node-3", "b"), ("node-4", "b")]).unwrap();
    mesh.add_pods(1).unwrap();
    let reach = mesh.reach(&marker, LIMIT);
    assert!(reach.failures().is_empty(), "{}", reach.failures().join("\n"));
    let wire = mesh.lab.switch().unwrap().capture(&[&marker, &INITIATION]).unwrap();
    let inside = mesh.members[0].node.capture("hawser0", &[&marker]).unwrap();
    let pods = mesh.pods();
    let flow = |from: usize, to: usize, v4: bool| {
        let to: (_, IpAddr) = (&pods[to].namespace, pods[to].address(v4).unwrap());
        Flow::start(&pods[from].namespace, to, PER_SECOND, &marker).unwrap()
    };
    let ways = [(0, 2, true), (2, 0, true), (1, 3, false), (3, 1, false)];
    let across = ways.map(|(from, to, v4)| ((from, to), flow(from, to, v4)));
    let within = flow(2, 3, true);
    std::thread::sleep(Duration::from_secs(1));

    let before = wire.seen().hits[1];
    let began = Instant::now();
    cut(&mesh);
    std::thread::sleep(time);
    mend(&mesh);
    let lasted = began.elapsed();
    std::thread::sleep(BACK * 2);

    for (way, flow) in across {
        let report = flow.finish();
        println!(
            "{way:?}: back {:?} after the links, {report:?}",
            report.gap.saturating_sub(lasted)
        );
        assert!(report.gap >= time, "{way:?} was not cut off");
        promised(report.gap <= lasted + BACK, || format!("{way:?}: {lasted:?} became {report:?}"));
    }
    let report = within.finish();
    assert!(report.gap < BACK, "inside of the site: {report:?}");
    let seen = wire.seen();
    let calls = seen.hits[1] - before;
    println!("{calls} initiations in {lasted:?} for eight pairs of four nodes");
    let most = 8 * (lasted.as_secs() + AND_MORE);
    assert!(calls <= most, "{calls} initiations, not {most}");
    promised(seen.hits[0] == 0, || format!("{} frames in clear", seen.hits[0]));
    assert!(inside.seen().marked() > 0, "the control: the tunnel's device shows it");
    let reach = mesh.reach(&marker, LIMIT);
    assert!(reach.failures().is_empty(), "{}", reach.failures().join("\n"));
}

#[test]
fn a_site_that_was_cut_off_under_traffic_is_back_two_seconds_after_its_links() {
    is_cut_off("sitecut", Duration::from_secs(20));
}

/// Its sessions ended meanwhile.
#[test]
#[ignore = "long: HAWSER_LONG=1 ./e2e/test runs it"]
fn a_site_that_was_cut_off_for_an_hour_is_back_two_seconds_after_its_links() {
    is_cut_off("sitehour", Duration::from_secs(3600));
}
