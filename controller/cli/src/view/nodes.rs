//! `hawser nodes`: the nodes as the API has them.

use api::{Condition, MeshNode, MeshNodeStatus, SubnetClaim, conditions};
use jiff::Timestamp;
use serde::Serialize;

use crate::{
    exit::Failure,
    member,
    output::{Item, Output, Table, aligned},
    text::{self, NONE, PENDING, UNKNOWN},
    view::{fields, or},
};

const COLUMNS: &[&str] = &[
    "NAME", "READY", "SITE", "SUBNET", "PEERS", "EPOCH", "AGE", "ENDPOINT", "NAT", "MTU",
    "VERSION", "REASON", "BEHIND",
];
const NARROW: usize = 7;

/// A node in JSON.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Node<'a> {
    name: &'a str,
    ready: &'a str,
    reason: Option<&'a str>,
    message: Option<&'a str>,
    revoked: bool,
    site: Option<&'a str>,
    subnets: &'a [String],
    /// What it announces and the mesh carries.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    routed: &'a [String],
    peers: Option<&'a str>,
    key_epoch: u32,
    keys: Vec<Key>,
    endpoints: &'a [String],
    nat: Option<&'a str>,
    mtu: Option<u16>,
    version: Option<&'a str>,
    created: Option<Timestamp>,
    conditions: &'a [Condition],
}

/// A published key: its epoch, and the form to compare by eye.
#[derive(Debug, Serialize)]
pub(super) struct Key {
    pub(super) epoch: u32,
    pub(super) fingerprint: String,
}

pub(super) fn keys_of(status: &MeshNodeStatus) -> Vec<Key> {
    let mut keys: Vec<Key> = status
        .public_keys
        .iter()
        .map(|key| Key { epoch: key.epoch, fingerprint: member::fingerprint(&key.public_key) })
        .collect();
    keys.sort_by_key(|key| key.epoch);
    keys
}

/// One row a node.
pub fn list(nodes: &[MeshNode], now: Timestamp) -> Output {
    let mut table =
        Table::new(COLUMNS, NARROW, "no nodes; create one: hawser nodes add NAME --out FILE");
    let mut items = Vec::new();
    let empty = MeshNodeStatus::default();
    for node in nodes {
        let status = node.status.as_ref().unwrap_or(&empty);
        table.push(row(node, status, now));
        items.push(item(node, status));
    }
    Output::list("Node", table, items)
}

/// Everything about one node.
pub fn show(node: &MeshNode, claims: Option<&[SubnetClaim]>, now: Timestamp) -> Output {
    let empty = MeshNodeStatus::default();
    let status = node.status.as_ref().unwrap_or(&empty);
    let mut screen = facts(node, status, now);
    screen.push_str(&claims_of(node, claims));
    screen.push_str(&conditions_of(status, now));
    Output::screen("Node", screen, item(node, status))
}

pub fn not_found(name: &str, nodes: &[MeshNode]) -> Failure {
    let known = text::list(nodes.iter().take(20).map(name_of));
    Failure::failed(format!("no node is named {name:?}")).check(format!("the nodes are {known}"))
}

pub fn name_of(node: &MeshNode) -> &str {
    node.metadata.name.as_deref().unwrap_or_default()
}

/// `True`, `False`, `<unknown>`; or that it was thrown out, which outweighs the rest.
fn ready<'a>(node: &MeshNode, status: &'a MeshNodeStatus) -> &'a str {
    if node.spec.revoked {
        return "Revoked";
    }
    conditions::get(&status.conditions, "Ready").map_or(UNKNOWN, |c| &c.status)
}

fn row(node: &MeshNode, status: &MeshNodeStatus, now: Timestamp) -> Vec<String> {
    let reason = conditions::get(&status.conditions, "Ready").map(|c| c.reason.clone());
    vec![
        name_of(node).to_owned(),
        ready(node, status).to_owned(),
        or(node.spec.site.as_ref(), NONE),
        subnets(node),
        or(status.peers.as_ref(), UNKNOWN),
        node.spec.key_epoch.to_string(),
        text::age(created(node), now),
        or(status.endpoints.first(), PENDING),
        or(status.nat.as_ref(), NONE),
        or(status.mtu, UNKNOWN),
        or(status.version.as_ref(), UNKNOWN),
        or(reason, NONE),
        text::list(&node.spec.routed),
    ]
}

fn subnets(node: &MeshNode) -> String {
    if node.spec.subnets.is_empty() { PENDING.to_owned() } else { text::list(&node.spec.subnets) }
}

fn created(node: &MeshNode) -> Option<Timestamp> {
    node.metadata.creation_timestamp.as_ref().map(|time| time.0)
}

fn item(node: &MeshNode, status: &MeshNodeStatus) -> Item {
    let judged = conditions::get(&status.conditions, "Ready");
    let object = Node {
        name: name_of(node),
        ready: judged.map_or("Unknown", |c| &c.status),
        reason: judged.map(|c| c.reason.as_str()),
        message: judged.map(|c| c.message.as_str()).filter(|text| !text.is_empty()),
        revoked: node.spec.revoked,
        site: node.spec.site.as_deref(),
        subnets: &node.spec.subnets,
        routed: &node.spec.routed,
        peers: status.peers.as_deref(),
        key_epoch: node.spec.key_epoch,
        keys: keys_of(status),
        endpoints: &status.endpoints,
        nat: status.nat.as_deref(),
        mtu: status.mtu,
        version: status.version.as_deref(),
        created: created(node),
        conditions: &status.conditions,
    };
    Item::new(format!("meshnode/{}", name_of(node)), &object)
}

fn facts(node: &MeshNode, status: &MeshNodeStatus, now: Timestamp) -> String {
    let addresses = member::prefixes(&node.spec.subnets).into_iter().map(api::first_host);
    let keys = keys_of(status).into_iter().map(|key| {
        let used = if key.epoch == node.spec.key_epoch { "" } else { "(not-in-use)" };
        format!("{}={}{used}", key.epoch, key.fingerprint)
    });
    let behind = (!node.spec.prefixes.is_empty()).then(|| ("Behind", behind(node)));
    let mut rows = vec![
        ("Name", name_of(node).to_owned()),
        ("Ready", ready(node, status).to_owned()),
        ("Site", or(node.spec.site.as_ref(), NONE)),
        ("Subnets", subnets(node)),
        ("Addresses", text::list(addresses)),
    ];
    rows.extend(behind);
    rows.extend([
        ("Endpoints", text::list(&status.endpoints)),
        ("NAT", or(status.nat.as_ref(), NONE)),
        ("Peers", or(status.peers.as_ref(), UNKNOWN)),
        ("Epoch", node.spec.key_epoch.to_string()),
        ("Keys", text::list(keys)),
        ("MTU", or(status.mtu, UNKNOWN)),
        ("Version", or(status.version.as_ref(), UNKNOWN)),
        ("Age", text::age(created(node), now)),
    ]);
    fields(&rows)
}

/// What it announces; what nobody sends there is marked.
fn behind(node: &MeshNode) -> String {
    let mark = |prefix: &String| {
        let routed = node.spec.routed.contains(prefix);
        format!("{prefix}{}", if routed { "" } else { "(not-routed)" })
    };
    text::list(node.spec.prefixes.iter().map(mark))
}

fn claims_of(node: &MeshNode, claims: Option<&[SubnetClaim]>) -> String {
    let Some(claims) = claims else {
        return String::new();
    };
    let rows: Vec<Vec<String>> = claims
        .iter()
        .filter(|claim| claim.spec.node.as_deref() == Some(name_of(node)))
        .map(|claim| {
            vec![
                format!("  {}", text::cell(&claim.spec.subnet)),
                or(claim.status.as_ref().and_then(|s| s.phase).map(|p| format!("{p:?}")), UNKNOWN),
                format!("generation {}", claim.spec.generation),
            ]
        })
        .collect();
    if rows.is_empty() { String::new() } else { format!("\nClaims\n{}", aligned(&rows)) }
}

fn conditions_of(status: &MeshNodeStatus, now: Timestamp) -> String {
    let rows: Vec<Vec<String>> = status
        .conditions
        .iter()
        .map(|c| {
            vec![
                format!("  {}", text::cell(&c.type_)),
                text::cell(&c.status),
                text::cell(&c.reason),
                text::age(c.last_transition_time.parse().ok(), now),
                text::printable(&c.message),
            ]
        })
        .collect();
    if rows.is_empty() { String::new() } else { format!("\nConditions\n{}", aligned(&rows)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{args::Format, fixture};

    #[test]
    fn the_list_fits_eighty_columns() {
        let text = list(&fixture::nodes(), fixture::now()).render(Format::Table);

        insta::assert_snapshot!(text, @r"
        NAME    READY  SITE    SUBNET                        PEERS      EPOCH  AGE
        node-1  True   aws     10.42.1.0/24,fd42:0:0:1::/64  1/2        1      3d4h
        node-2  True   <none>  10.42.2.0/24,fd42:0:0:2::/64  1/2        1      3d4h
        node-3  False  <none>  <pending>                     <unknown>  1      3d4h
        ");
        assert!(text.lines().all(|line| line.len() <= 80));
    }

    #[test]
    fn wide_adds_what_an_operator_looks_up() {
        let text = list(&fixture::nodes(), fixture::now()).render(Format::Wide);

        insta::assert_snapshot!(text, @r"
        NAME    READY  SITE    SUBNET                        PEERS      EPOCH  AGE   ENDPOINT        NAT     MTU        VERSION    REASON     BEHIND
        node-1  True   aws     10.42.1.0/24,fd42:0:0:1::/64  1/2        1      3d4h  10.0.0.1:51820  <none>  1420       0.1.0      TunnelsUp  <none>
        node-2  True   <none>  10.42.2.0/24,fd42:0:0:2::/64  1/2        1      3d4h  10.0.0.2:51820  <none>  1420       0.1.0      TunnelsUp  <none>
        node-3  False  <none>  <pending>                     <unknown>  1      3d4h  <pending>       <none>  <unknown>  <unknown>  NoSubnet   <none>
        ");
    }

    #[test]
    fn json_carries_times_and_fingerprints_but_no_key() {
        let text = list(&fixture::nodes(), fixture::now()).render(Format::Json);

        assert!(text.contains(r#""created": "2026-11-19T06:00:00Z""#));
        assert!(text.contains(&member::fingerprint(&fixture::key(1))));
        assert!(!text.contains(&fixture::key(1)));
    }

    #[test]
    fn one_node_is_shown_whole() {
        let claims = fixture::claims();

        let text = show(&fixture::nodes()[0], Some(&claims), fixture::now()).render(Format::Table);

        insta::assert_snapshot!(text, @r"
        Name       node-1
        Ready      True
        Site       aws
        Subnets    10.42.1.0/24,fd42:0:0:1::/64
        Addresses  10.42.1.1,fd42:0:0:1::1
        Endpoints  10.0.0.1:51820
        NAT        <none>
        Peers      1/2
        Epoch      1
        Keys       1=72cd:6e84:22c4:07fb
        MTU        1420
        Version    0.1.0
        Age        3d4h

        Claims
          10.42.1.0/24     Bound  generation 3
          fd42:0:0:1::/64  Bound  generation 3

        Conditions
          Ready  True  TunnelsUp  60m
        ");
    }

    #[test]
    fn a_revoked_node_says_so_first() {
        let mut nodes = fixture::nodes();
        nodes[0].spec.revoked = true;

        let text = list(&nodes, fixture::now()).render(Format::Table);

        assert!(text.contains("node-1  Revoked"));
    }
}
