//! A node's conditions: SubnetAllocated, Admitted, and Ready over them and the agent's own.

use std::sync::Arc;

use api::announced::NotRouted;
use api::{Condition, MeshNode, conditions};
use kube::ResourceExt;
use serde_json::json;

use super::{Change, Conditions, Judged, Sight, Truth};
use crate::admit::Fault;
use crate::allocate::{Assignment, Family, NodeVerdict, Pool};

/// The controller accepts what the node publishes.
pub(in crate::reconcile) const ADMITTED: &str = "Admitted";
const ALLOCATED: &str = "SubnetAllocated";
const READY: &str = "Ready";
/// What lies behind it is carried; for those that announce something, or did.
const ROUTED: &str = "PrefixesRouted";
/// What the agent says of itself; a `False` makes the node unready.
const AGENTS_OWN: [&str; 3] = ["TunnelsUp", "KeyCurrent", "EndpointReachable"];

/// One node, judged.
pub(in crate::reconcile) struct NodeReport {
    pub(in crate::reconcile) ready: bool,
    pub(in crate::reconcile) change: Option<Change<MeshNode>>,
}

impl Sight<'_> {
    pub(in crate::reconcile) fn nodes(&self) -> Vec<NodeReport> {
        self.seen.nodes.iter().map(|node| self.node(node)).collect()
    }

    fn node(&self, node: &Arc<MeshNode>) -> NodeReport {
        let status = node.status.clone().unwrap_or_default();
        let silent = status.public_keys.is_empty();
        let before = status.conditions.clone();
        let mut conditions = Conditions::new(status.conditions, node.metadata.generation, self.now);

        let allocated = self.allocated(node);
        let admitted = admitted(self.faults.get(&node.name_any()), silent);
        let ready = ready(node, silent, [&allocated, &admitted], &conditions.list);
        conditions.tell(ALLOCATED, &allocated, Truth::True);
        conditions.tell(ADMITTED, &admitted, Truth::True);
        conditions.set(READY, &ready);
        if let Some(routed) = self.routed(node, &conditions.list) {
            conditions.tell(ROUTED, &routed, Truth::True);
        }

        NodeReport {
            ready: ready.status == Truth::True,
            change: (conditions.changed && self.is_news(&before, &conditions.list)).then(|| {
                Change {
                    object: Arc::clone(node),
                    status: json!({"conditions": conditions.list}),
                    notices: conditions.notices,
                }
            }),
        }
    }

    /// A rotation changes each spec several times. That this was looked at is written once, when the
    /// rotation is over: each write is news to every agent.
    fn is_news(&self, before: &[Condition], after: &[Condition]) -> bool {
        let status = self.seen.mesh.as_ref().and_then(|mesh| mesh.status.as_ref());
        let rotates = status.is_some_and(|status| status.rotation.is_some());
        !rotates || !conditions::same_but_observed(before, after)
    }

    fn allocated(&self, node: &MeshNode) -> Judged {
        let Some(verdict) = self.plan.verdicts.get(node.name_any().as_str()) else {
            return Judged::unknown("Pending", "not looked at yet");
        };
        match verdict {
            NodeVerdict::Allocated => Judged::good("SubnetAllocated", node.spec.subnets.join(", ")),
            NodeVerdict::Pending => Judged::unknown("Pending", "its claims are being written"),
            NodeVerdict::Exhausted { family, resting } => {
                Judged::bad("PoolExhausted", self.exhausted(node, (*family, *resting)))
            }
            NodeVerdict::PoolCoversNode { pool, address } => Judged::bad(
                "PoolCoversNode",
                format!(
                    "pool {pool} covers this node's own address {address}: choose another pool \
                     for the mesh, or another address for the node's endpoint"
                ),
            ),
            NodeVerdict::NoPools if self.seen.mesh.is_none() => Judged::bad(
                "NoMesh",
                "there is no Mesh named default; create one with the pools to use",
            ),
            NodeVerdict::NoPools => Judged::bad(
                "NoUsablePool",
                "no pool of Mesh default can be used; its condition Degraded says why",
            ),
            NodeVerdict::NoSuchPool(name) => Judged::bad(
                "NoSuchPool",
                format!(
                    "no pool of Mesh default that can be used is named {name}, as spec.pool says: add \
                     one, or change spec.pool"
                ),
            ),
            NodeVerdict::Paused => Judged::bad(
                "Restored",
                "nothing new is given out after the restore; Mesh default says how to go on",
            ),
            NodeVerdict::Returning(subnet) => Judged::unknown(
                "Returning",
                format!("it had {subnet} before it was made again; its agent's key will tell"),
            ),
            NodeVerdict::Revoked => Judged::bad("Revoked", "a revoked node gets no new subnet"),
            NodeVerdict::Cluster(why) => assigned(why),
        }
    }

    /// None for a node that never announced anything.
    fn routed(&self, node: &MeshNode, standing: &[Condition]) -> Option<Judged> {
        let name = node.name_any();
        let Some(verdict) = self.announced.get(&name) else {
            let before = conditions::get(standing, ROUTED);
            return before.map(|_| Judged::good("NothingAnnounced", "spec.prefixes is empty"));
        };
        let refused: Vec<String> = verdict.refused.iter().map(ToString::to_string).collect();
        if refused.is_empty() {
            return Some(Judged::good("PrefixesRouted", node.spec.prefixes.join(", ")));
        }
        let told = format!(
            "not routed to {name}: {}; change spec.prefixes: kubectl edit meshnode {name}",
            refused.join("; ")
        );
        Some(Judged::bad(refusal_reason(&verdict.refused[0]), told))
    }

    fn exhausted(&self, node: &MeshNode, (family, resting): (Family, bool)) -> String {
        let name = node.spec.pool.as_deref();
        let its = |pool: &&Pool| {
            pool.family() == family && self.view.names.get(&pool.cidr).map(|name| &**name) == name
        };
        let pools: Vec<String> = self.view.pools.iter().filter(its).map(describe).collect();
        let named = name.map(|name| format!(" named {name}")).unwrap_or_default();
        let hope =
            if resting { "; released ones are at rest and come free by themselves" } else { "" };
        format!(
            "no {family} subnet is free in {}{hope}; add a pool{named} to Mesh default",
            pools.join(", ")
        )
    }
}

fn refusal_reason(why: &NotRouted) -> &'static str {
    match why {
        NotRouted::Overlap { .. } | NotRouted::OwnEndpoint(_) => "PrefixOverlap",
        NotRouted::Malformed(_) | NotRouted::Everything(_) | NotRouted::NotUnicast(_) => {
            "PrefixRefused"
        }
    }
}

/// One CamelCase word for conditions.
pub(super) fn assignment_reason(why: &Assignment) -> &'static str {
    match why {
        Assignment::Missing => "NoPodCIDR",
        Assignment::Outside(_) => "PodCIDROutsidePools",
        Assignment::Taken { .. } => "PodCIDRTaken",
        Assignment::Other { .. } => "PodCIDRDiffers",
        Assignment::PoolsAssigned(_) => "PoolsAssigned",
    }
}

/// What stands between a node and the podCIDRs of its Node (`ipam: Kubernetes`).
fn assigned(why: &Assignment) -> Judged {
    let text = match why {
        Assignment::Missing => {
            "its Node has no podCIDR: does kube-controller-manager run with --allocate-node-cidrs \
             and --cluster-cidr? Else write ipam: Mesh"
                .to_owned()
        }
        Assignment::Outside(subnet) => {
            format!(
                "podCIDR {subnet} of its Node is no block of a pool of Mesh default: name the \
                 cluster's --cluster-cidr as pool, with its --node-cidr-mask-size as \
                 nodePrefixLength"
            )
        }
        Assignment::Taken { subnet, resting: true } => {
            format!("{subnet} was another node's a short while ago; it comes free by itself")
        }
        Assignment::Taken { subnet, resting: false } => {
            format!(
                "podCIDR {subnet} of its Node is claimed by somebody else: look at \
                 kubectl get hwsc, and release what is not in use"
            )
        }
        Assignment::Other { subnet, assigned } => {
            format!(
                "it has {subnet}, and podCIDR {assigned} of its Node says otherwise: drain the \
                 Node, delete it and let it come back"
            )
        }
        Assignment::PoolsAssigned(family) => {
            format!(
                "every {family} pool holds podCIDRs of the cluster's Nodes: add one to Mesh \
                 default for machines outside of the cluster"
            )
        }
    };
    Judged::bad(assignment_reason(why), text)
}

fn describe(pool: &Pool) -> String {
    format!("{} ({} of /{})", pool.cidr, pool.blocks(), pool.node_prefix)
}

fn admitted(faults: Option<&Vec<Fault>>, silent: bool) -> Judged {
    let faults = faults.map_or(&[][..], Vec::as_slice);
    match faults.first() {
        Some(first) => {
            let all: Vec<String> = faults.iter().map(Fault::to_string).collect();
            Judged::bad(first.reason(), all.join("; "))
        }
        None if silent => Judged::unknown("AgentSilent", "its agent has published no key yet"),
        None => Judged::good("Admitted", "its keys and endpoints are good"),
    }
}

fn ready(node: &MeshNode, silent: bool, ours: [&Judged; 2], standing: &[Condition]) -> Judged {
    if node.spec.revoked {
        return Judged::bad("Revoked", "every peer refuses its keys");
    }
    if let Some(bad) = ours.into_iter().find(|judged| judged.status == Truth::False) {
        return bad.clone();
    }
    if silent {
        return Judged::bad(
            "AgentSilent",
            "its agent has published no key yet; does hawser-agent run there, with this node's \
             kubeconfig?",
        );
    }
    let own = AGENTS_OWN.iter().filter_map(|type_| conditions::get(standing, type_));
    if let Some(bad) = own.into_iter().find(|condition| condition.status == "False") {
        return Judged::bad("AgentUnready", format!("{}: {}", bad.type_, bad.message));
    }
    if let Some(open) = ours.into_iter().find(|judged| judged.status == Truth::Unknown) {
        return Judged::bad(open.reason, open.message.clone());
    }
    Judged::good("NodeReady", "")
}
