//! The one screen that the demo prints, and the hints of `--keep`.

use std::fmt::Write as _;

use anstream::println;
use anstyle::{AnsiColor, Style};
use e2e::lab::bin_dir;
use e2e::mesh::{Mesh, Pod};

use crate::report::Report;

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const GREEN: Style = AnsiColor::Green.on_default();
const RED: Style = AnsiColor::Red.on_default().bold();

/// Beyond this many pods the matrix would not fit a screen.
const MATRIX: usize = 10;

pub(crate) fn print(mesh: &Mesh, report: &Report) {
    let (nodes, pods) = (mesh.members.len(), mesh.pods());
    println!("\n{BOLD}Hawser{BOLD:#}  {nodes} nodes, {} pods, one encrypted mesh\n", pods.len());
    print_nodes(mesh);
    if pods.len() <= MATRIX {
        print_matrix(&pods, report);
    }
    print_checks(report);
}

fn print_nodes(mesh: &Mesh) {
    println!("{DIM}NODE      UNDERLAY     PODS{DIM:#}");
    for member in mesh.members.iter().take(MATRIX) {
        let underlay = member.node.address().v4.to_string();
        for (at, pod) in member.pods.iter().enumerate() {
            let (name, underlay) =
                if at == 0 { (member.node.name(), underlay.as_str()) } else { ("", "") };
            let addresses: Vec<String> = pod.addresses.iter().map(ToString::to_string).collect();
            println!("{name:<9} {underlay:<12} {:<10} {}", pod.name, addresses.join("  "));
        }
    }
    println!();
}

/// Round trips in milliseconds, IPv4 and IPv6 in one cell.
fn print_matrix(pods: &[&Pod], report: &Report) {
    let mut heads = String::new();
    for pod in pods {
        let _ = write!(heads, "{:>11}", pod.name);
    }
    println!("{DIM}{:<10}{heads}{DIM:#}", "ms v4/v6");
    for from in pods {
        let mut row = String::new();
        for to in pods {
            let cell = if from.name == to.name { "-".into() } else { cell(report, from, to) };
            let _ = write!(row, "{cell:>11}");
        }
        println!("{:<10}{row}", from.name);
    }
    println!();
}

fn cell(report: &Report, from: &Pod, to: &Pod) -> String {
    let one = |v4| match report.reach.round_trip(&from.name, &to.name, v4) {
        Some(took) => format!("{:.1}", took.as_secs_f64() * 1000.0),
        None => "x".into(),
    };
    format!("{}/{}", one(true), one(false))
}

fn print_checks(report: &Report) {
    let (reach, verdict) = (&report.reach, &report.verdict);
    check(
        reach.ok() == reach.total(),
        &format!("{} of {} pairs of pods reach each other", reach.ok(), reach.total()),
    );
    check(
        verdict.clear == 0 && verdict.underlay.frames > 0,
        &format!("{} packets on the underlay, {} readable", verdict.underlay.frames, verdict.clear),
    );
    check(
        verdict.control_saw_marker,
        &format!(
            "control: the same search finds the marker in {} packets on node-1's tunnel device",
            report.control.marked()
        ),
    );
    check(report.double_owners.is_empty(), "no address has two owners");
    check(verdict.complaints.is_empty(), "no panic, no error and no secret in any log");
    let complaints = verdict.complaints.iter().chain(&report.double_owners).cloned();
    for line in reach.failures().into_iter().chain(complaints) {
        println!("        {line}");
    }
    println!("\nready in {BOLD}{:.1} s{BOLD:#}", report.ready.as_secs_f64());
}

fn check(held: bool, what: &str) {
    if held {
        println!("  {GREEN}ok{GREEN:#}    {what}");
    } else {
        println!("  {RED}FAIL{RED:#}  {what}");
    }
}

/// Where everything is, and a few things to try.
pub(crate) fn print_keep(mesh: &Mesh) {
    let controller = mesh.controller.node().namespace().name();
    println!("\n{BOLD}It keeps running until Ctrl-C.{BOLD:#} In another terminal:\n");
    println!("  export KUBECONFIG={}", mesh.controller.kubeconfig().display());
    println!("  export PATH={}:$PATH\n", bin_dir().display());
    println!("  nsenter --net=/run/netns/{controller} hawser nodes");
    println!("  nsenter --net=/run/netns/{controller} kubectl get meshnodes -o wide");
    if let Some(member) = mesh.members.first() {
        let node = member.node.namespace().name();
        let socket = member.node.state().join("agent.sock");
        println!("  nsenter --net=/run/netns/{node} hawser peers --agent {}", socket.display());
        println!("  nsenter --net=/run/netns/{node} ip route");
    }
    let pods = mesh.pods();
    if let (Some(from), Some(to)) = (pods.first(), pods.last()) {
        let address = to.address(true).map(|address| address.to_string()).unwrap_or_default();
        println!("  nsenter --net={} ping {address}", from.namespace.path().display());
    }
    println!("\n{DIM}namespaces{DIM:#}");
    let nodes = mesh.members.iter().map(|member| member.node.namespace().name());
    let pods = pods.iter().map(|pod| pod.namespace.name());
    for name in std::iter::once(controller).chain(nodes).chain(pods) {
        println!("  {name}");
    }
}
