//! What the network between the nodes can read after a change, and whose packets those are.

use std::collections::{BTreeMap, BTreeSet};

use api::Encryption;

use super::{Carrying, Change};
use crate::text;

/// So many names are shown.
const SHOWN: usize = 8;

/// The pairs of nodes that one kind of encryption holds for.
struct Pairs<'a> {
    nodes: BTreeSet<&'a String>,
    count: usize,
}

impl Change {
    pub(super) fn exposure(&self) -> Vec<String> {
        let Carrying { backend, ref site_encryption, .. } = self.after;
        if self.after.plain().is_empty() {
            return vec![format!(
                "Nothing is in clear while the backend is {backend}, but the API takes plain ones then."
            )];
        }
        let mut lines = vec![
            "In clear, for whoever is on the network between them to read and to forge:".to_owned(),
        ];
        if self.after.has(Encryption::None) {
            lines.push(self.unencrypted());
        }
        if self.after.has(Encryption::Preferred) {
            lines.extend(self.preferred());
        }
        if !site_encryption.is_empty() && self.after.has(Encryption::Required) {
            let sealed = self.pairs(Encryption::Required);
            lines.extend((sealed.count > 0).then(|| format!("Sealed: {} pairs", sealed.count)));
        }
        lines
    }

    /// Sites that are spoken of and where no node stands: a mistyped name changes nothing.
    pub(super) fn nowhere(&self) -> Option<String> {
        let known: BTreeSet<&String> = self.sites.values().flatten().collect();
        let new = self.after.site_encryption.iter();
        let new = new.filter(|of| !self.before.site_encryption.contains(of));
        let named: BTreeSet<&String> = new.flat_map(|of| &of.sites).collect();
        let nowhere: Vec<_> = named.difference(&known).collect();
        (!nowhere.is_empty())
            .then(|| format!("No node stands in {} yet (MeshNode.spec.site).", text::list(nowhere)))
    }

    fn unencrypted(&self) -> String {
        let Carrying { backend, .. } = self.after;
        let Pairs { nodes, count } = self.pairs(Encryption::None);
        let when = if backend.encrypts() {
            format!(" where {backend} does not get through")
        } else {
            String::new()
        };
        format!(
            "  all packets of pods{when}, by {}, between {} ({count} pairs)",
            text::list(self.after.plain()),
            some(nodes)
        )
    }

    fn preferred(&self) -> Vec<String> {
        let Carrying { allow_downgrade, ref fallback, .. } = self.after;
        let Pairs { nodes, .. } = self.pairs(Encryption::Preferred);
        let of = |names: &'_ [String]| some(names.iter().filter(|name| nodes.contains(name)));
        let mut lines =
            vec![format!("  packets of pods to nodes that never had a key: {}", of(&self.keyless))];
        if allow_downgrade {
            lines.push(format!(
                "  and to nodes that had one and have it no more: {}",
                of(&self.lost)
            ));
            lines.push("  (whoever can take a node's key away then chooses clear text)".to_owned());
        }
        let plain = text::list(self.after.plain());
        lines.push(format!("  and what any node still sends by {plain} is taken"));
        if allow_downgrade && fallback.iter().any(|backend| !backend.encrypts()) {
            lines
                .push("  and all packets of pods where the tunnel does not get through".to_owned());
            lines.push("  (whoever can drop packets then chooses clear text)".to_owned());
        }
        let open = |name: &&String| allow_downgrade && self.lost.contains(name);
        let sealed = self.keyed.iter().filter(|name| nodes.contains(name) && !open(name));
        lines.push(format!("Sealed as before: {}", some(sealed)));
        lines
    }

    /// Counted by sites: a mesh has fewer of those than of nodes.
    fn pairs(&self, wanted: Encryption) -> Pairs<'_> {
        let mut sites: BTreeMap<Option<&str>, Vec<&String>> = BTreeMap::new();
        for (name, site) in &self.sites {
            sites.entry(site.as_deref()).or_default().push(name);
        }
        let mut found = Pairs { nodes: BTreeSet::new(), count: 0 };
        for (at, (a, of_a)) in sites.iter().enumerate() {
            for (b, of_b) in sites.iter().skip(at) {
                let own = a == b;
                let count =
                    if own { of_a.len() * (of_a.len() - 1) / 2 } else { of_a.len() * of_b.len() };
                if count > 0 && self.after.between(*a, *b) == wanted {
                    found.count += count;
                    found.nodes.extend(of_a.iter().chain(of_b));
                }
            }
        }
        found
    }
}

fn some<'a>(names: impl IntoIterator<Item = &'a String>) -> String {
    let names: Vec<&String> = names.into_iter().collect();
    let mut shown = text::list(names.iter().take(SHOWN));
    if names.len() > SHOWN {
        shown.push_str(&format!(" and {} more", names.len() - SHOWN));
    }
    shown
}
