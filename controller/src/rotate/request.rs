//! What somebody asked for: which nodes it means, and whether it makes sense.

use std::collections::BTreeSet;

use api::KeyRotationSpec;
use jiff::{SignedDuration, Timestamp};
use thiserror::Error;

use super::World;

/// Where nobody says otherwise.
const PATIENCE: SignedDuration = SignedDuration::from_hours(7 * 24);
const WAVE: usize = 1000;

/// Why a rotation does not begin, and will not.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    #[error("keyrotation {0} is under way; wait for its end, or abort it")]
    Conflict(String),
    #[error("there is no node {0}; `hawser nodes` lists them")]
    UnknownNode(String),
    #[error("node {0} is revoked; its keys are refused for ever")]
    RevokedNode(String),
    #[error("no node is of site {0}")]
    UnknownSite(String),
    #[error("there are no nodes to rotate")]
    NoNodes,
    #[error("the canaries match none of the nodes to rotate")]
    NoCanaries,
    #[error("canary {0} is not among the nodes to rotate")]
    StrayCanary(String),
    #[error("deadline {0:?} is no time; write it like 2026-11-29T09:15:00Z")]
    MalformedDeadline(String),
    #[error("the deadline {0} is in the past")]
    LateDeadline(Timestamp),
    #[error("name the nodes whose keys are lost, and nothing else: --node NAME --lost")]
    LostUnnamed,
    #[error("it was ended before it began")]
    EndedEarly,
}

impl Refusal {
    /// One CamelCase word for the condition.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Conflict(_) => "Conflict",
            Self::UnknownNode(_) => "UnknownNode",
            Self::RevokedNode(_) => "RevokedNode",
            Self::UnknownSite(_) => "UnknownSite",
            Self::NoNodes => "NoNodes",
            Self::NoCanaries => "NoCanaries",
            Self::StrayCanary(_) => "StrayCanary",
            Self::MalformedDeadline(_) | Self::LateDeadline(_) => "BadDeadline",
            Self::LostUnnamed => "LostUnnamed",
            Self::EndedEarly => "EndedEarly",
        }
    }
}

/// The nodes that a request means and that are there, revoked ones excluded.
pub fn targets(spec: &KeyRotationSpec, world: &World) -> BTreeSet<String> {
    let all = spec.nodes.is_empty() && spec.sites.is_empty();
    let meant = |name: &String, site: Option<&String>| {
        all || spec.nodes.contains(name) || site.is_some_and(|site| spec.sites.contains(site))
    };
    let nodes = world.nodes.iter().filter(|(_, node)| !node.revoked);
    let nodes = nodes.filter(|(name, node)| meant(name, node.site.as_ref()));
    nodes.map(|(name, _)| name.clone()).collect()
}

/// Those of them that go first.
pub(super) fn canaries(spec: &KeyRotationSpec, world: &World) -> BTreeSet<String> {
    let first = |name: &String| {
        let site = world.nodes[name].site.as_ref();
        spec.canaries.contains(name) || site.is_some_and(|site| spec.canary_sites.contains(site))
    };
    targets(spec, world).into_iter().filter(first).collect()
}

/// Whether a request makes sense in this world. The deadline that is meant.
pub(super) fn judge(
    spec: &KeyRotationSpec,
    world: &World,
    now: Timestamp,
) -> Result<Timestamp, Refusal> {
    let groups = [&spec.sites, &spec.canaries, &spec.canary_sites];
    if spec.lost && (spec.nodes.is_empty() || groups.iter().any(|group| !group.is_empty())) {
        return Err(Refusal::LostUnnamed);
    }
    for name in spec.nodes.iter().chain(&spec.canaries) {
        match world.nodes.get(name) {
            None => return Err(Refusal::UnknownNode(name.clone())),
            Some(node) if node.revoked => return Err(Refusal::RevokedNode(name.clone())),
            Some(_) => {}
        }
    }
    let sites: BTreeSet<&String> = world.nodes.values().filter_map(|n| n.site.as_ref()).collect();
    let mut meant = spec.sites.iter().chain(&spec.canary_sites);
    if let Some(site) = meant.find(|site| !sites.contains(site)) {
        return Err(Refusal::UnknownSite(site.clone()));
    }
    let targets = targets(spec, world);
    if targets.is_empty() {
        return Err(Refusal::NoNodes);
    }
    if let Some(stray) = spec.canaries.iter().find(|name| !targets.contains(*name)) {
        return Err(Refusal::StrayCanary(stray.clone()));
    }
    let wanted = !spec.canaries.is_empty() || !spec.canary_sites.is_empty();
    if wanted && canaries(spec, world).is_empty() {
        return Err(Refusal::NoCanaries);
    }
    let deadline = deadline(spec, now)?;
    if deadline <= now { Err(Refusal::LateDeadline(deadline)) } else { Ok(deadline) }
}

/// The deadline as asked for, else a week after `start`.
pub(super) fn deadline(spec: &KeyRotationSpec, start: Timestamp) -> Result<Timestamp, Refusal> {
    match &spec.deadline {
        None => Ok(start.saturating_add(PATIENCE).unwrap_or(Timestamp::MAX)),
        Some(text) => text.parse().map_err(|_| Refusal::MalformedDeadline(text.clone())),
    }
}

pub(super) fn wave_size(spec: &KeyRotationSpec) -> usize {
    spec.wave_size.map_or(WAVE, |size| (size as usize).clamp(1, WAVE))
}

/// How many nodes may be away when a wave begins.
pub(super) fn max_unavailable(spec: &KeyRotationSpec, world: &World) -> usize {
    let quarter = world.nodes.values().filter(|node| node.has_started()).count().div_ceil(4);
    spec.max_unavailable.map_or(quarter, |most| most as usize)
}
