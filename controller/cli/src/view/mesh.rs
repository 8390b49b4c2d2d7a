//! What a change of the Mesh's encryption and backend means, before it is made: what will be in
//! clear, and between whom.

mod exposure;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use api::{Backend, Encryption, Mesh, MeshNode, Relay, SiteEncryption, SiteGateways};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    args::{Fallback, MeshSet, ShapedPort, SiteMode},
    output::{Item, Output},
    text,
    view::{nodes::name_of, or},
};

/// What the Mesh says of how packets travel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Carrying {
    encryption: Encryption,
    site_encryption: Vec<SiteEncryption>,
    backend: Backend,
    fallback: Vec<Backend>,
    allow_downgrade: bool,
    vxlan_shaped_port: Option<u16>,
    relay: Relay,
    site_gateways: Vec<SiteGateways>,
}

/// From what is to what is wanted.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    before: Carrying,
    after: Carrying,
    /// Nodes that have, or ever had, a key.
    keyed: Vec<String>,
    /// Nodes that have none now, but had one.
    lost: Vec<String>,
    /// Nodes that never had one.
    keyless: Vec<String>,
    /// Where each node stands, if it is said.
    #[serde(skip)]
    sites: BTreeMap<String, Option<String>>,
    #[serde(skip)]
    identity: [Option<String>; 2],
}

impl Change {
    pub fn new(mesh: &Mesh, wanted: &MeshSet, nodes: &[MeshNode]) -> Self {
        let before = Carrying::of(mesh);
        let after = before.after(wanted);
        let live = || nodes.iter().filter(|node| !node.spec.revoked);
        let names = |which: &dyn Fn(&MeshNode) -> bool| {
            live().filter(|node| which(node)).map(|node| name_of(node).to_owned()).collect()
        };
        Self {
            before,
            after,
            keyed: names(&had_key),
            lost: names(&|node| had_key(node) && !has_key(node)),
            keyless: names(&|node| !had_key(node)),
            sites: live().map(|n| (name_of(n).to_owned(), n.spec.site.clone())).collect(),
            identity: [mesh.metadata.uid.clone(), mesh.metadata.resource_version.clone()],
        }
    }

    pub fn is_none(&self) -> bool {
        self.before == self.after
    }

    /// Why the API would refuse it.
    pub fn impossible(&self) -> Option<String> {
        let Carrying { backend, ref fallback, vxlan_shaped_port, .. } = self.after;
        let twice = |(at, one): (usize, &Backend)| *one == backend || fallback[..at].contains(one);
        if let Some((_, one)) = fallback.iter().enumerate().find(|(at, one)| twice((*at, one))) {
            return Some(format!("fallback repeats {one}, and each is named once"));
        }
        let plain = self.after.plain();
        if vxlan_shaped_port == Some(4789) && plain.contains(&Backend::Vxlan) {
            return Some("backend vxlan listens on 4789 itself: use port 8472".to_owned());
        }
        (!self.after.permits_clear() && !plain.is_empty()).then(|| {
            format!("backend {} sends in clear, which encryption Required forbids", plain[0])
        })
    }

    /// True if it opens a way into clear text that was closed until now.
    pub fn risks_plaintext(&self) -> bool {
        let Self { before, after, .. } = self;
        let plain = before.plain().is_empty() && !after.plain().is_empty();
        let downgrade = after.allow_downgrade && !before.allow_downgrade;
        self.steps().iter().any(|(from, to)| match to {
            Encryption::Required => false,
            Encryption::Preferred => to > from || plain || downgrade,
            Encryption::None => to > from || plain,
        })
    }

    /// What held and what will, of the mesh and of each pair of sites that either speaks of.
    fn steps(&self) -> Vec<(Encryption, Encryption)> {
        let Self { before, after, .. } = self;
        let told = before.site_encryption.iter().chain(&after.site_encryption);
        let pairs = told.filter_map(SiteEncryption::pair);
        let of =
            |[a, b]: [&str; 2]| (before.between(Some(a), Some(b)), after.between(Some(a), Some(b)));
        [(before.encryption, after.encryption)].into_iter().chain(pairs.map(of)).collect()
    }

    pub fn text(&self) -> String {
        let mut lines = vec![format!("Mesh default: {}", self.difference())];
        lines.extend(self.nowhere());
        if self.after.permits_clear() {
            lines.extend(self.exposure());
        }
        let skips = |(from, to): &(Encryption, Encryption)| rank(*from).abs_diff(rank(*to)) == 2;
        let plain = !(self.before.plain().is_empty() && self.after.plain().is_empty());
        if plain && self.steps().iter().any(skips) {
            lines.push(
                "By way of Preferred no packet is lost; in one step, those on their way are."
                    .to_owned(),
            );
        }
        lines.join("\n")
    }

    fn difference(&self) -> String {
        let Self { before, after, .. } = self;
        let word = |field, say: &dyn Fn(&Carrying) -> String| (field, say(before), say(after));
        let words = [
            word("encryption", &|one| one.encryption.to_string()),
            word("siteEncryption", &|one| of_sites(&one.site_encryption)),
            word("backend", &|one| one.backend.to_string()),
            word("fallback", &|one| text::list(&one.fallback)),
            word("allowDowngrade", &|one| one.allow_downgrade.to_string()),
            word("vxlanShapedPort", &|one| or(one.vxlan_shaped_port, text::NONE)),
            word("relay", &|one| format!("{:?}", one.relay)),
            word("siteGateways", &|one| of_gateways(&one.site_gateways)),
        ];
        let changed = words.into_iter().filter(|(_, from, to)| from != to);
        let changed = changed.map(|(field, from, to)| format!("{field} {from} -> {to}"));
        changed.collect::<Vec<_>>().join(", ")
    }

    /// With the version that this was judged by.
    pub fn patch(&self) -> Value {
        let [uid, version] = &self.identity;
        let Carrying {
            encryption,
            site_encryption,
            backend,
            fallback,
            allow_downgrade,
            vxlan_shaped_port,
            relay,
            site_gateways,
        } = &self.after;
        json!({
            "metadata": {"uid": uid, "resourceVersion": version},
            "spec": {
                "encryption": encryption,
                "siteEncryption": (!site_encryption.is_empty()).then_some(site_encryption),
                "backend": backend,
                "fallback": (!fallback.is_empty()).then_some(fallback),
                "allowDowngrade": allow_downgrade,
                "vxlanShapedPort": vxlan_shaped_port,
                "relay": relay,
                "siteGateways": (!site_gateways.is_empty()).then_some(site_gateways),
            },
        })
    }

    pub fn output(&self, verb: &str) -> Output {
        let text = format!("mesh/{} {verb}\n", api::MESH);
        Output::screen("MeshChange", text, Item::new(format!("mesh/{}", api::MESH), self))
    }
}

impl Carrying {
    fn of(mesh: &Mesh) -> Self {
        let spec = &mesh.spec;
        Self {
            encryption: spec.encryption,
            site_encryption: spec.site_encryption.clone(),
            backend: spec.backend,
            fallback: spec.fallback.clone(),
            allow_downgrade: spec.allow_downgrade,
            vxlan_shaped_port: spec.vxlan_shaped_port,
            relay: spec.relay,
            site_gateways: spec.site_gateways.clone(),
        }
    }

    fn after(&self, wanted: &MeshSet) -> Self {
        let mut after = self.clone();
        after.encryption = wanted.encryption.unwrap_or(self.encryption);
        after.backend = wanted.backend.unwrap_or(self.backend);
        if let Some(Fallback(list)) = &wanted.fallback {
            after.fallback.clone_from(list);
        }
        after.allow_downgrade = wanted.allow_downgrade.unwrap_or(self.allow_downgrade);
        if let Some(ShapedPort(port)) = wanted.vxlan_shaped_port {
            after.vxlan_shaped_port = port;
        }
        after.relay = wanted.relay.unwrap_or(self.relay);
        for gateways in &wanted.site_gateways {
            after.site_gateways.retain(|old| old.site != gateways.site);
            after
                .site_gateways
                .extend(Some(gateways).filter(|of| !of.gateways.is_empty()).cloned());
        }
        for SiteMode { sites, encryption } in &wanted.site_encryption {
            let new = SiteEncryption {
                sites: sites.clone(),
                encryption: encryption.unwrap_or(after.encryption),
            };
            let place = after.site_encryption.iter().position(|old| old.pair() == new.pair());
            match (place, encryption) {
                (Some(place), Some(to)) => after.site_encryption[place].encryption = *to,
                (Some(place), None) => drop(after.site_encryption.remove(place)),
                (None, Some(_)) => after.site_encryption.push(new),
                (None, None) => {}
            }
        }
        after
    }

    /// Those that may carry, and do so in clear.
    fn plain(&self) -> Vec<Backend> {
        let all = [self.backend].into_iter().chain(self.fallback.iter().copied());
        all.filter(|backend| !backend.encrypts()).collect()
    }

    fn between(&self, a: Option<&str>, b: Option<&str>) -> Encryption {
        api::encryption_between(self.encryption, &self.site_encryption, (a, b))
    }

    /// True if this holds for some pair, or may.
    fn has(&self, encryption: Encryption) -> bool {
        let of_sites = self.site_encryption.iter().map(|of| of.encryption);
        of_sites.chain([self.encryption]).any(|one| one == encryption)
    }

    fn permits_clear(&self) -> bool {
        self.has(Encryption::Preferred) || self.has(Encryption::None)
    }
}

/// Such as `None within aws, Required between aws and onprem`.
pub(super) fn of_sites(all: &[SiteEncryption]) -> String {
    let said: Vec<_> = all.iter().map(|of| text::printable(&of.to_string())).collect();
    if said.is_empty() { text::NONE.to_owned() } else { said.join(", ") }
}

/// Such as `edge by edge-1, edge-2; aws by aws-1`.
fn of_gateways(all: &[SiteGateways]) -> String {
    let of = |of: &SiteGateways| {
        let nodes: Vec<_> = of.gateways.iter().map(|node| text::printable(node)).collect();
        format!("{} by {}", text::printable(&of.site), nodes.join(", "))
    };
    let said: Vec<_> = all.iter().map(of).collect();
    if said.is_empty() { text::NONE.to_owned() } else { said.join("; ") }
}

/// How much may be in clear.
fn rank(encryption: Encryption) -> u8 {
    match encryption {
        Encryption::Required => 0,
        Encryption::Preferred => 1,
        Encryption::None => 2,
    }
}

fn has_key(node: &MeshNode) -> bool {
    node.status.as_ref().is_some_and(|status| !status.public_keys.is_empty())
}

fn had_key(node: &MeshNode) -> bool {
    let newest = node.status.as_ref().and_then(|status| status.newest_epoch);
    has_key(node) || newest.is_some() || !node.spec.epochs.is_empty()
}
