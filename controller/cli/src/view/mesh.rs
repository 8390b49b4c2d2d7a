//! What a change of the Mesh's encryption and backend means, before it is made: what will be in
//! clear, and between whom.

use api::{Backend, Encryption, Mesh, MeshNode};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    args::{Fallback, MeshSet},
    output::{Item, Output},
    text,
    view::nodes::name_of,
};

/// So many names are shown.
const SHOWN: usize = 8;

/// What the Mesh says of how packets travel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Carrying {
    encryption: Encryption,
    backend: Backend,
    fallback: Vec<Backend>,
    allow_downgrade: bool,
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
    #[serde(skip)]
    identity: [Option<String>; 2],
}

impl Change {
    pub fn new(mesh: &Mesh, wanted: &MeshSet, nodes: &[MeshNode]) -> Self {
        let before = Carrying {
            encryption: mesh.spec.encryption,
            backend: mesh.spec.backend,
            fallback: mesh.spec.fallback.clone(),
            allow_downgrade: mesh.spec.allow_downgrade,
        };
        let after = Carrying {
            encryption: wanted.encryption.unwrap_or(before.encryption),
            backend: wanted.backend.unwrap_or(before.backend),
            fallback: match &wanted.fallback {
                Some(Fallback(list)) => list.clone(),
                None => before.fallback.clone(),
            },
            allow_downgrade: wanted.allow_downgrade.unwrap_or(before.allow_downgrade),
        };
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
            identity: [mesh.metadata.uid.clone(), mesh.metadata.resource_version.clone()],
        }
    }

    pub fn is_none(&self) -> bool {
        self.before == self.after
    }

    /// Why the API would refuse it.
    pub fn impossible(&self) -> Option<String> {
        let Carrying { encryption, backend, ref fallback, .. } = self.after;
        let twice = |(at, one): (usize, &Backend)| *one == backend || fallback[..at].contains(one);
        if let Some((_, one)) = fallback.iter().enumerate().find(|(at, one)| twice((*at, one))) {
            return Some(format!("fallback repeats {one}, and each is named once"));
        }
        let plain = self.after.plain();
        (encryption == Encryption::Required && !plain.is_empty()).then(|| {
            format!("backend {} sends in clear, which encryption Required forbids", plain[0])
        })
    }

    /// True if it opens a way into clear text that was closed until now.
    pub fn risks_plaintext(&self) -> bool {
        let Self { before, after, .. } = self;
        if after.encryption == Encryption::Required {
            return false;
        }
        let looser = rank(after.encryption) > rank(before.encryption);
        let plain = before.plain().is_empty() && !after.plain().is_empty();
        let downgrade = after.allow_downgrade && !before.allow_downgrade;
        looser || plain || (downgrade && after.encryption == Encryption::Preferred)
    }

    pub fn text(&self) -> String {
        let mut lines = vec![format!("Mesh default: {}", self.difference())];
        if self.after.encryption != Encryption::Required {
            lines.extend(self.exposure());
        }
        let skips = rank(self.after.encryption).abs_diff(rank(self.before.encryption)) == 2;
        if skips && !(self.before.plain().is_empty() && self.after.plain().is_empty()) {
            lines.push(
                "By way of Preferred no packet is lost; in one step, those on their way are."
                    .to_owned(),
            );
        }
        lines.join("\n")
    }

    fn difference(&self) -> String {
        let Self { before, after, .. } = self;
        let words = [
            ("encryption", before.encryption.to_string(), after.encryption.to_string()),
            ("backend", before.backend.to_string(), after.backend.to_string()),
            ("fallback", text::list(&before.fallback), text::list(&after.fallback)),
            (
                "allowDowngrade",
                before.allow_downgrade.to_string(),
                after.allow_downgrade.to_string(),
            ),
        ];
        let changed = words.into_iter().filter(|(_, from, to)| from != to);
        let changed = changed.map(|(field, from, to)| format!("{field} {from} -> {to}"));
        changed.collect::<Vec<_>>().join(", ")
    }

    /// What the network between the nodes can read from then on.
    fn exposure(&self) -> Vec<String> {
        let Carrying { encryption, backend, allow_downgrade, .. } = self.after;
        let plain = self.after.plain();
        if plain.is_empty() {
            return vec![format!(
                "Nothing is in clear while the backend is {backend}, but the API takes plain ones then."
            )];
        }
        let mut lines = vec![
            "In clear, for whoever is on the network between them to read and to forge:".to_owned(),
        ];
        let all: Vec<&String> = self.keyed.iter().chain(&self.keyless).collect();
        if encryption == Encryption::None {
            let pairs = all.len() * all.len().saturating_sub(1) / 2;
            let when = if backend.encrypts() {
                format!(" where {backend} does not get through")
            } else {
                String::new()
            };
            lines.push(format!(
                "  all packets of pods{when}, by {}, between {} ({pairs} pairs)",
                text::list(&plain),
                some(&all)
            ));
            return lines;
        }
        let keyless: Vec<&String> = self.keyless.iter().collect();
        lines.push(format!("  packets of pods to nodes that never had a key: {}", some(&keyless)));
        if allow_downgrade {
            let lost: Vec<&String> = self.lost.iter().collect();
            lines.push(format!("  and to nodes that had one and have it no more: {}", some(&lost)));
            lines.push("  (whoever can take a node's key away then chooses clear text)".to_owned());
        }
        lines.push(format!("  and what any node still sends by {} is taken", text::list(&plain)));
        let by_fallback = self.after.fallback.iter().any(|backend| !backend.encrypts());
        if allow_downgrade && by_fallback {
            lines
                .push("  and all packets of pods where the tunnel does not get through".to_owned());
            lines.push("  (whoever can drop packets then chooses clear text)".to_owned());
        }
        lines.push(format!("Sealed as before: {}", some(&self.sealed())));
        lines
    }

    fn sealed(&self) -> Vec<&String> {
        let open = |name: &&String| self.after.allow_downgrade && self.lost.contains(name);
        self.keyed.iter().filter(|name| !open(name)).collect()
    }

    /// With the version that this was judged by.
    pub fn patch(&self) -> Value {
        let [uid, version] = &self.identity;
        let Carrying { encryption, backend, ref fallback, allow_downgrade } = self.after;
        let fallback = (!fallback.is_empty()).then_some(fallback);
        json!({
            "metadata": {"uid": uid, "resourceVersion": version},
            "spec": {
                "encryption": encryption,
                "backend": backend,
                "fallback": fallback,
                "allowDowngrade": allow_downgrade,
            },
        })
    }

    pub fn output(&self, verb: &str) -> Output {
        let text = format!("mesh/{} {verb}\n", api::MESH);
        Output::screen("MeshChange", text, Item::new(format!("mesh/{}", api::MESH), self))
    }
}

impl Carrying {
    /// Those that may carry, and do so in clear.
    fn plain(&self) -> Vec<Backend> {
        let all = [self.backend].into_iter().chain(self.fallback.iter().copied());
        all.filter(|backend| !backend.encrypts()).collect()
    }
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

fn some(names: &[&String]) -> String {
    let mut shown = text::list(names.iter().take(SHOWN));
    if names.len() > SHOWN {
        shown.push_str(&format!(" and {} more", names.len() - SHOWN));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    fn change(
        (before, carried): (Encryption, Backend),
        encryption: Option<Encryption>,
        backend: Option<Backend>,
        allow_downgrade: Option<bool>,
    ) -> Change {
        let mut mesh = fixture::mesh();
        (mesh.spec.encryption, mesh.spec.backend) = (before, carried);
        let fallback = None;
        let wanted = MeshSet { encryption, backend, fallback, allow_downgrade, accept_risk: None };
        Change::new(&mesh, &wanted, &fixture::nodes())
    }

    #[test]
    fn whatever_opens_a_way_into_clear_text_needs_consent_and_the_way_back_does_not() {
        use Backend::{Direct, Vxlan, Wireguard};
        use Encryption::{None as Plain, Preferred, Required};
        for (before, encryption, backend, downgrade, asks) in [
            ((Required, Wireguard), Some(Preferred), None, None, true),
            ((Required, Wireguard), Some(Plain), None, None, true),
            ((Required, Wireguard), Some(Plain), Some(Vxlan), None, true),
            ((Preferred, Vxlan), Some(Plain), None, None, true),
            ((Preferred, Wireguard), None, Some(Vxlan), None, true),
            ((Plain, Wireguard), None, Some(Direct), None, true),
            ((Preferred, Vxlan), None, None, Some(true), true),
            ((Preferred, Vxlan), None, None, Some(false), false),
            ((Plain, Vxlan), None, Some(Direct), None, false),
            ((Plain, Vxlan), Some(Preferred), None, None, false),
            ((Preferred, Vxlan), Some(Required), Some(Wireguard), None, false),
            ((Required, Wireguard), None, None, Some(true), false),
        ] {
            let change = change(before, encryption, backend, downgrade);

            assert_eq!(change.risks_plaintext(), asks, "{before:?} {}", change.difference());
            assert_eq!(change.impossible(), None);
        }
    }

    #[test]
    fn a_plain_backend_with_required_is_refused_before_anybody_is_asked() {
        let refused =
            |before, encryption, backend| change(before, encryption, backend, None).impossible();

        let required = (Encryption::Required, Backend::Wireguard);
        assert!(refused(required, None, Some(Backend::Vxlan)).unwrap().contains("in clear"));
        let plain = (Encryption::None, Backend::Udp);
        assert!(refused(plain, Some(Encryption::Required), None).is_some());
        assert_eq!(refused(plain, Some(Encryption::Required), Some(Backend::Wireguard)), None);
    }

    #[test]
    fn a_plain_fallback_opens_a_way_into_clear_text_like_a_plain_backend() {
        use Backend::{Udp, Vxlan, Wireguard};
        let change = |encryption, list: &[Backend]| {
            let mut mesh = fixture::mesh();
            (mesh.spec.encryption, mesh.spec.backend) = (encryption, Wireguard);
            let wanted = MeshSet {
                encryption: None,
                backend: None,
                fallback: Some(Fallback(list.to_vec())),
                allow_downgrade: None,
                accept_risk: None,
            };
            Change::new(&mesh, &wanted, &fixture::nodes())
        };

        let plain = change(Encryption::None, &[Udp, Vxlan]);
        assert!(plain.risks_plaintext());
        insta::assert_snapshot!(plain.text(), @r"
        Mesh default: fallback <none> -> udp,vxlan
        In clear, for whoever is on the network between them to read and to forge:
          all packets of pods where wireguard does not get through, by udp,vxlan, between node-1,node-2,node-3 (3 pairs)
        ");
        let refused = |list: &[Backend]| change(Encryption::Required, list).impossible();
        assert!(refused(&[Udp]).unwrap().contains("in clear"));
        assert!(refused(&[Wireguard]).unwrap().contains("repeats wireguard"));
        assert_eq!(refused(&[]), None);
    }

    #[test]
    fn it_says_what_will_be_in_clear_between_whom() {
        let required = (Encryption::Required, Backend::Wireguard);

        let none = change(required, Some(Encryption::None), Some(Backend::Vxlan), None);
        insta::assert_snapshot!(none.text(), @r"
        Mesh default: encryption Required -> None, backend wireguard -> vxlan
        In clear, for whoever is on the network between them to read and to forge:
          all packets of pods, by vxlan, between node-1,node-2,node-3 (3 pairs)
        By way of Preferred no packet is lost; in one step, those on their way are.
        ");

        let preferred =
            change(required, Some(Encryption::Preferred), Some(Backend::Vxlan), Some(true));
        insta::assert_snapshot!(preferred.text(), @r"
        Mesh default: encryption Required -> Preferred, backend wireguard -> vxlan, allowDowngrade false -> true
        In clear, for whoever is on the network between them to read and to forge:
          packets of pods to nodes that never had a key: node-3
          and to nodes that had one and have it no more: <none>
          (whoever can take a node's key away then chooses clear text)
          and what any node still sends by vxlan is taken
        Sealed as before: node-1,node-2
        ");

        let sealed = change(required, Some(Encryption::Preferred), None, None);
        insta::assert_snapshot!(sealed.text(), @r"
        Mesh default: encryption Required -> Preferred
        Nothing is in clear while the backend is wireguard, but the API takes plain ones then.
        ");
    }
}
