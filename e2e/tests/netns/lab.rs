//! The lab keeps its own promises; every other test stands on them.

use std::time::Duration;

use e2e::lab::{Flow, Lab, eventually};
use e2e::oracle::Baseline;

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
    let capture = lab.switch().unwrap().capture(&[MARKER, b"never sent"]).unwrap();
    let near = b.capture("eth0", &[MARKER]).unwrap();

    for address in b.address().both() {
        a.namespace().ping(address, MARKER).unwrap();
    }

    let seen = capture.seen();
    assert_eq!(seen.hits, [4, 0], "an echo and its answer in each family, each seen once");
    assert!(seen.addresses.contains(&b.address().v4.into()));
    assert!(seen.addresses.contains(&b.address().v6.into()));
    assert_eq!(near.seen().hits, [4]);
}

/// Processes that were started as `sleep` with these seconds.
fn sleepers(seconds: &str) -> usize {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok());
    let wanted = format!("sleep\0{seconds}\0");
    lines.filter(|line| line == wanted.as_bytes()).count()
}

#[test]
fn what_a_program_left_running_ends_with_the_lab() {
    let seconds = format!("600.{}", std::process::id());
    let lab = Lab::new("left").unwrap();
    let node = lab.node("a").unwrap();

    let parent = node.command("setsid").args(["--fork", "sleep", &seconds]).spawn().unwrap();
    eventually("it runs", Duration::from_secs(5), || sleepers(&seconds) == 1).unwrap();
    drop((parent, node, lab));

    eventually("it ends", Duration::from_secs(5), || sleepers(&seconds) == 0).unwrap();
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
    a.namespace().netlink(async |net| net.down("eth0").await).unwrap();
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
        inside.namespace().ping_until(address, MARKER, Duration::from_secs(3)).unwrap();
    }

    let seen = capture.seen();
    assert!(seen.marked() >= 4);
    for address in inside.address().both() {
        assert!(!seen.addresses.contains(&address), "{address} crossed the router");
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
    let echoed = node.command("cat").input("through a pipe").stdout().unwrap();
    let mut sleeper = node.spawn("sleep", ["600"]).unwrap();
    let pid = sleeper.pid();
    let ran = sleeper.is_running();
    let path = node.namespace().path();
    drop((sleeper, node, lab));

    assert!(links.contains("eth0") && !links.contains("bridge"), "{links}");
    assert_eq!(echoed, "through a pipe");
    assert!(ran);
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    assert!(!path.exists());
}

#[test]
fn a_baseline_notices_what_was_added_and_forgets_what_was_removed() {
    let lab = Lab::new("base").unwrap();
    let node = lab.node("a").unwrap();
    let before = Baseline::of(&node).unwrap();

    let nft = |command: &str| node.command("nft").arg(command).stdout().unwrap();
    nft("add table inet hawser");
    node.command("ip").args(["rule", "add", "fwmark", "7", "lookup", "77"]).stdout().unwrap();
    node.command("ip").args(["route", "add", "unreachable", "10.42.0.0/16"]).stdout().unwrap();
    node.command("ip").args(["addr", "add", "fd42::1/128", "dev", "lo"]).stdout().unwrap();
    let during = before.difference(&Baseline::of(&node).unwrap());
    nft("delete table inet hawser");
    node.command("ip").args(["rule", "del", "fwmark", "7"]).stdout().unwrap();
    node.command("ip").args(["route", "del", "unreachable", "10.42.0.0/16"]).stdout().unwrap();
    node.command("ip").args(["addr", "del", "fd42::1/128", "dev", "lo"]).stdout().unwrap();
    let after = before.difference(&Baseline::of(&node).unwrap());

    for kind in ["nft ", "rule ", "route ", "address "] {
        assert!(during.iter().any(|line| line.starts_with(&format!("+ {kind}"))), "{during:#?}");
    }
    assert_eq!(after, [""; 0]);
}

#[test]
fn what_a_killed_run_left_behind_is_swept() {
    let mut victim = std::process::Command::new("sleep").arg("600").spawn().unwrap();
    let name = format!("hw-{}-1left-n1", victim.id());
    let path = std::path::Path::new("/run/netns").join(&name);
    std::fs::create_dir_all("/run/netns").unwrap();
    std::fs::write(&path, "").unwrap();

    e2e::lab::sweep();
    let while_alive = path.exists();
    victim.kill().unwrap();
    victim.wait().unwrap();
    e2e::lab::sweep();

    assert!(while_alive, "a living run's namespace was taken away");
    assert!(!path.exists());
}
