//! Rotations as people see them: the plan before, the line while, the list afterwards.

use std::collections::BTreeSet;

use api::{KeyRotation, KeyRotationSpec, KeyRotationStatus, MeshNode, MeshPeer, RotationPhase};
use jiff::Timestamp;
use kube::ResourceExt;
use serde::Serialize;

use crate::{
    exit::{Exit, Failure},
    output::{Item, Output, Table},
    text::{self, NONE, PENDING},
    view::nodes::{self, name_of},
};

/// Names in a line; more are counted.
const NAMED: usize = 4;
const BAR: usize = 18;

/// What a rotation would do, before anything is written.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    pub nodes: Vec<String>,
    /// The epochs that they are on now.
    pub from: Vec<u32>,
    pub to: u32,
    /// Nodes that nobody reaches now.
    pub away: Vec<String>,
    /// Plain WireGuard peers that call one of the nodes, and know its key by heart.
    pub plain_peers: Vec<String>,
    pub deadline: String,
    /// Their keys are lost, and go at once.
    pub lost: bool,
    #[serde(skip)]
    everybody: bool,
}

/// What there is.
pub struct Mesh<'a> {
    pub nodes: &'a [MeshNode],
    pub peers: &'a [MeshPeer],
    pub rotations: &'a [KeyRotation],
    /// The newest epoch that any rotation ever moved to.
    pub newest: Option<u32>,
}

impl Plan {
    /// Refuses what the controller would refuse, so that it is known before anything is written.
    pub fn new(mesh: &Mesh<'_>, spec: &KeyRotationSpec, now: Timestamp) -> Result<Self, Failure> {
        if let Some(running) = running(mesh.rotations) {
            return Err(Failure::failed(format!("{} is under way", id(running)))
                .check("hawser keys status; wait for its end, or hawser keys abort"));
        }
        for name in spec.nodes.iter().chain(&spec.canaries) {
            refuse_unfit(name, mesh.nodes)?;
        }
        for site in spec.sites.iter().chain(&spec.canary_sites) {
            if !mesh.nodes.iter().any(|node| node.spec.site.as_ref() == Some(site)) {
                return Err(Failure::usage(format!("no node is of site {site}")));
            }
        }
        let targets = targets(mesh.nodes, spec);
        if targets.is_empty() {
            return Err(Failure::failed("there are no nodes to rotate"));
        }
        refuse_stray_canaries(&targets, spec)?;
        let deadline = deadline(spec, now)?;
        let epochs: BTreeSet<u32> = targets.iter().map(|node| node.spec.key_epoch).collect();
        let away = away(mesh.nodes);
        Ok(Self {
            everybody: targets.len() == mesh.nodes.iter().filter(|n| !n.spec.revoked).count(),
            nodes: targets.iter().map(|node| name_of(node).to_owned()).collect(),
            from: epochs.into_iter().collect(),
            to: next_epoch(mesh),
            away: targets
                .iter()
                .map(|n| name_of(n).to_owned())
                .filter(|n| away.contains(n))
                .collect(),
            plain_peers: (mesh.peers.iter().filter(|peer| calls_any(peer, &targets)))
                .map(ResourceExt::name_any)
                .collect(),
            deadline,
            lost: spec.lost,
        })
    }

    /// The question's first words.
    pub fn question(&self) -> String {
        let count = self.nodes.len();
        let nodes = match (self.everybody, self.nodes.as_slice()) {
            (_, [one]) => text::printable(one),
            (true, _) => format!("all {count} nodes"),
            (false, _) => format!("{count} nodes"),
        };
        let from: Vec<String> = self.from.iter().map(ToString::to_string).collect();
        format!("Rotate {nodes} from epoch {} to {}", from.join(","), self.to)
    }

    pub fn text(&self) -> String {
        if self.lost {
            return format!(
                "{}. Their keys are lost: the mesh refuses them at once and for ever.\n  \
                 Each makes a new key as soon as its agent runs; till then it has no tunnels.\n",
                self.question()
            );
        }
        let old = match self.from.as_slice() {
            [one] => format!("epoch {one}"),
            _ => "the old epochs".to_owned(),
        };
        let mut text = format!(
            "{}. No traffic drops: new keys are accepted before they are used.\n  \
             1 publish new public keys   2 wait until all accept   3 switch senders   4 forget {old}\n",
            self.question()
        );
        if !self.away.is_empty() {
            let (catch, stays) =
                if self.away.len() == 1 { ("it catches", "it") } else { ("they catch", "them") };
            text += &format!(
                "Not reachable now: {} ({catch} up on return; {old} stays valid for {stays} until {}).\n",
                named(&self.away),
                self.deadline
            );
        }
        if !self.plain_peers.is_empty() {
            text += &format!(
                "Plain peers know the nodes' old keys by heart: {}. Give them the new ones before {}, \
                 when {old} is forgotten; to end it earlier: hawser keys forget.\n",
                named(&self.plain_peers),
                self.deadline
            );
        }
        text
    }

    pub fn output(&self) -> Output {
        Output::screen("KeyRotationPlan", self.text(), Item::new("keyrotationplan/plan", self))
    }
}

fn refuse_unfit(name: &str, all: &[MeshNode]) -> Result<(), Failure> {
    match all.iter().find(|node| name_of(node) == name) {
        None => Err(nodes::not_found(name, all)),
        Some(node) if node.spec.revoked => {
            Err(Failure::failed(format!("node {name} is revoked; its keys are refused for ever")))
        }
        Some(_) => Ok(()),
    }
}

fn targets<'a>(all: &'a [MeshNode], spec: &KeyRotationSpec) -> Vec<&'a MeshNode> {
    let everybody = spec.nodes.is_empty() && spec.sites.is_empty();
    let meant = |node: &&MeshNode| {
        let site = node.spec.site.as_ref().is_some_and(|site| spec.sites.contains(site));
        everybody || site || spec.nodes.iter().any(|name| name == name_of(node))
    };
    all.iter().filter(|node| !node.spec.revoked).filter(meant).collect()
}

/// True of a plain peer that calls one of the nodes; without entries it calls every node.
fn calls_any(peer: &MeshPeer, nodes: &[&MeshNode]) -> bool {
    let entries = &peer.spec.entries;
    entries.is_empty() || nodes.iter().any(|node| entries.iter().any(|name| name == name_of(node)))
}

fn refuse_stray_canaries(targets: &[&MeshNode], spec: &KeyRotationSpec) -> Result<(), Failure> {
    let named = |name: &String| targets.iter().any(|node| name_of(node) == name);
    if let Some(stray) = spec.canaries.iter().find(|name| !named(name)) {
        return Err(Failure::usage(format!("canary {stray} is not among the nodes to rotate")));
    }
    let of_site = |site: &String| targets.iter().any(|n| n.spec.site.as_ref() == Some(site));
    if !spec.canary_sites.is_empty() && !spec.canary_sites.iter().any(of_site) {
        return Err(Failure::usage("the canaries match none of the nodes to rotate"));
    }
    Ok(())
}

fn deadline(spec: &KeyRotationSpec, now: Timestamp) -> Result<String, Failure> {
    let Some(text) = &spec.deadline else {
        let week = now.saturating_add(jiff::SignedDuration::from_hours(7 * 24));
        return Ok(api::conditions::rfc3339(week.unwrap_or(Timestamp::MAX)));
    };
    let at: Timestamp = text.parse().map_err(|_| {
        Failure::usage(format!(
            "deadline {text:?} is no time; write it like 2026-11-29T09:15:00Z or 36h"
        ))
    })?;
    if at <= now {
        return Err(Failure::usage(format!("the deadline {text} is in the past")));
    }
    Ok(text.clone())
}

/// As far as can be seen from here; the controller decides.
fn next_epoch(mesh: &Mesh<'_>) -> u32 {
    let told = mesh
        .nodes
        .iter()
        .flat_map(|node| node.spec.epochs.iter().copied().chain([node.spec.key_epoch]));
    let had = mesh.nodes.iter().filter_map(|node| node.status.as_ref()?.newest_epoch);
    told.chain(had).chain(mesh.newest).max().unwrap_or(1).saturating_add(1)
}

/// Nodes that more than half of the others have no tunnel to.
fn away(nodes: &[MeshNode]) -> BTreeSet<String> {
    let others = nodes.len().saturating_sub(1);
    let miss = |name: &str| {
        let says = nodes.iter().filter_map(|node| node.status.as_ref());
        says.filter(|status| status.unreachable.iter().any(|other| other == name)).count()
    };
    let names = nodes.iter().map(name_of).filter(|name| others > 0 && miss(name) * 2 > others);
    names.map(str::to_owned).collect()
}

/// The rotation that is under way.
pub fn running(rotations: &[KeyRotation]) -> Option<&KeyRotation> {
    rotations.iter().find(|rotation| !phase(rotation).is_over())
}

pub fn phase(rotation: &KeyRotation) -> RotationPhase {
    rotation.status.as_ref().and_then(|status| status.phase).unwrap_or(RotationPhase::Pending)
}

pub fn id(rotation: &KeyRotation) -> String {
    format!("keyrotation/{}", rotation.name_any())
}

/// Where a rotation stands, for whoever waits.
#[derive(Debug, PartialEq, Eq)]
pub enum Stand {
    Going(String),
    /// All that are there are done; the rest is waited for without anybody watching.
    Done(String),
    Failed(String),
}

pub fn stand(rotation: &KeyRotation) -> Stand {
    let status = rotation.status.clone().unwrap_or_default();
    let (phase, done) = (phase(rotation), status.done.clone().unwrap_or_default());
    let epoch = status.epoch.map(|epoch| epoch.to_string()).unwrap_or_default();
    let (word, why) = reason(&status);
    let probes = probes(&status).map(|text| format!("   {text}")).unwrap_or_default();
    match phase {
        RotationPhase::Completed => {
            Stand::Done(format!("completed   {done} on epoch {epoch}{probes}"))
        }
        RotationPhase::Draining if word == "AwaitingAway" => {
            let pending = named(&status.waiting_for);
            let until = status.deadline.unwrap_or_default();
            let gap = if probes.is_empty() { " " } else { "   " };
            Stand::Done(format!(
                "switched   {done} on epoch {epoch}{probes}{gap}({pending} pending; the old epoch stays valid until {until})"
            ))
        }
        RotationPhase::Aborted | RotationPhase::RolledBack => {
            let phase = phase.to_string().to_lowercase();
            Stand::Failed(format!("{phase}   {done} on epoch {epoch}{probes}"))
        }
        RotationPhase::Refused => Stand::Failed(format!("refused: {why}")),
        RotationPhase::Pending => Stand::Going(format!("pending   {why}")),
        RotationPhase::Publishing
        | RotationPhase::Accepting
        | RotationPhase::Switching
        | RotationPhase::Draining
        | RotationPhase::Forgetting => Stand::Going(going(phase, &status, &word)),
    }
}

/// What the nodes lost on the way to each other; nothing where none has counted.
fn probes(status: &KeyRotationStatus) -> Option<String> {
    let sent = status.probes?;
    Some(format!("probes lost {} of {sent}", status.lost.unwrap_or_default()))
}

/// Whom it waits for till its deadline, once all that are there are done.
pub fn awaited(rotation: &KeyRotation) -> Option<String> {
    let status = rotation.status.clone().unwrap_or_default();
    (reason(&status).0 == "AwaitingAway").then(|| named(&status.waiting_for))
}

fn going(phase: RotationPhase, status: &KeyRotationStatus, word: &str) -> String {
    let done = status.done.clone().unwrap_or_default();
    let paused = if word == "Paused" { " paused" } else { "" };
    let waiting = match status.waiting_for.as_slice() {
        [] => String::new(),
        names => format!("   waiting {}", named(names)),
    };
    format!("{}{paused} {done}{waiting}", phase.to_string().to_lowercase())
}

/// `[####----]`: how much is done, by the phases behind us.
pub fn bar(rotation: &KeyRotation) -> String {
    let step = match phase(rotation) {
        RotationPhase::Pending | RotationPhase::Refused => 0,
        RotationPhase::Publishing => 1,
        RotationPhase::Accepting => 2,
        RotationPhase::Switching => 3,
        RotationPhase::Draining => 4,
        RotationPhase::Forgetting => 5,
        RotationPhase::Completed | RotationPhase::Aborted | RotationPhase::RolledBack => 6,
    };
    let full = BAR * step / 6;
    format!("[{}{}]", "#".repeat(full), "-".repeat(BAR - full))
}

fn reason(status: &KeyRotationStatus) -> (String, String) {
    let condition = api::conditions::get(&status.conditions, "Progressing");
    condition.map(|c| (c.reason.clone(), text::printable(&c.message))).unwrap_or_default()
}

fn named(names: &[String]) -> String {
    let shown: Vec<String> = names.iter().take(NAMED).map(|name| text::cell(name)).collect();
    match names.len().saturating_sub(NAMED) {
        0 => shown.join(" "),
        more => format!("{} and {more} more", shown.join(" ")),
    }
}

/// One rotation, for JSON and lists.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    name: String,
    phase: String,
    epoch: Option<u32>,
    done: Option<String>,
    waiting_for: Vec<String>,
    created: Option<String>,
    started: Option<String>,
    ended: Option<String>,
    deadline: Option<String>,
    /// Sent through the tunnels between live nodes while it moved.
    probes: Option<u64>,
    /// Those that were lost.
    lost: Option<u64>,
    reason: String,
    message: String,
}

fn of(rotation: &KeyRotation) -> Row {
    let status = rotation.status.clone().unwrap_or_default();
    let (reason, message) = reason(&status);
    let created = rotation.metadata.creation_timestamp.as_ref().map(|time| time.0.to_string());
    Row {
        name: rotation.name_any(),
        phase: phase(rotation).to_string(),
        epoch: status.epoch,
        done: status.done,
        waiting_for: status.waiting_for,
        created,
        started: status.started_at,
        ended: status.ended_at,
        deadline: status.deadline,
        probes: status.probes,
        lost: status.lost,
        reason,
        message,
    }
}

/// One rotation as the result of a command.
pub fn one(rotation: &KeyRotation, text: &str) -> Output {
    Output::screen("KeyRotation", format!("{text}\n"), Item::new(id(rotation), &of(rotation)))
}

const COLUMNS: &[&str] = &["NAME", "PHASE", "EPOCH", "DONE", "STARTED", "TOOK", "LOST", "REASON"];
const NARROW: usize = 7;

/// All rotations, the newest first.
pub fn history(rotations: &[KeyRotation], now: Timestamp) -> Output {
    let mut rows: Vec<Row> = rotations.iter().map(of).collect();
    rows.sort_by(|a, b| (&b.created, &b.name).cmp(&(&a.created, &a.name)));
    let mut table = Table::new(COLUMNS, NARROW, "no rotations yet; begin one: hawser keys rotate");
    for row in &rows {
        let time = |text: &Option<String>| text.as_ref()?.parse::<Timestamp>().ok();
        let (started, ended) = (time(&row.started), time(&row.ended));
        let took = started.map(|from| text::duration(text::since(from, ended.unwrap_or(now))));
        table.push(vec![
            row.name.clone(),
            row.phase.clone(),
            row.epoch.map_or_else(|| PENDING.to_owned(), |epoch| epoch.to_string()),
            row.done.clone().unwrap_or_else(|| NONE.to_owned()),
            started.map_or_else(|| PENDING.to_owned(), |at| text::age(Some(at), now)),
            took.unwrap_or_else(|| NONE.to_owned()),
            text::lost(row.lost, row.probes),
            row.reason.clone(),
        ]);
    }
    let items = rows.iter().map(|row| Item::new(format!("keyrotation/{}", row.name), row));
    Output::list("KeyRotation", table, items.collect())
}

/// What a command that waited in vain says.
pub fn failure(rotation: &KeyRotation, text: &str) -> Failure {
    Failure::new(Exit::Failed, format!("{} {text}", id(rotation)))
        .check(format!("hawser keys history; kubectl describe keyrotation {}", rotation.name_any()))
}

#[cfg(test)]
mod tests;
