//! The main job, on real packets: N nodes, two pods on each, everybody reaches everybody, and
//! nothing can be read on the underlay.
//!
//! Progress goes to stderr, the screen to stdout; the exit code is 0 only if all of it held.

mod report;
mod screen;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use e2e::lab::{exit_code_on_interrupt, wait_for_interrupt};
use e2e::mesh::Mesh;
use e2e::oracle::{Oracles, double_owners, marker};
use ipnet::IpNet;

use report::Report;

const PODS: usize = 2;
const PAIR_LIMIT: Duration = Duration::from_secs(20);

/// Show a mesh at work on this machine, in network namespaces
#[derive(Parser)]
#[command(name = "e2e/demo")]
struct Args {
    /// How many nodes
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(2..=100))]
    nodes: u8,
    /// Print the result as one JSON object, as the last line
    #[arg(long)]
    json: bool,
    /// Leave it running until Ctrl-C and say how to look around
    #[arg(long)]
    keep: bool,
}

fn main() -> ExitCode {
    let Args { nodes, json, keep } = Args::parse();
    let held = run(usize::from(nodes), json, keep).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        false
    });
    ExitCode::from(u8::from(!held))
}

/// True if everything held.
fn run(nodes: usize, json: bool, keep: bool) -> anyhow::Result<bool> {
    let start = Instant::now();
    let marker = marker();
    let mut say = |step: &str| eprintln!("{:>5.1}s  {step}", start.elapsed().as_secs_f64());

    let mut mesh = Mesh::prepare("demo", nodes, &mut say)?;
    let oracles = Oracles::watch(&mesh.lab, &marker)?;
    say("starting the agents");
    for member in &mut mesh.members {
        member.start_agent()?;
    }
    mesh.wait_until_ready()?;
    say(&format!("adding {PODS} pods to each node through hawser-cni"));
    mesh.add_pods(PODS)?;
    let tunnel = mesh.members[0].node.capture("hawser0", &[&marker])?;
    say("sending from every pod to every pod, IPv4 and IPv6");
    let reach = mesh.reach(&marker, PAIR_LIMIT);
    let ready = start.elapsed();
    say("searching the captures");
    let control = tunnel.seen();
    let verdict = oracles.verdict(&control);

    let report = Report { reach, verdict, control, double_owners: owners(&mesh), ready };
    screen::print(&mesh, &report);
    if json {
        println!("{}", report.json(nodes, mesh.pods().len()));
    }
    let held = report.held();
    if keep {
        screen::print_keep(&mesh);
        exit_code_on_interrupt(i32::from(!held));
        wait_for_interrupt();
    }
    Ok(held)
}

/// Every pod's addresses, and whether two pods hold the same.
fn owners(mesh: &Mesh) -> Vec<String> {
    let held: Vec<(String, IpNet)> = mesh
        .pods()
        .iter()
        .flat_map(|pod| pod.addresses.iter().map(|&address| (pod.name.clone(), address.into())))
        .collect();
    double_owners(&held)
}
