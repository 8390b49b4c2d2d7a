//! The demo does what it says, and goes away when it is interrupted.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use e2e::lab::bin_dir;
use rustix::process::{Pid, Signal, kill_process};

fn demo(flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hawser-demo"));
    command.args(flags).env("HAWSER_BIN_DIR", bin_dir()).env_remove("RUST_BACKTRACE");
    command
}

fn leftovers(pid: u32) -> Vec<String> {
    let prefix = format!("hw-{pid}-");
    let names = ["/run/netns", "/tmp"].into_iter().filter_map(|dir| std::fs::read_dir(dir).ok());
    names
        .flat_map(|entries| entries.flatten().map(|entry| entry.file_name()))
        .filter_map(|name| name.into_string().ok())
        .filter(|name| name.starts_with(&prefix))
        .collect()
}

#[test]
fn the_demo_holds_and_its_last_line_is_json() {
    let child = demo(&["--nodes", "2", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let pid = child.id();

    let output = child.wait_with_output().unwrap();

    let screen = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{screen}");
    let last: serde_json::Value = serde_json::from_str(screen.lines().last().unwrap()).unwrap();
    assert_eq!((&last["pairs_ok"], &last["pairs_total"]), (&24.into(), &24.into()));
    assert_eq!((&last["nodes"], &last["pods"]), (&2.into(), &4.into()));
    assert_eq!(last["clear_packets"], 0);
    assert_eq!(last["control_saw_marker"], true);
    assert!(last["underlay_packets"].as_u64().unwrap() > 48);
    assert!(last["ready_seconds"].as_f64().unwrap() > 0.0);
    assert!(!screen.contains('\u{1b}'), "colours in a pipe");
    assert_eq!(leftovers(pid), [""; 0]);
}

#[test]
fn a_kept_demo_says_how_to_look_around_and_an_interrupt_removes_it() {
    let flags = ["--nodes", "2", "--keep"];
    let mut child = demo(&flags).stdout(Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut shown = String::new();
    while !shown.contains("namespaces") {
        let Some(Ok(line)) = lines.next() else { panic!("the demo ended:\n{shown}") };
        shown.push_str(&line);
        shown.push('\n');
    }
    let before = leftovers(pid);

    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let status = child.wait().unwrap();

    assert!(shown.contains("export KUBECONFIG=/"), "{shown}");
    assert!(before.len() >= 5, "nothing was kept: {before:?}");
    assert!(status.success(), "{status}");
    assert_eq!(leftovers(pid), [""; 0]);
}
