//! The resources as a source found them, each decoded by itself: one that cannot be decoded is
//! reported and the others are kept.

use std::{collections::BTreeMap, fmt};

use api::announced::{self, Announcer};
use api::{MESH, MeshNodeSpec, MeshNodeStatus, MeshPeerSpec, MeshSpec, MeshStatus};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

/// What is wrong with an object, for the log and the operator.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Complaint {
    pub kind: String,
    pub name: String,
    pub problem: String,
}

impl Complaint {
    pub fn new(kind: &str, name: &str, problem: impl fmt::Display) -> Self {
        let problem = problem.to_string();
        Self { kind: kind.to_owned(), name: name.to_owned(), problem }
    }
}

impl fmt::Display for Complaint {
    /// Names are somebody else's text, so they are escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}: {}", self.kind, self.name, self.problem)
    }
}

/// Decoded objects by name, nothing judged yet.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resources {
    pub mesh: Option<MeshSpec>,
    /// As the Mesh's status remembers them.
    pub revoked_keys: Vec<String>,
    pub nodes: BTreeMap<String, (MeshNodeSpec, MeshNodeStatus)>,
    pub peers: BTreeMap<String, MeshPeerSpec>,
}

#[derive(Deserialize)]
struct Envelope {
    kind: String,
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    spec: Value,
    #[serde(default)]
    status: Value,
}

#[derive(Default, Deserialize)]
struct Metadata {
    #[serde(default)]
    name: String,
}

impl Resources {
    pub fn decode(objects: impl IntoIterator<Item = Value>) -> (Self, Vec<Complaint>) {
        let mut resources = Self::default();
        let mut complaints = Vec::new();
        for object in objects {
            let before = resources.nodes.len() + resources.peers.len();
            let counts = matches!(object["kind"].as_str(), Some("MeshNode" | "MeshPeer"));
            let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            match resources.put(object) {
                Ok(()) if counts && before == resources.nodes.len() + resources.peers.len() => {
                    let problem = "is there twice; the last one counts";
                    complaints.push(Complaint::new("object", &name, problem));
                }
                Ok(()) => {}
                Err(complaint) => complaints.push(complaint),
            }
        }
        (resources, complaints)
    }

    /// Settles who announces what, where no controller does; and what does not come of it.
    pub fn route_prefixes(&mut self) -> Vec<Complaint> {
        let peers = self.peers.iter().map(|(name, spec)| (name.as_str(), spec));
        let taken = announced::taken(self.mesh.as_ref(), peers);
        let nodes = self.nodes.iter();
        let nodes =
            nodes.map(|(name, (spec, status))| Announcer::of(name, spec, &status.endpoints));
        let mut verdicts = announced::announced(&taken, &nodes.collect::<Vec<_>>());
        let mut complaints = Vec::new();
        for (name, (spec, _)) in &mut self.nodes {
            let verdict = verdicts.remove(name).unwrap_or_default();
            spec.routed = verdict.routed.iter().map(ToString::to_string).collect();
            let refused = verdict.refused.iter();
            complaints.extend(refused.map(|why| Complaint::new("MeshNode", name, why)));
        }
        complaints
    }

    /// Takes one object in, in the place of an earlier one of its name. Kinds that say nothing
    /// about the mesh's shape are passed over.
    pub(crate) fn put(&mut self, object: Value) -> Result<(), Complaint> {
        let object: Envelope =
            serde_json::from_value(object).map_err(|e| Complaint::new("object", "", e))?;
        let Envelope { kind, metadata: Metadata { name }, spec, status } = object;
        self.take(&kind, name, spec, status).map(drop)
    }

    /// Likewise, of one that is taken apart already. False if a node says nothing new that concerns
    /// others: most of what it writes is for people.
    pub(crate) fn take(
        &mut self,
        kind: &str,
        name: String,
        spec: Value,
        status: Value,
    ) -> Result<bool, Complaint> {
        let complain = |problem: String| Complaint::new(kind, &name, problem);
        match kind {
            "Mesh" if name.is_empty() || name == MESH => {
                self.mesh = Some(part(spec, "spec").map_err(complain)?);
                let status: MeshStatus = part(or_empty(status), "status").map_err(complain)?;
                self.revoked_keys = status.revoked_keys;
            }
            "MeshNode" => {
                check_name(&name).map_err(complain)?;
                let spec = part(or_empty(spec), "spec").map_err(complain)?;
                let status = part(or_empty(status), "status").map_err(complain)?;
                let node = (spec, of_others(status));
                let differs = self.nodes.get(&name) != Some(&node);
                self.nodes.insert(name, node);
                return Ok(differs);
            }
            "MeshPeer" => {
                check_name(&name).map_err(complain)?;
                let spec = part(spec, "spec").map_err(complain)?;
                self.peers.insert(name, spec);
            }
            "Mesh" => return Err(complain(format!("the one Mesh is named {MESH}"))),
            "SubnetClaim" | "JoinToken" | "KeyRotation" => {}
            _ => {
                return Err(complain("is of a kind that this agent does not know".into()));
            }
        }
        Ok(true)
    }
}

/// What of a node's status concerns others.
fn of_others(status: MeshNodeStatus) -> MeshNodeStatus {
    let MeshNodeStatus { public_keys, newest_epoch, endpoints, nat, serves, tls, relays, .. } =
        status;
    MeshNodeStatus {
        public_keys,
        newest_epoch,
        endpoints,
        nat,
        serves,
        tls,
        relays,
        ..MeshNodeStatus::default()
    }
}

fn or_empty(value: Value) -> Value {
    if value.is_null() { Value::Object(serde_json::Map::default()) } else { value }
}

fn part<T: DeserializeOwned>(value: Value, what: &str) -> Result<T, String> {
    serde_json::from_value(value).map_err(|e| format!("{what}: {e}"))
}

/// The form of Kubernetes object names (RFC 1123 subdomain).
fn check_name(name: &str) -> Result<(), String> {
    let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-' || c == b'.';
    match name {
        "" => Err("metadata.name is missing".into()),
        _ if name.len() > 253 => Err("metadata.name is longer than 253 characters".into()),
        _ if !name.bytes().all(plain) => {
            Err("metadata.name has other characters than a-z, 0-9, - and .".into())
        }
        _ => Ok(()),
    }
}
