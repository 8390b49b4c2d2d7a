//! Who is asking, and what they may do.
//!
//! `allow` is the whole of it, a pure table. A cluster says the same in RBAC and an admission
//! policy.

mod events;
mod token;

pub(crate) use events::{Pace, refuse_event};
pub(crate) use token::{KIND as TOKENS, Session, Tokens};

/// The group of the mesh's own resources.
pub(crate) const GROUP: &str = "hawser.dev";

/// Who a token speaks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// The operator, the controller, the CLI.
    Admin,
    /// The agent of this MeshNode.
    Node { name: String, uid: String },
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Identity::Admin => f.write_str("admin"),
            Identity::Node { name, .. } => write!(f, "node {name}"),
        }
    }
}

/// What is asked, in the words of Kubernetes; empty where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request<'a> {
    /// get, list, watch, create, update, patch, delete, deletecollection.
    pub verb: &'a str,
    pub group: &'a str,
    /// Plural: `meshnodes`.
    pub resource: &'a str,
    pub subresource: &'a str,
    pub name: &'a str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Allowed,
    Denied,
}

/// What a node may read.
const READABLE: [&str; 4] = ["meshes", "meshnodes", "meshpeers", "keyrotations"];

/// May they? A node reads the mesh, writes its own status, reports events (which ones:
/// [`refuse_event`]), and nothing else.
pub fn allow(identity: &Identity, request: Request<'_>) -> Verdict {
    let Identity::Node { name, .. } = identity else {
        return Verdict::Allowed;
    };
    let Request { verb, group, resource, subresource, name: object } = request;
    let allowed = match (verb, group, resource, subresource) {
        ("get" | "list" | "watch", GROUP, resource, "") => READABLE.contains(&resource),
        ("get" | "update" | "patch", GROUP, "meshnodes", "status") => object == name,
        ("create" | "patch", "events.k8s.io", "events", "") => true,
        _ => false,
    };
    if allowed { Verdict::Allowed } else { Verdict::Denied }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERBS: [&str; 8] =
        ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"];
    const RESOURCES: [(&str, &str); 9] = [
        (GROUP, "meshes"),
        (GROUP, "meshnodes"),
        (GROUP, "subnetclaims"),
        (GROUP, "meshpeers"),
        (GROUP, "jointokens"),
        (GROUP, "keyrotations"),
        ("coordination.k8s.io", "leases"),
        ("events.k8s.io", "events"),
        ("", "events"),
    ];

    fn rights(identity: &Identity, object: &str) -> Vec<String> {
        let mut rights = Vec::new();
        for (group, resource) in RESOURCES {
            for subresource in ["", "status", "token"] {
                for verb in VERBS {
                    let request = Request { verb, group, resource, subresource, name: object };
                    if allow(identity, request) == Verdict::Allowed {
                        rights.push(format!("{verb} {resource}.{group}/{subresource}"));
                    }
                }
            }
        }
        rights
    }

    #[test]
    fn a_node_reads_the_mesh_writes_its_own_status_and_nothing_else() {
        let node = Identity::Node { name: "a".to_owned(), uid: "1".to_owned() };
        let mut reads = Vec::new();
        for resource in READABLE {
            for verb in ["get", "list", "watch"] {
                reads.push(format!("{verb} {resource}.hawser.dev/"));
            }
        }
        let events = ["create events.events.k8s.io/", "patch events.events.k8s.io/"];
        let status = ["get", "update", "patch"].map(|v| format!("{v} meshnodes.hawser.dev/status"));

        let mut expected = [reads, events.map(str::to_owned).to_vec()].concat();
        expected.sort();
        let mut others = rights(&node, "b");
        others.sort();
        assert_eq!(others, expected);

        expected.extend(status);
        expected.sort();
        let mut own = rights(&node, "a");
        own.sort();
        assert_eq!(own, expected);
    }

    #[test]
    fn an_admin_may_do_everything() {
        assert_eq!(rights(&Identity::Admin, "a").len(), VERBS.len() * RESOURCES.len() * 3);
    }
}
