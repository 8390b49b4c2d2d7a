//! PURE: resources from files, judged before they are applied: what an API server would refuse, what
//! the controller would complain of, and what their conditions say already.

mod shape;

use std::collections::BTreeMap;

use api::{
    Condition, JoinToken, KeyRotation, Mesh, MeshNode, MeshPeer, SiteEncryption, SubnetClaim,
    parse_prefix, published,
};
use ipnet::IpNet;
use kube::ResourceExt;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::preflight::{Finding, Verdict};

/// One object of a file.
#[derive(Clone, Debug)]
pub struct Document {
    pub file: String,
    pub object: Value,
}

/// Everything that is to be said of these, in their order; one line for each that is good.
pub fn judge(documents: &[Document]) -> Vec<Finding> {
    let documents: Vec<Document> = documents.iter().flat_map(items).collect();
    let mut all =
        Judged { ranges: documents.iter().flat_map(ranges).collect(), ..Judged::default() };
    for document in &documents {
        all.take(document);
    }
    all.together();
    all.findings
}

/// The objects of a list as kubectl prints it, or the object itself.
fn items(document: &Document) -> Vec<Document> {
    let of = |object: &Value| Document { file: document.file.clone(), object: object.clone() };
    match document.object["items"].as_array() {
        Some(items) if document.object["kind"] == "List" => items.iter().map(of).collect(),
        Some(_) | None => vec![document.clone()],
    }
}

/// What the mesh of these files carries itself.
fn ranges(Document { object, .. }: &Document) -> Vec<IpNet> {
    let mesh = serde_json::from_value::<Mesh>(object.clone()).ok();
    let mesh = mesh.filter(|_| object["kind"] == "Mesh");
    let pools = mesh.into_iter().flat_map(|mesh| mesh.spec.pools);
    pools.filter_map(|pool| parse_prefix(&pool.cidr).ok()).collect()
}

#[derive(Default)]
struct Judged {
    findings: Vec<Finding>,
    /// Where each object was first.
    seen: BTreeMap<String, String>,
    ranges: Vec<IpNet>,
    /// Whose is which prefix.
    prefixes: Vec<(IpNet, String)>,
}

impl Judged {
    fn take(&mut self, Document { file, object }: &Document) {
        let version = object["apiVersion"].as_str().unwrap_or_default();
        if !version.starts_with(api::GROUP) {
            return;
        }
        let kind = object["kind"].as_str().unwrap_or_default();
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let name = format!("{}/{name}", kind.to_lowercase());
        let before = self.findings.len();
        if let Some(first) = self.seen.insert(name.clone(), file.clone()) {
            let what = format!("{name} is in {first} and in {file}: the later one would win");
            self.fail("HW6002", what, "keep one of them");
        }
        let known = version == format!("{}/{}", api::GROUP, api::VERSION);
        match kind {
            "Mesh" if known => self.with(object, &name, Self::mesh),
            "MeshNode" if known => self.with(object, &name, Self::node),
            "MeshPeer" if known => self.with(object, &name, Self::peer),
            "SubnetClaim" if known => self.with(object, &name, Self::claim),
            "JoinToken" if known => self.with(object, &name, |_, _: JoinToken, _| {}),
            "KeyRotation" if known => self.with(object, &name, |_, _: KeyRotation, _| {}),
            _ => {
                let what = format!("{file}: {version} {kind} is no resource of this release");
                self.fail("HW6001", what, "hawser crds lists those that there are");
            }
        }
        self.conditions(object, &name);
        if self.findings.len() == before {
            let what = format!("{name} in {file}");
            let fix = String::new();
            self.findings.push(Finding { code: "HW6000", verdict: Verdict::Ok, what, fix });
        }
    }

    /// Its form first; what cannot be read is not judged.
    fn with<K: DeserializeOwned>(
        &mut self,
        object: &Value,
        name: &str,
        judge: impl FnOnce(&mut Self, K, &str),
    ) {
        for problem in shape::problems(object) {
            let fix = "kubectl explain tells the fields of each resource";
            self.fail("HW6003", format!("{name}: {problem}"), fix);
        }
        match serde_json::from_value(object.clone()) {
            Ok(object) => judge(self, object, name),
            Err(error) => {
                let fix = "kubectl explain tells what each field takes";
                self.fail("HW6003", format!("{name}: {error}"), fix);
            }
        }
    }

    fn mesh(&mut self, mesh: Mesh, name: &str) {
        if mesh.name_any() != api::MESH {
            let what = format!("{name}: nothing reads a Mesh of this name");
            self.fail("HW6003", what, "there is one Mesh, and it is called default");
        }
        let spec = &mesh.spec;
        let plain = spec.carriers().find(|backend| !backend.encrypts());
        if let Some(plain) = plain.filter(|_| !spec.permits_clear()) {
            let what = format!(
                "{name}: backend {plain} carries clear text and encryption is Required: agents \
                 would carry nothing"
            );
            let fix = "choose backend wireguard, or another encryption, if only in siteEncryption";
            self.fail("HW6004", what, fix);
        }
        self.sites(&spec.site_encryption, name);
        let pools: Vec<(&str, u8)> =
            spec.pools.iter().map(|p| (p.cidr.as_str(), p.node_prefix_length)).collect();
        let services = spec.service_cidrs.iter().map(String::as_str);
        let fix = "each pool is a range of its own, apart from Services and the nodes' network";
        let mut good = Vec::new();
        for (text, length) in &pools {
            match parse_prefix(text) {
                Ok(pool) if *length < pool.prefix_len() || *length > pool.max_prefix_len() => {
                    let what = format!("{name}: pool {pool} cannot be cut into /{length}");
                    self.fail("HW6005", what, fix);
                }
                Ok(pool) => good.push(pool),
                Err(error) => self.fail("HW6005", format!("{name}: pool {text}: {error}"), fix),
            }
        }
        let services: Vec<IpNet> = services.filter_map(|text| text.parse().ok()).collect();
        let ranges: Vec<IpNet> = good.iter().chain(&services).copied().collect();
        for (at, one) in good.iter().enumerate() {
            if let Some(other) = ranges[at + 1..].iter().find(|other| overlap(one, other)) {
                self.fail("HW6005", format!("{name}: {one} and {other} overlap"), fix);
            }
        }
    }

    fn sites(&mut self, all: &[SiteEncryption], name: &str) {
        for (at, of) in all.iter().enumerate() {
            let problem = match of.pair() {
                None => format!("names {} sites", of.sites.len()),
                Some(pair) if all[..at].iter().any(|other| other.pair() == Some(pair)) => {
                    format!("names {} and {} twice", pair[0], pair[1])
                }
                Some(_) => continue,
            };
            let what = format!("{name}: siteEncryption {problem}");
            self.fail("HW6004", what, "each entry is one site, or one pair of two, once");
        }
    }

    fn node(&mut self, node: MeshNode, name: &str) {
        self.owns(&node.spec.subnets, name);
        let status = node.status.unwrap_or_default();
        let (_, bad) = published::public_keys(&status.public_keys);
        let keys = bad.iter().map(ToString::to_string);
        let endpoints = status.endpoints.iter();
        let endpoints = endpoints.filter_map(|text| published::endpoint(text, &self.ranges).err());
        let problems: Vec<String> =
            keys.chain(endpoints.map(|problem| problem.to_string())).collect();
        for problem in problems {
            let fix = "its peers leave this out; its agent publishes it";
            self.fail("HW6007", format!("{name}: {problem}"), fix);
        }
    }

    fn peer(&mut self, peer: MeshPeer, name: &str) {
        self.owns(&peer.spec.addresses, name);
        if let Err(error) = keys::PublicKey::from_published(&peer.spec.public_key) {
            let what = format!("{name}: publicKey: {error}");
            self.fail("HW6007", what, "`wg pubkey` prints a key of 44 characters");
        }
    }

    fn claim(&mut self, claim: SubnetClaim, name: &str) {
        let subnet = parse_prefix(&claim.spec.subnet);
        let stands = subnet.as_ref().is_ok_and(|net| api::claim_name(net) == claim.name_any());
        if !stands {
            let what = format!("{name} does not stand for its subnet {}", claim.spec.subnet);
            self.fail("HW6008", what, "a claim is named after its subnet: 10-42-3-0-24");
        }
    }

    fn owns(&mut self, texts: &[String], name: &str) {
        for text in texts {
            match parse_prefix(text) {
                Ok(net) => self.prefixes.push((net, name.to_owned())),
                Err(error) => self.fail(
                    "HW6006",
                    format!("{name}: {text}: {error}"),
                    "write a prefix without host bits, such as 10.42.1.0/24",
                ),
            }
        }
    }

    /// What only all of them together can tell.
    fn together(&mut self) {
        let mut prefixes = std::mem::take(&mut self.prefixes);
        prefixes.sort();
        for pair in prefixes.windows(2) {
            let [(net, name), (other, others)] = pair else { continue };
            if name != others && overlap(net, other) {
                let what = format!("{net} of {name} and {other} of {others} overlap");
                self.fail("HW6006", what, "no address has two owners: the newcomer gets nothing");
            }
        }
    }

    /// What somebody has judged already.
    fn conditions(&mut self, object: &Value, name: &str) {
        for condition in object["status"]["conditions"].as_array().into_iter().flatten() {
            let Ok(condition) = serde_json::from_value::<Condition>(condition.clone()) else {
                continue;
            };
            let Condition { type_, status, reason, message, .. } = condition;
            let bad =
                if matches!(type_.as_str(), "Degraded" | "Stalled") { "True" } else { "False" };
            if status == bad {
                let what = format!("{name}: {type_} is {status}: {reason}: {message}");
                let fix = String::new();
                self.findings.push(Finding {
                    code: "HW6009",
                    verdict: Verdict::Warning,
                    what,
                    fix,
                });
            }
        }
    }

    fn fail(&mut self, code: &'static str, what: String, fix: &str) {
        let fix = fix.to_owned();
        self.findings.push(Finding { code, verdict: Verdict::Failed, what, fix });
    }
}

fn overlap(one: &IpNet, other: &IpNet) -> bool {
    one.contains(other) || other.contains(one)
}

#[cfg(test)]
mod tests;
