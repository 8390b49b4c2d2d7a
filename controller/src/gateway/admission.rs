//! Who is let in: a pure judgement over the request, its token and the mesh.
//!
//! Outside there is one answer for every refusal, at one time; the reason is for the audit.

use api::announced::{Announcer, NotRouted, Taken, announced};
use api::{
    Condition, Decision, JoinToken, JoinTokenStatus, Joined, MeshNode, MeshNodeSpec, Waiting,
    conditions, parse_prefix,
};
use ipnet::IpNet;
use jiff::Timestamp;
use keys::PublicKey;
use kube::ResourceExt;
use subtle::ConstantTimeEq;

/// Machines that a token remembers.
const REMEMBERED: usize = 64;
/// Machines that wait with one token.
const WAITING: usize = 32;
pub(super) const USABLE: &str = "Usable";

/// Why a machine is not let in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("the request is malformed")]
    Malformed,
    #[error("the certificate request is not signed by its own key")]
    Unsigned,
    #[error("the node's public key is no key that peers could use")]
    BadKey,
    #[error("whoever asked did not prove that it holds the public key's private half")]
    Unproved,
    #[error("there is no token of that name")]
    UnknownToken,
    #[error("the token's secret is wrong")]
    WrongSecret,
    #[error("the token ended at {0}")]
    Expired(String),
    #[error("the token has been used as often as it permits ({0})")]
    UsedUp(u32),
    #[error("nobody has approved it yet")]
    NeedsApproval,
    #[error("somebody denied it")]
    Denied,
    #[error("{WAITING} machines wait for an approval already")]
    TooManyWait,
    #[error("{0:?} is no name for a node")]
    BadName(String),
    #[error("the name {0} is taken")]
    NameTaken(String),
    #[error("the key is {0}'s already; is this machine a clone?")]
    KeyKnown(String),
    #[error("the key was revoked")]
    KeyRevoked,
    #[error("the token does not permit to announce {0:?}")]
    PrefixNotGranted(String),
    #[error("it asks to announce a prefix that cannot be: {0}")]
    PrefixRefused(NotRouted),
}

impl Refusal {
    /// One CamelCase word.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Refusal::Malformed => "Malformed",
            Refusal::Unsigned => "Unsigned",
            Refusal::BadKey => "BadKey",
            Refusal::Unproved => "Unproved",
            Refusal::UnknownToken => "UnknownToken",
            Refusal::WrongSecret => "WrongSecret",
            Refusal::Expired(_) => "Expired",
            Refusal::UsedUp(_) => "UsedUp",
            Refusal::NeedsApproval => "NeedsApproval",
            Refusal::Denied => "Denied",
            Refusal::TooManyWait => "TooManyWait",
            Refusal::BadName(_) => "BadName",
            Refusal::NameTaken(_) => "NameTaken",
            Refusal::KeyKnown(_) => "KeyKnown",
            Refusal::KeyRevoked => "KeyRevoked",
            Refusal::PrefixNotGranted(_) => "PrefixNotGranted",
            Refusal::PrefixRefused(NotRouted::Overlap { .. }) => "PrefixOverlap",
            Refusal::PrefixRefused(_) => "PrefixRefused",
        }
    }
}

/// A machine that wants in; its certificate request has been verified.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    /// The name that it wants.
    pub(super) name: String,
    /// SHA-256 of the key that its certificate will be for, in hexadecimal.
    pub(super) key: String,
    /// Its WireGuard key.
    pub(super) public_key: PublicKey,
    /// What it asks to announce.
    pub(super) prefixes: Vec<String>,
}

/// Keys and names that are in the mesh.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    pub(super) nodes: Vec<MeshNode>,
    /// Name and key of the plain peers.
    pub(super) peers: Vec<(String, String)>,
    pub(super) revoked_keys: Vec<String>,
    /// What the mesh has itself.
    pub(super) taken: Vec<Taken>,
}

/// A candidate that is let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// As a new node, for one use of the token.
    New { name: String, spec: Box<MeshNodeSpec> },
    /// It is in already and the answer did not reach it: no use is consumed.
    Again { name: String, uid: String },
    /// Somebody has to approve it. `asked`: that it waits is written down already.
    Waits { name: String, asked: bool },
}

/// Whether the secret is the token's. Takes the same time for every secret, and for none.
pub(super) fn secret_fits(token: Option<&JoinToken>, hash: &str) -> Result<(), Refusal> {
    const NOBODYS: &str = "0000000000000000000000000000000000000000000000000000000000000000";
    let stored = token.map_or(NOBODYS, |token| &token.spec.hash);
    let fits = bool::from(stored.as_bytes().ct_eq(hash.as_bytes()));
    match (token, fits) {
        (None, _) => Err(Refusal::UnknownToken),
        (Some(_), false) => Err(Refusal::WrongSecret),
        (Some(_), true) => Ok(()),
    }
}

/// Whether the token still lets somebody in. A time that cannot be read has ended.
pub(super) fn usable(token: &JoinToken, now: Timestamp) -> Result<(), Refusal> {
    let spec = &token.spec;
    let ended = spec.expires_at.parse::<Timestamp>().map_or(true, |end| end <= now);
    let used = token.status.as_ref().map_or(0, |status| status.used);
    if ended {
        return Err(Refusal::Expired(spec.expires_at.clone()));
    }
    if used >= spec.uses { Err(Refusal::UsedUp(spec.uses)) } else { Ok(()) }
}

/// The judgement, once the secret fits.
pub(super) fn judge(
    candidate: &Candidate,
    token: &JoinToken,
    known: &Known,
    now: Timestamp,
) -> Result<Admission, Refusal> {
    let prefix = token.spec.name_prefix.as_deref().unwrap_or_default();
    let name = if candidate.name.starts_with(prefix) {
        candidate.name.clone()
    } else {
        format!("{prefix}{}", candidate.name)
    };
    if !is_name(&name) {
        return Err(Refusal::BadName(name.chars().take(64).collect()));
    }
    let joined = Joined {
        token: token.name_any(),
        key: candidate.key.clone(),
        public_key: Some(candidate.public_key.to_string()),
    };
    let namesake = known.nodes.iter().find(|node| node.name_any() == name);
    let again = namesake.filter(|node| is_of(node, &joined));
    key_is_free(candidate, known, again.map(|_| name.as_str()))?;
    let spent = has_used(candidate, &name, token)?;
    if let Some(node) = again {
        let ended = matches!(usable(token, now), Err(Refusal::Expired(_)));
        if !ended {
            return Ok(Admission::Again { name, uid: node.uid().unwrap_or_default() });
        }
    }
    match usable(token, now) {
        Err(Refusal::UsedUp(_)) if spent => {}
        other => other?,
    }
    if namesake.is_some() {
        return Err(Refusal::NameTaken(name));
    }
    may_announce(candidate, &name, (token, known))?;
    match approval(candidate, &name, token) {
        _ if spent => Ok(as_new(candidate, name, joined, token)),
        Err(Refusal::NeedsApproval) => {
            let asked = waiting_of(candidate, &name, token).is_some();
            Ok(Admission::Waits { name, asked })
        }
        Err(refusal) => Err(refusal),
        Ok(()) => Ok(as_new(candidate, name, joined, token)),
    }
}

fn as_new(candidate: &Candidate, name: String, joined: Joined, token: &JoinToken) -> Admission {
    let spec = Box::new(MeshNodeSpec {
        site: token.spec.site.clone(),
        pool: token.spec.pool.clone(),
        prefixes: candidate.prefixes.clone(),
        joined: Some(joined),
        ..MeshNodeSpec::default()
    });
    Admission::New { name, spec }
}

/// Each prefix lies within one that the token grants, and is nobody's.
fn may_announce(
    candidate: &Candidate,
    name: &str,
    (token, known): (&JoinToken, &Known),
) -> Result<(), Refusal> {
    if candidate.prefixes.is_empty() {
        return Ok(());
    }
    let granted: Vec<IpNet> =
        token.spec.prefixes.iter().filter_map(|text| parse_prefix(text).ok()).collect();
    let within = |asked: &String| {
        parse_prefix(asked).is_ok_and(|asked| granted.iter().any(|one| one.contains(&asked)))
    };
    if let Some(beyond) = candidate.prefixes.iter().find(|asked| !within(asked)) {
        return Err(Refusal::PrefixNotGranted(beyond.chars().take(64).collect()));
    }
    // One that is made by now is younger than all.
    let since = char::MAX.to_string();
    let asked = candidate.prefixes.clone();
    let it = Announcer { name: name.to_owned(), since, asked, ..Announcer::default() };
    let others = known.nodes.iter().map(Announcer::new);
    let verdict = announced(&known.taken, &others.chain([it]).collect::<Vec<_>>()).remove(name);
    match verdict.and_then(|verdict| verdict.refused.into_iter().next()) {
        Some(why) => Err(Refusal::PrefixRefused(why)),
        None => Ok(()),
    }
}

/// Whether the node is the machine that this token let in with this key.
pub(super) fn is_of(node: &MeshNode, joined: &Joined) -> bool {
    let same = |theirs: &Joined| theirs.token == joined.token && theirs.key == joined.key;
    node.spec.joined.as_ref().is_some_and(same) && !node.spec.revoked
}

/// Whether this very machine has used the token and has no MeshNode yet: the gateway ended in
/// between, or the answer was lost. Its WireGuard key is nobody else's meanwhile.
fn has_used(candidate: &Candidate, name: &str, token: &JoinToken) -> Result<bool, Refusal> {
    let fingerprint = candidate.public_key.fingerprint().to_string();
    let machines = token.status.iter().flat_map(|status| &status.machines);
    let mut coming = machines.filter(|machine| !machine.arrived);
    match coming.find(|machine| machine.fingerprint.as_ref() == Some(&fingerprint)) {
        None => Ok(false),
        Some(machine) if machine.node == name && machine.key.as_ref() == Some(&candidate.key) => {
            Ok(true)
        }
        Some(machine) => Err(Refusal::KeyKnown(machine.node.clone())),
    }
}

/// Whether it needs no approval or has one.
pub(super) fn approval(
    candidate: &Candidate,
    name: &str,
    token: &JoinToken,
) -> Result<(), Refusal> {
    if !token.spec.approve {
        return Ok(());
    }
    match waiting_of(candidate, name, token).map(|waiting| waiting.decision) {
        Some(Some(Decision::Approved)) => Ok(()),
        Some(Some(Decision::Denied)) => Err(Refusal::Denied),
        Some(None) => Err(Refusal::NeedsApproval),
        None if all_waiting(token).any(|waiting| stands(waiting) && waiting.node == name) => {
            Err(Refusal::NameTaken(name.to_owned()))
        }
        None if all_waiting(token).filter(|waiting| stands(waiting)).count() >= WAITING => {
            Err(Refusal::TooManyWait)
        }
        None => Err(Refusal::NeedsApproval),
    }
}

fn all_waiting(token: &JoinToken) -> impl Iterator<Item = &Waiting> {
    token.status.iter().flat_map(|status| &status.waiting)
}

/// One that was denied holds no name and no place.
fn stands(waiting: &Waiting) -> bool {
    waiting.decision != Some(Decision::Denied)
}

/// This very machine, under this name.
fn waiting_of<'a>(candidate: &Candidate, name: &str, token: &'a JoinToken) -> Option<&'a Waiting> {
    let fingerprint = candidate.public_key.fingerprint().to_string();
    let same = |waiting: &&Waiting| {
        waiting.node == name
            && waiting.key == candidate.key
            && waiting.fingerprint == fingerprint
            && waiting.prefixes == candidate.prefixes
    };
    all_waiting(token).find(same)
}

/// The token's status with one more machine that waits; the oldest that was denied makes room.
pub(super) fn asked(
    token: &JoinToken,
    candidate: &Candidate,
    (node, from): (&str, &str),
    now: Timestamp,
) -> JoinTokenStatus {
    let mut status = token.status.clone().unwrap_or_default();
    if status.waiting.len() >= WAITING
        && let Some(denied) = status.waiting.iter().position(|waiting| !stands(waiting))
    {
        status.waiting.remove(denied);
    }
    status.waiting.push(Waiting {
        node: node.to_owned(),
        key: candidate.key.clone(),
        fingerprint: candidate.public_key.fingerprint().to_string(),
        prefixes: candidate.prefixes.clone(),
        from: from.to_owned(),
        at: conditions::rfc3339(now),
        decision: None,
        decided_by: None,
    });
    status
}

fn key_is_free(candidate: &Candidate, known: &Known, own: Option<&str>) -> Result<(), Refusal> {
    let key = candidate.public_key.to_string();
    if known.revoked_keys.contains(&key) {
        return Err(Refusal::KeyRevoked);
    }
    let holds = |node: &&MeshNode| {
        let keys = node.status.as_ref().map_or(&[][..], |status| &status.public_keys);
        let joined = node.spec.joined.as_ref().and_then(|joined| joined.public_key.as_ref());
        joined == Some(&key) || keys.iter().any(|published| published.public_key == key)
    };
    let mut others = known.nodes.iter().filter(|node| Some(node.name_any().as_str()) != own);
    if let Some(node) = others.find(holds) {
        return Err(Refusal::KeyKnown(node.name_any()));
    }
    match known.peers.iter().find(|(_, theirs)| *theirs == key) {
        Some((peer, _)) => Err(Refusal::KeyKnown(peer.clone())),
        None => Ok(()),
    }
}

/// What Kubernetes takes as an object's name (RFC 1123), at most 63 characters: it is a machine.
pub(super) fn is_name(name: &str) -> bool {
    let inside = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || b"-.".contains(&c);
    let edge = |c: Option<&u8>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let bytes = name.as_bytes();
    bytes.len() <= 63
        && bytes.iter().all(|c| inside(*c))
        && edge(bytes.first())
        && edge(bytes.last())
        && !name.contains("..")
        && !name.contains(".-")
        && !name.contains("-.")
}

/// The token's status after one more machine; nothing to write if it is this very machine's use
/// already.
pub(super) fn used_once(
    token: &JoinToken,
    candidate: &Candidate,
    (node, from): (&str, &str),
    now: Timestamp,
) -> Result<Option<JoinTokenStatus>, Refusal> {
    if has_used(candidate, node, token)? {
        return Ok(None);
    }
    usable(token, now)?;
    approval(candidate, node, token)?;
    let mut status = token.status.clone().unwrap_or_default();
    let at = conditions::rfc3339(now);
    status.used += 1;
    status.last_used_at = Some(at.clone());
    status.waiting.retain(|waiting| waiting.node != node);
    status.machines.push(api::Admitted {
        node: node.to_owned(),
        from: from.to_owned(),
        at,
        key: Some(candidate.key.clone()),
        fingerprint: Some(candidate.public_key.fingerprint().to_string()),
        arrived: false,
    });
    let surplus = status.machines.len().saturating_sub(REMEMBERED);
    status.machines.drain(..surplus);
    Ok(Some(judged(JoinToken { status: Some(status), ..token.clone() }, now)))
}

/// The token with those of its machines marked that have a MeshNode, as `node` finds one by its
/// name: from then on their use is spent for good.
pub(super) fn with_arrivals(
    mut token: JoinToken,
    node: impl Fn(&str) -> Option<MeshNode>,
) -> JoinToken {
    let name = token.name_any();
    let machines = token.status.iter_mut().flat_map(|status| &mut status.machines);
    for machine in machines.filter(|machine| !machine.arrived) {
        let joined = node(&machine.node).and_then(|node| node.spec.joined);
        machine.arrived = joined.is_some_and(|joined| {
            joined.token == name && machine.key.as_ref().is_none_or(|key| *key == joined.key)
        });
    }
    token
}

/// The token's status with everything in it that follows from the rest.
pub(super) fn judged(token: JoinToken, now: Timestamp) -> JoinTokenStatus {
    let verdict = usable(&token, now);
    let mut status = token.status.clone().unwrap_or_default();
    status.uses = Some(format!("{}/{}", status.used, token.spec.uses));
    let because = match &verdict {
        Ok(()) => ("Usable", "machines may join with it".to_owned()),
        Err(refusal) => (refusal.reason(), refusal.to_string()),
    };
    let condition = Condition::new(USABLE, verdict.is_ok(), because, now);
    conditions::set(&mut status.conditions, condition.observed(token.metadata.generation));
    status
}

#[cfg(test)]
mod tests;
