//! Everything that speaks WireGuard: peers configured by `wg`, and Hawser's agent in file mode.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::Context as _;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use e2e::lab::{Process, eventually};
use e2e::mesh::local_api;
use serde_json::Value;

use crate::contender::Running;
use crate::machines::{Machine, Machines};

const PORT: u16 = 51820;
const MTU: u32 = 1420;
/// Ten thousand peers are as many routes.
const READY: Duration = Duration::from_secs(60);
const LIMIT: Duration = Duration::from_secs(10);

/// One end: its device (the control socket lies in a directory that all namespaces share, so the
/// name is unique on the machine) and its public key.
struct End<'a> {
    machine: &'a Machine,
    device: String,
    public: String,
}

pub(crate) fn start(machines: &Machines, program: &str, flags: &[&str]) -> anyhow::Result<Running> {
    let mut processes = Vec::new();
    let mut ends = Vec::new();
    for (machine, letter) in [(&machines.a, 'a'), (&machines.b, 'b')] {
        let device = format!("hwb{}{letter}", std::process::id());
        processes.push(machine.command(program).args(flags).arg(&device).spawn()?);
        let public = configure(machine, &device)?;
        ends.push(End { machine, device, public });
    }
    for (own, other) in [(&ends[0], &ends[1]), (&ends[1], &ends[0])] {
        connect(own, other)?;
    }
    Ok(Running { target: machines.b.inner.into(), _processes: processes })
}

/// Waits for the device, gives it a key and a port.
fn configure(machine: &Machine, device: &str) -> anyhow::Result<String> {
    let ready = || {
        machine.command("wg").args(["show", device]).output().is_ok_and(|out| out.status.success())
    };
    eventually(&format!("the device {device}"), LIMIT, ready)?;
    let private = machine.command("wg").arg("genkey").stdout()?;
    let public = machine.command("wg").arg("pubkey").input(private.as_str()).stdout()?;
    let file = machine.dir.join("key");
    std::fs::write(&file, private).context("writing a key")?;
    let port = PORT.to_string();
    let set = machine.command("wg").args(["set", device, "listen-port", &port, "private-key"]);
    set.arg(&file).stdout()?;
    let (name, inner) = (device.to_owned(), machine.inner);
    machine.namespace.netlink(async move |net| {
        net.add_address(&name, inner, 24).await?;
        net.mtu(&name, MTU).await?;
        net.up(&name).await
    })?;
    Ok(public.trim().to_owned())
}

fn connect(own: &End<'_>, other: &End<'_>) -> anyhow::Result<()> {
    let endpoint = format!("{}:{PORT}", other.machine.address);
    let allowed = format!("{}/32", other.machine.inner);
    let set = own.machine.command("wg").args(["set", &own.device, "peer", &other.public]);
    set.args(["endpoint", &endpoint, "allowed-ips", &allowed]).stdout()?;
    Ok(())
}

const MESH: &str = "\
apiVersion: hawser.dev/v1alpha1
kind: Mesh
metadata: {name: default}
spec:
  pools:
  - {cidr: 10.42.0.0/16, nodePrefixLength: 24}
  - {cidr: \"fd42::/48\", nodePrefixLength: 64}
";
/// Ten thousand subnets need more than one pool of the usual size.
const STRANGERS_POOL: &str = "  - {cidr: 10.128.0.0/10, nodePrefixLength: 24}\n";

fn mesh_node(name: &str, number: u8, addresses: &[Ipv4Addr], public: &str) -> String {
    let endpoints: Vec<String> =
        addresses.iter().map(|address| format!("\"{address}:{PORT}\"")).collect();
    let endpoints = endpoints.join(", ");
    format!(
        "---
apiVersion: hawser.dev/v1alpha1
kind: MeshNode
metadata: {{name: {name}}}
spec: {{subnets: [10.42.{number}.0/24], keyEpoch: 1}}
status:
  publicKeys: [{{epoch: 1, publicKey: \"{public}\"}}]
  endpoints: [{endpoints}]
"
    )
}

/// A node that is in the mesh and has never been heard of.
fn stranger(number: u32) -> String {
    let subnet = Ipv4Addr::from_bits(0x0a80_0000 | number << 8);
    let mut key = [0x5a; 32];
    key[..4].copy_from_slice(&number.to_be_bytes());
    let public = BASE64_STANDARD.encode(key);
    format!(
        "---
apiVersion: hawser.dev/v1alpha1
kind: MeshNode
metadata: {{name: stranger-{number}}}
spec: {{subnets: [{subnet}/24], keyEpoch: 1}}
status:
  publicKeys: [{{epoch: 1, publicKey: \"{public}\"}}]
"
    )
}

/// Two agents in file mode; the far end is the other's own address in the mesh.
pub(crate) fn start_hawser(machines: &Machines, flags: &[&str]) -> anyhow::Result<Running> {
    start_hawser_among(machines, 0, flags)
}

/// The same with the guard's table a second time under another name: what one costs.
pub(crate) fn start_guarded_twice(machines: &Machines) -> anyhow::Result<Running> {
    let running = start_hawser(machines, &["--engine", "native"])?;
    for machine in [&machines.a, &machines.b] {
        let table = machine.command("nft").args(["list", "table", "inet", "hawser"]).stdout()?;
        let copy = table.replacen("table inet hawser", "table inet hawser_copy", 1);
        machine.command("nft").args(["--file", "-"]).input(copy).stdout()?;
    }
    Ok(running)
}

/// The same with so many other nodes in the mesh.
pub(crate) fn start_hawser_among(
    machines: &Machines,
    strangers: u32,
    flags: &[&str],
) -> anyhow::Result<Running> {
    start_mesh(machines, ("Required", strangers), flags)
}

/// The same with a backend in clear.
pub(crate) fn start_plain(machines: &Machines, backend: &str) -> anyhow::Result<Running> {
    start_mesh(machines, ("None", 0), &["--backend", backend])
}

/// Two agents that reach a third one each, which passes on between them.
pub(crate) fn start_relayed(machines: &Machines) -> anyhow::Result<Running> {
    let (third, [[a, at_a], [b, at_b]]) = machines.between()?;
    let (a, b) = (("bench-a", &machines.a, vec![a]), ("bench-b", &machines.b, vec![b]));
    let nodes = [a, b, ("bench-r", &third, vec![at_a, at_b])];
    let running = start_nodes(&nodes, &format!("{MESH}  relay: Auto\n"), &["--engine", "native"])?;
    let socket = machines.a.dir.join("state/agent.sock");
    let relayed = || {
        let (_, state) = local_api::get(&socket, "/state").unwrap_or_default();
        let state: Value = serde_json::from_str(&state).unwrap_or_default();
        let peers = state["peers"].as_array().cloned().unwrap_or_default();
        let peer = peers.into_iter().find(|peer| peer["name"] == "bench-b").unwrap_or_default();
        peer["path"].as_str().is_some_and(|path| path.starts_with("relay"))
    };
    eventually("what goes to bench-b goes by bench-r", READY, relayed)?;
    Ok(running)
}

fn start_mesh(
    machines: &Machines,
    (encryption, strangers): (&str, u32),
    flags: &[&str],
) -> anyhow::Result<Running> {
    let (a, b) = (&machines.a, &machines.b);
    let nodes = [("bench-a", a, vec![a.address]), ("bench-b", b, vec![b.address])];
    let more = if strangers > 0 { STRANGERS_POOL } else { "" };
    let mut view = format!("{MESH}{more}  encryption: {encryption}\n");
    view.extend((0..strangers).map(stranger));
    start_nodes(&nodes, &view, flags)
}

/// A node's name, its machine, and where it says that it is reached.
type Node<'a> = (&'static str, &'a Machine, Vec<Ipv4Addr>);

fn start_nodes(nodes: &[Node<'_>], mesh: &str, flags: &[&str]) -> anyhow::Result<Running> {
    let mut view = mesh.to_owned();
    for (number, (name, machine, addresses)) in (1..).zip(nodes) {
        let keygen = machine.command("hawser-agent").arg("keygen").arg("--state");
        let public = keygen.arg(machine.dir.join("state")).stdout()?;
        view.push_str(&mesh_node(name, number, addresses, public.trim()));
    }
    let mut processes = Vec::new();
    for (name, machine, _) in nodes {
        processes.push(start_agent(name, machine, &view, flags)?);
    }
    for agent in &mut processes {
        agent.wait_for_log("ready=true", READY)?;
    }
    Ok(Running { target: [10, 42, 2, 1].into(), _processes: processes })
}

fn start_agent(
    name: &str,
    machine: &Machine,
    view: &str,
    flags: &[&str],
) -> anyhow::Result<Process> {
    let file = machine.dir.join("view.yaml");
    std::fs::write(&file, view).context("writing the view")?;
    let command = machine.command("hawser-agent").args(["run", "--node", name, "--state"]);
    let command = command.arg(machine.dir.join("state"));
    let source = format!("file:{}", file.display());
    command.args(["--source", &source, "--interface", "eth0"]).args(flags).spawn()
}
