//! The Mesh's status: nodes, key epoch, how full the pools are, and what is wrong.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::{
    Encryption, Mesh, MeshStatus, PoolUsage, Topology,
    conditions::{self, REMOVED},
};
use ipnet::IpNet;
use serde_json::{Value, json};

use super::{Change, Conditions, Judged, NodeReport, Sight, Truth};
use crate::allocate::{NodeVerdict, Pool, PoolProblem, State};
use crate::reconcile::read;

/// JSON numbers are exact up to here.
const EXACT: u64 = 1 << 53;
/// As many as the schema takes.
const REVOKED: usize = 10_000;
/// Names in a message; more are counted.
const NAMED: usize = 3;

impl Sight<'_> {
    pub(in crate::reconcile) fn mesh(&self, nodes: &[NodeReport]) -> Option<Change<Mesh>> {
        let mesh = self.seen.mesh.as_ref()?;
        let before = mesh.status.clone().unwrap_or_default();
        let generation = mesh.metadata.generation;
        let mut conditions = Conditions::new(before.conditions.clone(), generation, self.now);
        conditions.tell("Degraded", &self.degraded(mesh), Truth::False);
        conditions.set("Encrypted", &encrypted(mesh));
        conditions.set("Ready", &self.ready(mesh));

        let ready = nodes.iter().filter(|node| node.ready).count();
        let status = MeshStatus {
            observed_generation: generation,
            nodes: Some(format!("{ready}/{}", nodes.len())),
            key_epoch: self.epoch(),
            newest_epoch: before.newest_epoch,
            rotation: before.rotation.clone(),
            next_rotation: before.next_rotation.clone(),
            revoked_keys: self.revoked_keys(&before),
            gateway: before.gateway.clone(),
            restored: read::unsettled(mesh).cloned(),
            pools: self.usage(),
            conditions: conditions.list,
        };
        (status != before).then(|| Change {
            object: Arc::clone(mesh),
            status: as_patch(&status),
            notices: conditions.notices,
        })
    }

    /// How full each usable pool is.
    pub(in crate::reconcile) fn usage(&self) -> Vec<PoolUsage> {
        self.view.pools.iter().map(|pool| self.usage_of(pool)).collect()
    }

    fn usage_of(&self, pool: &Pool) -> PoolUsage {
        let (mut bound, mut resting) = (0, 0);
        for claim in &self.view.claims {
            if !pool.has_block(&claim.subnet) {
                continue;
            }
            match claim.state {
                State::Bound(_) => bound += 1,
                State::Resting => resting += 1,
                State::Rested | State::Reserved => {}
            }
        }
        PoolUsage { cidr: pool.cidr.to_string(), total: pool.blocks().min(EXACT), bound, resting }
    }

    /// The epoch of all nodes, if it is one.
    fn epoch(&self) -> Option<u32> {
        let epochs: BTreeSet<u32> = self.seen.nodes.iter().map(|n| n.spec.key_epoch).collect();
        let mut epochs = epochs.into_iter();
        epochs.next().filter(|_| epochs.next().is_none())
    }

    /// Keys that stay refused, also when their node is gone.
    fn revoked_keys(&self, before: &MeshStatus) -> Vec<String> {
        let revoked = self.seen.nodes.iter().filter(|node| node.spec.revoked);
        let keys = revoked.filter_map(|node| node.status.as_ref()).flat_map(|s| &s.public_keys);
        let keys = keys.map(|key| key.public_key.clone()).chain(before.revoked_keys.clone());
        let keys: BTreeSet<String> = keys.filter(|key| key.len() == 44).collect();
        keys.into_iter().take(REVOKED).collect()
    }

    fn ready(&self, mesh: &Mesh) -> Judged {
        if mesh.spec.removing {
            return Judged::bad("Removing", self.removal());
        }
        if self.view.pools.is_empty() {
            return Judged::bad("NoUsablePool", "no pool can be used; see Degraded");
        }
        match refused_backend(mesh) {
            Some(why) => Judged::bad("BackendRefused", why),
            None => Judged::good("MeshReady", ""),
        }
    }

    fn removal(&self) -> String {
        let status = self.seen.nodes.iter().filter_map(|node| node.status.as_ref());
        let out = status.filter(|status| conditions::holds(&status.conditions, REMOVED)).count();
        format!("{out} of {} nodes are out of the mesh", self.seen.nodes.len())
    }

    /// Everything that somebody should look at, the gravest first.
    fn degraded(&self, mesh: &Mesh) -> Judged {
        let mut problems: Vec<(&'static str, String)> = Vec::new();
        if self.view.paused {
            problems.push(("Restored", restored(mesh)));
        }
        problems.extend(refused_backend(mesh).map(|why| ("BackendRefused", why)));
        problems.extend(self.strangers(mesh).map(|why| ("GatewayElsewhere", why)));
        let refused = self.pools.problems.iter();
        problems.extend(refused.map(|problem| (reason(problem), problem.to_string())));
        problems.extend(self.unserved());
        if !self.plan.outside.is_empty() {
            problems.push(("SubnetsOutsidePools", outside(&self.plan.outside)));
        }
        match problems.first() {
            None => Judged::bad("Healthy", "nothing is wrong with the pools"),
            Some((reason, _)) => {
                let texts: Vec<&str> = problems.iter().map(|(_, text)| text.as_str()).collect();
                Judged::good(reason, texts.join("; "))
            }
        }
    }

    /// Gateways that are not of the site that they are named for.
    fn strangers(&self, mesh: &Mesh) -> Option<String> {
        let site = |name: &str| {
            self.seen
                .nodes
                .iter()
                .find(|node| node.metadata.name.as_deref() == Some(name))?
                .spec
                .site
                .clone()
        };
        let strangers = Topology::strangers(&mesh.spec.site_gateways, site);
        let texts: Vec<String> =
            strangers.iter().map(|(node, site)| format!("{node} (of {site})")).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let text = format!(
            "siteGateways names nodes that are not of the site, and are passed over: {}; check \
             spec.site of the nodes",
            named(&texts)
        );
        (!texts.is_empty()).then_some(text)
    }

    /// Nodes that wait for a subnet in vain.
    fn unserved(&self) -> Option<(&'static str, String)> {
        let mut reason = None;
        let mut names = Vec::new();
        for (name, verdict) in &self.plan.verdicts {
            let why = match verdict {
                NodeVerdict::Exhausted { .. } => "PoolExhausted",
                NodeVerdict::PoolCoversNode { .. } => "PoolCoversNode",
                NodeVerdict::NoSuchPool(_) => "NoSuchPool",
                NodeVerdict::Cluster(why) => super::node::assignment_reason(why),
                NodeVerdict::Allocated
                | NodeVerdict::Pending
                | NodeVerdict::NoPools
                | NodeVerdict::Paused
                | NodeVerdict::Returning(_)
                | NodeVerdict::Revoked => continue,
            };
            reason.get_or_insert(why);
            names.push(name.as_ref());
        }
        let text = format!("nodes that cannot get all their subnets: {}", named(&names));
        Some((reason?, text))
    }
}

fn reason(problem: &PoolProblem) -> &'static str {
    match problem {
        PoolProblem::Overlap { .. } => "PoolsOverlap",
        PoolProblem::CoversServices { .. } => "PoolCoversServices",
        PoolProblem::Malformed(_)
        | PoolProblem::HostBits { .. }
        | PoolProblem::Everything(_)
        | PoolProblem::NotUnicast(_)
        | PoolProblem::NodePrefix { .. }
        | PoolProblem::MalformedServices(_) => "PoolRefused",
    }
}

fn refused_backend(mesh: &Mesh) -> Option<String> {
    let backend = mesh.spec.carriers().find(|backend| !backend.encrypts());
    backend.filter(|_| !mesh.spec.permits_clear()).map(|backend| {
        format!(
            "backend {backend} carries clear text and encryption is Required, so agents carry \
             nothing; choose backend wireguard, or encryption None if clear text is meant, or name \
             in siteEncryption between which sites it is"
        )
    })
}

/// By the loosest of what the mesh says and what it says of sites: it holds for all pairs, or not.
fn encrypted(mesh: &Mesh) -> Judged {
    let sites = mesh.spec.site_encryption.iter();
    let loosest = sites.filter(|of| of.encryption > mesh.spec.encryption);
    let loosest = loosest.max_by_key(|of| of.encryption);
    let Some(of) = loosest else {
        return encrypted_by(mesh, mesh.spec.encryption);
    };
    let judged = encrypted_by(mesh, of.encryption);
    let more = format!("{}; {of}", judged.message);
    Judged { message: more, ..judged }
}

fn encrypted_by(mesh: &Mesh, encryption: Encryption) -> Judged {
    let plain = mesh.spec.carriers().find(|backend| !backend.encrypts());
    match encryption {
        Encryption::Required => Judged::good("Required", "nothing leaves in clear"),
        Encryption::Preferred if mesh.spec.allow_downgrade && plain.is_some() => Judged::bad(
            "DowngradeAllowed",
            "in clear with nodes that have no key, also with those that had one (allowDowngrade)",
        ),
        Encryption::Preferred => {
            Judged::good("Preferred", "in clear only with nodes that never had a key")
        }
        Encryption::None => match plain {
            None => {
                let backend = mesh.spec.backend;
                Judged::good("ByBackend", format!("backend {backend} encrypts; nothing demands it"))
            }
            Some(backend) => {
                Judged::bad("ClearText", format!("backend {backend} carries clear text"))
            }
        },
    }
}

fn restored(mesh: &Mesh) -> String {
    let settle = match read::unsettled(mesh) {
        Some(since) => format!("--overwrite {}={since}", read::SETTLED),
        None => format!("{}-", embedded::RESTORED_AT),
    };
    format!(
        "restored from a backup that may be older than some claims: nothing new is given out. \
         When all agents have reported, run: kubectl annotate mesh default {settle}"
    )
}

fn outside(subnets: &[IpNet]) -> String {
    let texts: Vec<String> = subnets.iter().take(NAMED + 1).map(IpNet::to_string).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let shown = if subnets.len() > NAMED {
        format!("{} and {} more", texts[..NAMED].join(", "), subnets.len() - NAMED)
    } else {
        texts.join(", ")
    };
    format!("subnets that no pool would give out now stay with their nodes: {shown}")
}

fn named(names: &[&str]) -> String {
    if names.len() > NAMED {
        let more = names.len() - NAMED;
        return format!("{} and {more} more", names[..NAMED].join(", "));
    }
    names.join(", ")
}

/// A merge patch leaves out what is unset, so that has to be said.
fn as_patch(status: &MeshStatus) -> Value {
    let mut patch = json!(status);
    if status.key_epoch.is_none() {
        patch["keyEpoch"] = Value::Null;
    }
    if status.restored.is_none() {
        patch["restored"] = Value::Null;
    }
    patch["pools"] = json!(status.pools);
    patch
}

#[cfg(test)]
mod tests {
    use api::{Backend, MeshSpec, SiteEncryption};

    use super::*;

    fn judged(encryption: Encryption, backend: Backend, within: &[Encryption]) -> (bool, String) {
        let of = |encryption: &Encryption| SiteEncryption {
            sites: vec!["aws".to_owned()],
            encryption: *encryption,
        };
        let site_encryption = within.iter().map(of).collect();
        let spec = MeshSpec { encryption, backend, site_encryption, ..MeshSpec::default() };
        let judged = encrypted(&Mesh::new(api::MESH, spec));
        (judged.status == Truth::True, judged.message)
    }

    #[test]
    fn a_mesh_is_encrypted_only_if_no_pair_of_sites_is_in_clear() {
        use Encryption::{None as Plain, Preferred, Required};
        for (encryption, backend, within, holds) in [
            (Required, Backend::Wireguard, &[][..], true),
            (Required, Backend::Wireguard, &[Plain], true),
            (Required, Backend::Direct, &[Plain], false),
            (Required, Backend::Direct, &[Preferred], true),
            (Preferred, Backend::Direct, &[Plain], false),
            (Plain, Backend::Direct, &[Required], false),
            (Plain, Backend::Wireguard, &[Required], true),
        ] {
            let (is, message) = judged(encryption, backend, within);

            assert_eq!(is, holds, "{encryption} {backend} {within:?}: {message}");
        }
        assert!(judged(Required, Backend::Direct, &[Plain]).1.contains("None within aws"));
    }
}
