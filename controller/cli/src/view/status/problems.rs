//! What is wrong with the mesh: each problem with a code, the one who has it, and what to do.

use api::{Condition, Encryption, Mesh, MeshNode, conditions};
use jiff::Timestamp;
use serde::Serialize;

use super::{Agent, Known, is_ready, node_name};
use crate::{
    state::{Canary, Peer, State},
    text,
    view::peers,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Error,
    Warning,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// `HWnnnn`, stable between releases.
    pub code: &'static str,
    pub severity: Severity,
    /// Who has it: a node, a peer, the mesh.
    pub subject: String,
    pub message: String,
    pub fix: String,
}

fn problem(
    (code, severity): (&'static str, Severity),
    subject: &str,
    message: impl Into<String>,
    fix: impl Into<String>,
) -> Problem {
    Problem {
        code,
        severity,
        subject: text::cell(subject),
        message: message.into(),
        fix: fix.into(),
    }
}

const NO_MESH: (&str, Severity) = ("HW1001", Severity::Error);
const MESH_NOT_READY: (&str, Severity) = ("HW1002", Severity::Error);
const NO_NODES: (&str, Severity) = ("HW1100", Severity::Error);
const NODE_NOT_READY: (&str, Severity) = ("HW1101", Severity::Error);
const NODE_SILENT: (&str, Severity) = ("HW1102", Severity::Error);
const CLONE_REFUSED: (&str, Severity) = ("HW1103", Severity::Warning);
const PEER_NOT_ACCEPTED: (&str, Severity) = ("HW1201", Severity::Warning);
const TUNNEL_STALE: (&str, Severity) = ("HW2104", Severity::Warning);
const NEVER_HANDSHAKEN: (&str, Severity) = ("HW2105", Severity::Warning);
const CARRIER_SILENT: (&str, Severity) = ("HW2106", Severity::Warning);
const PORT_BLOCKED: (&str, Severity) = ("HW2107", Severity::Warning);
const GUARD_MISSING: (&str, Severity) = ("HW4001", Severity::Error);
const CLEAR_PERMITTED: (&str, Severity) = ("HW4002", Severity::Warning);
const PEERS_IN_CLEAR: (&str, Severity) = ("HW4003", Severity::Warning);
const CANARY_IN_CLEAR: (&str, Severity) = ("HW4004", Severity::Error);
const CANARY_BLIND: (&str, Severity) = ("HW4005", Severity::Warning);
const AGENT_SILENT: (&str, Severity) = ("HW5001", Severity::Warning);

/// All problems, the worst first.
pub(super) fn find(known: &Known, now: Timestamp) -> Vec<Problem> {
    let mut found = of_mesh(known.mesh.as_ref());
    if known.nodes.is_empty() {
        found.push(problem(
            NO_NODES,
            "mesh",
            "the mesh has no nodes",
            "create one: hawser nodes add NAME --out FILE",
        ));
    }
    found.extend(known.nodes.iter().filter_map(of_node));
    found.extend(known.nodes.iter().filter_map(of_clone));
    found.extend(known.peers.iter().filter_map(|peer| {
        let status = peer.status.as_ref()?;
        let refused =
            conditions::get(&status.conditions, "Accepted").filter(|c| c.status == "False")?;
        let name = peer.metadata.name.as_deref().unwrap_or_default();
        Some(problem(PEER_NOT_ACCEPTED, name, said(refused), "correct the MeshPeer's spec"))
    }));
    match &known.agent {
        Agent::Answered(state) => found.extend(of_agent(state, now)),
        Agent::Absent => {}
        Agent::Failed(why) => {
            found.push(problem(AGENT_SILENT, "agent", why, "is hawser-agent running?"));
        }
    }
    found.sort_by_key(|problem| problem.severity);
    found
}

fn of_mesh(mesh: Option<&Mesh>) -> Vec<Problem> {
    let Some(mesh) = mesh else {
        let fix = "create it: a Mesh named default, with the pools and the backend";
        return vec![problem(NO_MESH, "mesh", "there is no Mesh named default", fix)];
    };
    let mut found = Vec::new();
    let status = mesh.status.clone().unwrap_or_default();
    if let Some(c) = conditions::get(&status.conditions, "Ready").filter(|c| !c.is_true()) {
        let fix = "kubectl describe hwm default; is hawser-controller running?";
        found.push(problem(MESH_NOT_READY, "mesh", said(c), fix));
    }
    if mesh.spec.permits_clear() {
        let carriers = text::list(mesh.spec.carriers());
        let downgrade = if mesh.spec.allow_downgrade {
            ", also to nodes that were sealed to before (allowDowngrade)"
        } else {
            ""
        };
        let (encryption, sites) = (mesh.spec.encryption, &mesh.spec.site_encryption);
        let of_sites = if sites.is_empty() {
            String::new()
        } else {
            format!(" ({})", crate::view::mesh::of_sites(sites))
        };
        let message = format!(
            "encryption is {encryption}{of_sites}, by {carriers}: packets may leave in \
             clear{downgrade}"
        );
        let fix = if encryption == Encryption::Required {
            "if no site is to be trusted with them: take spec.siteEncryption away"
        } else {
            "set spec.encryption: Required"
        };
        found.push(problem(CLEAR_PERMITTED, "mesh", message, fix));
    }
    found
}

fn of_node(node: &MeshNode) -> Option<Problem> {
    if node.spec.revoked || is_ready(node) {
        return None;
    }
    let name = node_name(node);
    let status = node.status.clone().unwrap_or_default();
    Some(match conditions::get(&status.conditions, "Ready") {
        Some(condition) => {
            let fix = format!("hawser nodes show {name}");
            problem(NODE_NOT_READY, &name, said(condition), fix)
        }
        None => {
            let fix =
                format!("start hawser-agent on {name}; its log says whether it reaches the API");
            problem(NODE_SILENT, &name, "its agent has reported nothing yet", fix)
        }
    })
}

/// Until the next machine takes the node's seat.
fn of_clone(node: &MeshNode) -> Option<Problem> {
    let clone = node.status.as_ref()?.refused.as_ref().filter(|_| !node.spec.revoked)?;
    let at = clone.endpoint.as_deref().unwrap_or("an unknown address");
    let message = format!("a machine at {at} tried to run with its key at {}", clone.since);
    let fix = "give the clone an identity of its own; if its disk was stolen, hawser revoke it";
    Some(problem(CLONE_REFUSED, &node_name(node), message, fix))
}

fn said(condition: &Condition) -> String {
    if condition.message.is_empty() { condition.reason.clone() } else { condition.message.clone() }
}

fn of_agent(state: &State, now: Timestamp) -> Vec<Problem> {
    let mut found: Vec<Problem> =
        state.peers.iter().filter_map(|peer| of_tunnel(state, peer, now)).collect();
    found.extend(stood_in_for(state));
    found.extend(shaped(state));
    found.extend(in_clear(state));
    found.extend(of_canary(state));
    let missing: &[&str] = match (state.guard.routes, state.guard.nft) {
        (true, true) => &[],
        (false, true) => &["unreachable routes"],
        (true, false) => &["nft table"],
        (false, false) => &["unreachable routes", "nft table"],
    };
    if !missing.is_empty() {
        let message = format!("the guard lacks its {}", missing.join(" and its "));
        let fix = "the agent repairs it within a second; its log says what keeps it from that";
        found.push(problem(GUARD_MISSING, &state.node, message, fix));
    }
    found
}

/// Who is reached by a fallback now, in one line.
fn stood_in_for(state: &State) -> Option<Problem> {
    const SHOWN: usize = 5;
    let peers: Vec<_> = state.peers.iter().filter(|peer| peer.instead_of.is_some()).collect();
    let first = peers.first()?;
    let (by, silent) = (first.backend.as_deref()?, first.instead_of.as_deref()?);
    let names = text::list(peers.iter().take(SHOWN).map(|peer| &peer.name));
    let message =
        format!("{silent} does not get through to {} peers: {names}; {by} does", peers.len());
    let fix = format!("is what {silent} needs open between them? It is gone back to by itself");
    Some(problem(CARRIER_SILENT, &state.node, message, fix))
}

/// Whose sealed datagrams take another way now, in one line.
fn shaped(state: &State) -> Option<Problem> {
    const SHOWN: usize = 5;
    let peers: Vec<_> = state.peers.iter().filter(|peer| peer.path.is_some()).collect();
    let path = peers.first()?.path.as_deref()?;
    let names = text::list(peers.iter().take(SHOWN).map(|peer| &peer.name));
    let message = format!("sealed datagrams to {} peers travel {path}: {names}", peers.len());
    let fix = "open the tunnels' UDP port (51820) between them; it is gone back to by itself";
    Some(problem(PORT_BLOCKED, &state.node, message, fix))
}

/// What the standing canary saw, or that it sees nothing.
fn of_canary(state: &State) -> Option<Problem> {
    let Canary { verdict, sent, seen_in_clear, devices, why } = state.canary.as_ref()?;
    if *seen_in_clear > 0 {
        let devices = text::list(devices);
        let message = format!(
            "{seen_in_clear} of {sent} marked packets were readable on {devices}, where only sealed \
             ones may be"
        );
        let fix = "find what leads around the tunnel: hawser verify wire; then restart the agent";
        return Some(problem(CANARY_IN_CLEAR, &state.node, message, fix));
    }
    let why = why.as_deref().filter(|_| verdict == "blind")?;
    let fix = "is CAP_NET_RAW given to the agent? Until then it proves nothing";
    Some(problem(CANARY_BLIND, &state.node, format!("the canary is blind: {why}"), fix))
}

/// Who is sent to in clear now, in one line.
fn in_clear(state: &State) -> Option<Problem> {
    const SHOWN: usize = 5;
    let peers: Vec<_> = state.peers.iter().filter(|peer| peer.in_clear().is_some()).collect();
    let first = peers.first()?.in_clear()?;
    let names = text::list(peers.iter().take(SHOWN).map(|peer| &peer.name));
    let message = format!("packets to {} peers go out in CLEAR by {first}: {names}", peers.len());
    let fix = "set spec.encryption: Preferred, and then Required with backend: wireguard";
    Some(problem(PEERS_IN_CLEAR, &state.node, message, fix))
}

fn of_tunnel(state: &State, peer: &Peer, now: Timestamp) -> Option<Problem> {
    if peer.is_up(now) {
        return None;
    }
    let between = format!("{} <-> {}", state.node, peer.name);
    let Some(endpoint) = &peer.endpoint else {
        // A laptop that nobody can call is not a problem while it sleeps.
        return None;
    };
    let fix = format!("is udp open to {endpoint}? hawser path {} {}", state.node, peer.name);
    Some(match peer.last_handshake {
        Some(_) => {
            let message = format!("{between}: no handshake for {}", peers::handshake(peer, now));
            problem(TUNNEL_STALE, &peer.name, message, fix)
        }
        None => problem(NEVER_HANDSHAKEN, &peer.name, format!("{between}: no handshake yet"), fix),
    })
}

/// The lines under the screen, within 80 columns.
pub(super) fn print(problems: &[Problem]) -> String {
    let mut text = format!("\nProblems ({})\n", problems.len());
    for problem in problems {
        let head = format!("  {}  {}  ", problem.code, problem.subject);
        text.push_str(&wrapped(&head, &problem.message));
        text.push_str(&wrapped(&format!("{INDENT}fix: "), &problem.fix));
    }
    text
}

/// Words after a head, on as many lines as they need. A word is never cut: it may be a command.
fn wrapped(head: &str, words: &str) -> String {
    const WIDTH: usize = 80;
    let mut text = String::new();
    let mut line = head.to_owned();
    let mut begun = false;
    for word in text::printable(words).split_whitespace() {
        if begun && line.chars().count() + word.chars().count() > WIDTH {
            text.push_str(line.trim_end());
            text.push('\n');
            line = format!("{INDENT}  ");
        }
        line.push_str(word);
        line.push(' ');
        begun = true;
    }
    text.push_str(line.trim_end());
    text.push('\n');
    text
}

const INDENT: &str = "          ";
