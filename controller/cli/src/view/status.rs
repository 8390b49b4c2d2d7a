//! `hawser status`: the mesh on one screen, and what is wrong with it.
//!
//! The problems are found first and by themselves, so that the screen, the JSON, `--wait` and the
//! exit code cannot disagree.

use api::{KeyRotation, Mesh, MeshNode, MeshPeer, SiteEncryption, conditions};
use jiff::Timestamp;
use serde::Serialize;

use crate::{
    args::FailOn,
    output::{Item, Output, aligned},
    state::{Canary, State},
    text::{self, NONE, UNKNOWN},
    view::{nodes::name_of, or, peers},
};

mod keys;
mod problems;
#[cfg(test)]
mod tests;

use keys::{Keys, ViewAge};
pub use problems::{Problem, Severity};

/// Everything that a status is made of.
#[derive(Debug)]
pub struct Known {
    pub server: String,
    pub server_version: String,
    pub mesh: Option<Mesh>,
    pub nodes: Vec<MeshNode>,
    pub peers: Vec<MeshPeer>,
    /// Empty where they may not be listed.
    pub rotations: Vec<KeyRotation>,
    pub agent: Agent,
}

/// What came of asking the agent.
#[derive(Debug)]
pub enum Agent {
    Answered(Box<State>),
    /// There is none on this machine, and nobody said that there is.
    Absent,
    Failed(String),
}

impl Agent {
    fn state(&self) -> Option<&State> {
        match self {
            Self::Answered(state) => Some(state),
            Self::Absent | Self::Failed(_) => None,
        }
    }
}

/// The mesh, summed up.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    mesh: MeshSummary,
    control: Control,
    nodes: Count,
    tunnels: Option<Tunnels>,
    keys: Keys,
    view: ViewAge,
    mtu: Option<u16>,
    clear: Option<Clear>,
    problems: Vec<Problem>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct MeshSummary {
    name: &'static str,
    ready: Option<String>,
    backend: Option<String>,
    encryption: Option<String>,
    /// What holds for some pairs of sites in its place.
    site_encryption: Vec<SiteEncryption>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Control {
    kind: &'static str,
    server: String,
    version: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Count {
    ready: usize,
    total: usize,
}

/// One agent's tunnels.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Tunnels {
    seen_by: String,
    up: usize,
    total: usize,
    /// Those that another node passes on.
    relayed: usize,
    stale: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Clear {
    guard_routes: bool,
    guard_nft: bool,
    blocked: Option<u64>,
    canary: Option<Canary>,
}

impl Status {
    pub fn new(known: &Known, now: Timestamp) -> Self {
        let live: Vec<&MeshNode> = known.nodes.iter().filter(|n| !n.spec.revoked).collect();
        let state = known.agent.state();
        let published = live.iter().filter_map(|node| node.status.as_ref()?.mtu).min();
        Self {
            mesh: summary(known.mesh.as_ref()),
            control: control(known),
            nodes: Count {
                ready: live.iter().filter(|node| is_ready(node)).count(),
                total: live.len(),
            },
            tunnels: state.map(|state| tunnels(state, now)),
            keys: Keys::new(known, &live, now),
            view: ViewAge::new(known.mesh.as_ref(), state),
            mtu: published.or(state.and_then(|state| state.mtu)),
            clear: state.map(|state| Clear {
                guard_routes: state.guard.routes,
                guard_nft: state.guard.nft,
                blocked: state.guard.blocked_packets,
                canary: state.canary.clone(),
            }),
            problems: problems::find(known, now),
        }
    }

    pub fn into_problems(self) -> Vec<Problem> {
        self.problems
    }

    /// True if some problem is at least as bad as the operator set.
    pub fn fails(&self, limit: FailOn) -> bool {
        self.problems.iter().any(|problem| match (limit, problem.severity) {
            (FailOn::Never, _) => false,
            (FailOn::Warning, Severity::Warning | Severity::Error) => true,
            (FailOn::Error, severity) => severity == Severity::Error,
        })
    }

    /// One line for a log, where there is no screen to draw again.
    pub fn line(&self) -> String {
        let tunnels = self.tunnels.as_ref().map_or_else(
            || UNKNOWN.to_owned(),
            |tunnels| format!("{}/{}", tunnels.up, tunnels.total),
        );
        format!(
            "mesh {}  nodes {}/{}  tunnels {tunnels}  problems {}",
            self.mesh.ready_word(),
            self.nodes.ready,
            self.nodes.total,
            self.problems.len()
        )
    }

    pub fn print(&self) -> Output {
        let mut screen = aligned(&self.rows());
        if !self.problems.is_empty() {
            screen.push_str(&problems::print(&self.problems));
        }
        Output::screen("Status", screen, Item::new("mesh/default", self))
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let row = |label: &str, cells: [String; 2]| {
            let [first, rest] = cells;
            vec![label.to_owned(), text::printable(&first), text::printable(&rest)]
        };
        vec![
            row("Mesh", self.mesh.cells()),
            row(
                "Control",
                [
                    self.control.kind.to_owned(),
                    format!("{}  {}", self.control.server, self.control.version),
                ],
            ),
            row(
                "Nodes",
                [format!("{}/{} ready", self.nodes.ready, self.nodes.total), String::new()],
            ),
            row("Tunnels", self.tunnels.as_ref().map_or_else(no_agent, Tunnels::cells)),
            row("Keys", self.keys.cells()),
            row("View", self.view.cells()),
            row("MTU", [or(self.mtu, UNKNOWN), String::new()]),
            row("Clear", self.clear.as_ref().map_or_else(no_agent, Clear::cells)),
        ]
    }
}

fn no_agent() -> [String; 2] {
    [UNKNOWN.to_owned(), "no agent was asked; run this on a node".to_owned()]
}

fn summary(mesh: Option<&Mesh>) -> MeshSummary {
    let ready = mesh
        .and_then(|mesh| mesh.status.as_ref())
        .and_then(|status| conditions::get(&status.conditions, "Ready"))
        .map(|condition| condition.status.clone());
    MeshSummary {
        name: api::MESH,
        ready,
        backend: mesh.map(|mesh| mesh.spec.backend.to_string()),
        encryption: mesh.map(|mesh| mesh.spec.encryption.to_string()),
        site_encryption: mesh.map(|mesh| mesh.spec.site_encryption.clone()).unwrap_or_default(),
    }
}

fn control(known: &Known) -> Control {
    let kind = if known.server_version.contains("hawser") { "embedded" } else { "cluster" };
    Control { kind, server: known.server.clone(), version: known.server_version.clone() }
}

fn tunnels(state: &State, now: Timestamp) -> Tunnels {
    let (up, down): (Vec<_>, Vec<_>) = state.peers.iter().partition(|peer| peer.is_up(now));
    Tunnels {
        seen_by: state.node.clone(),
        up: up.len(),
        total: state.peers.len(),
        relayed: up.iter().filter(|peer| peer.is_relayed()).count(),
        // Who cannot be called is asleep and not stale.
        stale: down
            .iter()
            .filter(|peer| peer.endpoint.is_some())
            .map(|peer| format!("{} ({})", peer.name, peers::handshake(peer, now)))
            .collect(),
    }
}

pub(super) fn is_ready(node: &MeshNode) -> bool {
    node.status.as_ref().is_some_and(|status| conditions::holds(&status.conditions, "Ready"))
}

impl MeshSummary {
    fn ready_word(&self) -> &str {
        match (self.ready.as_deref(), &self.backend) {
            (_, None) => NONE,
            (Some("True"), _) => "Ready",
            (Some("False"), _) => "NotReady",
            (_, Some(_)) => UNKNOWN,
        }
    }

    fn cells(&self) -> [String; 2] {
        let encryption = match self.encryption.as_deref() {
            Some("None") => "NOT ENCRYPTED".to_owned(),
            Some(other) => format!("encryption {}", other.to_lowercase()),
            None => String::new(),
        };
        let sites = match self.site_encryption.len() {
            0 => String::new(),
            1 => ", but for 1 pair of sites".to_owned(),
            some => format!(", but for {some} pairs of sites"),
        };
        let backend = self.backend.clone().unwrap_or_default();
        [self.ready_word().to_owned(), format!("{backend}  {encryption}{sites}").trim().to_owned()]
    }
}

impl Tunnels {
    fn cells(&self) -> [String; 2] {
        const SHOWN: usize = 3;
        let mut rest = format!("seen by {}", self.seen_by);
        if self.relayed > 0 {
            rest.push_str(&format!("; {} relayed", self.relayed));
        }
        if !self.stale.is_empty() {
            let shown = self.stale.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
            let more = if self.stale.len() > SHOWN { ", …" } else { "" };
            rest.push_str(&format!("; {} stale: {shown}{more}", self.stale.len()));
        }
        [format!("{}/{} up", self.up, self.total), rest]
    }
}

impl Clear {
    fn cells(&self) -> [String; 2] {
        let part = |name: &str, stands: bool| {
            if stands { format!("{name} in place") } else { format!("{name} MISSING") }
        };
        let whole = self.guard_routes && self.guard_nft;
        let mut rest =
            format!("{}, {}", part("routes", self.guard_routes), part("nft table", self.guard_nft));
        if let Some(count) = self.blocked {
            rest.push_str(&format!(", {count} packets blocked"));
        }
        if let Some(Canary { verdict, sent, .. }) = &self.canary {
            let verdict = if verdict == "clean" { verdict.clone() } else { verdict.to_uppercase() };
            rest.push_str(&format!(", canary {} ({sent} sent)", text::cell(&verdict)));
        }
        [if whole { "guarded" } else { "UNGUARDED" }.to_owned(), rest]
    }
}

pub(super) fn node_name(node: &MeshNode) -> String {
    text::cell(name_of(node))
}
