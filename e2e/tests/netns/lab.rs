//! The lab keeps its own promises; every other test stands on them.

use std::time::Duration;

use e2e::lab::{Flow, Lab};

const MARKER: &[u8] = b"hawser-lab-marker-0123456789";

#[test]
fn machines_on_a_switch_reach_each_other_in_both_families() {
    let lab = Lab::new("reach").unwrap();
    let (a, b) = (lab.node("a").unwrap(), lab.node("b").unwrap());

    for address in b.address().both() {
        a.namespace().ping(address, MARKER).unwrap();
    }
    for world in lab.switch().unwrap().gateway().both() {
        a.namespace().ping(world, MARKER).unwrap();
    }
}

#[test]
fn a_capture_sees_a_marker_that_crosses_in_clear_and_none_that_does_not() {
    let lab = Lab::new("seen").unwrap();
    let (a, b) = (lab.node("a").unwrap(), lab.node("b").unwrap());
    let capture = lab
        .switch()
        .unwrap()
        .capture(&[MARKER, b"never sent"])
        .unwrap();
    let near = b.capture("eth0", &[MARKER]).unwrap();

    for address in b.address().both() {
        a.namespace().ping(address, MARKER).unwrap();
    }

    let seen = capture.seen();
    assert_eq!(
        seen.hits,
        [4, 0],
        "an echo and its answer in each family, each seen once"
    );
    assert!(seen.addresses.contains(&b.address().v4.into()));
    assert!(seen.addresses.contains(&b.address().v6.into()));
    assert_eq!(near.seen().hits, [4]);
}

#[test]
fn a_flow_counts_what_a_downed_link_loses() {
    let lab = Lab::new("flow").unwrap();
    let (a, b) = (lab.node("a").unwrap(), lab.node("b").unwrap());
    let to = (b.namespace(), b.address().v4.into());

    let whole = Flow::start(a.namespace(), to, 500, MARKER).unwrap();
    std::thread::sleep(Duration::from_millis(400));
    let whole = whole.finish();
    let broken = Flow::start(a.namespace(), to, 500, MARKER).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    a.namespace()
        .netlink(async |net| net.down("eth0").await)
        .unwrap();
    std::thread::sleep(Duration::from_millis(200));
    let broken = broken.finish();

    assert!(whole.sent > 100 && whole.lost == 0, "{whole:?}");
    assert!(broken.lost > 50, "{broken:?}");
}

#[test]
fn behind_a_nat_router_a_machine_is_seen_as_the_router() {
    let lab = Lab::new("nat").unwrap();
    let outer = lab.switch().unwrap();
    let outside = lab.node("out").unwrap();
    let router = lab.nat_router("rt", &outer).unwrap();
    let inside = lab.node_on("in", router.inside()).unwrap();
    let capture = outer.capture(&[MARKER]).unwrap();

    for address in outside.address().both() {
        inside
            .namespace()
            .ping_until(address, MARKER, Duration::from_secs(3))
            .unwrap();
    }

    let seen = capture.seen();
    assert!(seen.marked() >= 4);
    for address in inside.address().both() {
        assert!(
            !seen.addresses.contains(&address),
            "{address} crossed the router"
        );
    }
    for address in router.node().address().both() {
        assert!(seen.addresses.contains(&address));
    }
}

#[test]
fn programs_run_inside_and_die_with_the_lab() {
    let lab = Lab::new("prog").unwrap();
    let node = lab.node("a").unwrap();

    let links = node.command("ip").args(["-o", "link"]).stdout().unwrap();
    let echoed = node
        .command("cat")
        .input("through a pipe")
        .stdout()
        .unwrap();
    let mut sleeper = node.spawn("sleep", ["600"]).unwrap();
    let pid = sleeper.pid();
    let ran = sleeper.is_running();
    let path = node.namespace().path();
    drop((sleeper, node, lab));

    assert!(
        links.contains("eth0") && !links.contains("bridge"),
        "{links}"
    );
    assert_eq!(echoed, "through a pipe");
    assert!(ran);
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    assert!(!path.exists());
}
