//! `hawser peers`: the tunnels as one agent sees them.

use api::{MeshNode, MeshPeer};
use jiff::Timestamp;
use serde::Serialize;

use crate::{
    exit::Failure,
    member,
    output::{Item, Output, Table},
    state::{Peer, State},
    text::{self, NONE, UNKNOWN},
    view::{fields, or},
};

const COLUMNS: &[&str] = &[
    "NAME",
    "SITE",
    "SUBNET",
    "PATH",
    "HANDSHAKE",
    "RTT",
    "RX",
    "TX",
    "EPOCH",
    "ENDPOINT",
    "SUBNETS",
    "MTU",
];
const NARROW: usize = 9;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PeerObject<'a> {
    /// The node whose agent says so.
    seen_by: &'a str,
    up: bool,
    #[serde(flatten)]
    peer: &'a Peer,
}

/// One row a peer.
pub fn list(state: &State, now: Timestamp) -> Output {
    let mut table = Table::new(COLUMNS, NARROW, "this agent has no peers yet");
    let mut items = Vec::new();
    for peer in &state.peers {
        table.push(row(state, peer, now));
        items.push(item(state, peer, now));
    }
    Output::list("Peer", table, items)
}

/// Everything about one peer.
pub fn show(state: &State, peer: &Peer, now: Timestamp) -> Output {
    let mut rows = vec![
        ("Name", peer.name.clone()),
        ("Seen by", state.node.clone()),
        ("Tunnel", if peer.is_up(now) { "up" } else { "down" }.to_owned()),
        ("Site", or(peer.site.as_ref(), NONE)),
        ("Subnets", text::list(&peer.subnets)),
        ("Encryption", or(peer.encryption.as_ref(), UNKNOWN)),
        ("Path", path(peer)),
        ("Endpoint", or(peer.endpoint.as_ref(), UNKNOWN)),
        ("Handshake", handshake(peer, now)),
        ("Epoch", or(peer.epoch, NONE)),
        ("Round trip", text::round_trip(peer.rtt_seconds)),
        ("MTU", or(peer.mtu.or(state.mtu), UNKNOWN)),
        ("Received", text::bytes(peer.rx_bytes)),
        ("Sent", text::bytes(peer.tx_bytes)),
        ("Last drop", or(peer.last_discard.as_ref(), NONE)),
    ];
    let behind = behind(state, peer);
    if !behind.is_empty() {
        rows.push(("Gateway to", text::list(behind)));
    }
    Output::screen("Peer", fields(&rows), item(state, peer, now))
}

fn behind<'a>(state: &'a State, peer: &Peer) -> Vec<&'a str> {
    let through = state.behind.iter().filter(|behind| behind.through == peer.name);
    through.map(|behind| behind.name.as_str()).collect()
}

pub fn not_found(name: &str, state: &State) -> Failure {
    let known = text::list(state.peers.iter().take(20).map(|peer| &peer.name));
    Failure::failed(format!("the agent of {} has no peer named {name:?}", state.node))
        .check(format!("its peers are {known}"))
}

/// One peer as `wg showconf` would print it. The private key is not ours to know.
#[derive(Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Configuration {
    pub name: String,
    pub public_key: String,
    pub allowed_ips: Vec<String>,
    pub endpoint: Option<String>,
    pub persistent_keepalive: Option<u16>,
    /// True if a preshared key is used; its bytes are never here.
    pub preshared: bool,
}

impl Configuration {
    pub fn of_node(node: &MeshNode) -> Result<Self, Failure> {
        let name = node.metadata.name.clone().unwrap_or_default();
        let status = node.status.clone().unwrap_or_default();
        let epoch = node.spec.key_epoch;
        let key = status.public_keys.iter().find(|key| key.epoch == epoch).ok_or_else(|| {
            Failure::failed(format!("{name} has not published its key of epoch {epoch}"))
                .check(format!("is hawser-agent running on {name}?"))
        })?;
        Ok(Self {
            name,
            public_key: key.public_key.clone(),
            allowed_ips: node.spec.subnets.clone(),
            endpoint: status.endpoints.first().cloned(),
            ..Self::default()
        })
    }

    pub fn of_peer(peer: &MeshPeer) -> Self {
        let spec = &peer.spec;
        Self {
            name: peer.metadata.name.clone().unwrap_or_default(),
            public_key: spec.public_key.clone(),
            allowed_ips: spec.addresses.clone(),
            endpoint: spec.endpoint.clone(),
            persistent_keepalive: spec.persistent_keepalive,
            preshared: spec.preshared_key_file.is_some() || spec.preshared_key_secret_ref.is_some(),
        }
    }

    /// What the agent has learned from authenticated packets is newer than what was published.
    pub fn learn(mut self, live: Option<&Peer>) -> Self {
        if let Some(endpoint) = live.and_then(|peer| peer.endpoint.clone()) {
            self.endpoint = Some(endpoint);
        }
        self
    }

    pub fn print(self) -> Output {
        let clean = text::printable;
        let mut lines = vec!["[Interface]".to_owned(), "# PrivateKey = (hidden)".to_owned()];
        lines.push(format!("\n# {}\n[Peer]", clean(&self.name)));
        lines.push(format!("PublicKey = {}", clean(&self.public_key)));
        if self.preshared {
            lines.push("# PresharedKey = (hidden)".to_owned());
        }
        lines.push(format!("AllowedIPs = {}", clean(&self.allowed_ips.join(", "))));
        lines.extend(self.endpoint.iter().map(|at| format!("Endpoint = {}", clean(at))));
        let keepalive = self.persistent_keepalive.filter(|seconds| *seconds > 0);
        lines.extend(keepalive.map(|seconds| format!("PersistentKeepalive = {seconds}")));
        let item = Item::new(format!("peer/{}", self.name), &self);
        Output::screen("PeerConfiguration", lines.join("\n") + "\n", item)
    }
}

fn row(state: &State, peer: &Peer, now: Timestamp) -> Vec<String> {
    vec![
        peer.name.clone(),
        or(peer.site.as_ref(), "-"),
        or(peer.subnets.first(), NONE),
        path(peer) + &gateway(state, peer),
        handshake(peer, now),
        text::round_trip(peer.rtt_seconds),
        text::bytes(peer.rx_bytes),
        text::bytes(peer.tx_bytes),
        or(peer.epoch, "-"),
        or(peer.endpoint.as_ref(), UNKNOWN),
        text::list(&peer.subnets),
        or(peer.mtu, UNKNOWN),
    ]
}

/// For how many nodes of its site it hands packets on.
fn gateway(state: &State, peer: &Peer) -> String {
    match behind(state, peer).len() {
        0 => String::new(),
        behind => format!(" +{behind}"),
    }
}

/// How packets reach the peer: `direct`, `punched` (both ends had to call, out of their NATs),
/// `relayed:NODE`, or in another shape. Without an endpoint, it has to call first.
pub(super) fn path(peer: &Peer) -> String {
    if let Some(backend) = peer.in_clear() {
        return format!("CLEAR:{backend}");
    }
    if let Some(path) = &peer.path {
        let relay = path.strip_prefix("relay ").map(|relay| format!("relayed:{relay}"));
        return text::cell(&relay.unwrap_or_else(|| path.clone()));
    }
    match (&peer.reached, &peer.endpoint) {
        (Some(reached), _) => text::cell(reached),
        (None, Some(_)) => "direct".to_owned(),
        (None, None) => "waiting".to_owned(),
    }
}

pub(super) fn handshake(peer: &Peer, now: Timestamp) -> String {
    match peer.last_handshake {
        Some(then) => text::duration(text::since(then, now)),
        None => "never".to_owned(),
    }
}

fn item(state: &State, peer: &Peer, now: Timestamp) -> Item {
    let object = PeerObject { seen_by: &state.node, up: peer.is_up(now), peer };
    Item::new(format!("peer/{}", peer.name), &object)
}

/// The peer's name in the API: a node's or a plain peer's.
pub fn configuration(
    name: &str,
    nodes: &[MeshNode],
    peers: &[MeshPeer],
) -> Result<Configuration, Failure> {
    if let Some(node) = nodes.iter().find(|node| node.metadata.name.as_deref() == Some(name)) {
        return Configuration::of_node(node);
    }
    match peers.iter().find(|peer| peer.metadata.name.as_deref() == Some(name)) {
        Some(peer) => Ok(Configuration::of_peer(peer)),
        None => {
            let members = member::Members::from_resources(nodes, peers);
            let known = text::list(members.0.iter().take(20).map(|member| &member.name));
            Err(Failure::failed(format!("no node or peer is named {name:?}"))
                .check(format!("there are {known}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{args::Format, fixture};

    #[test]
    fn the_list_fits_eighty_columns() {
        let text = list(&fixture::state(), fixture::now()).render(Format::Table);

        insta::assert_snapshot!(text, @r"
        NAME    SITE  SUBNET          PATH     HANDSHAKE  RTT    RX      TX      EPOCH
        node-2  -     10.42.2.0/24    direct   34s        0.4ms  1.2GiB  880MiB  1
        laptop  -     10.42.1.200/32  waiting  never      -      0       0       -
        ");
        assert!(text.lines().all(|line| line.len() <= 80));
    }

    #[test]
    fn the_path_is_one_word() {
        let mut peer = fixture::state().peers.remove(0);
        for (reached, way, word) in [
            (None, None, "direct"),
            (Some("punched"), None, "punched"),
            (Some("relayed"), Some("relay node-9"), "relayed:node-9"),
            (Some("direct"), Some("vxlan-shaped"), "vxlan-shaped"),
            (Some("tcp"), None, "tcp"),
        ] {
            peer.reached = reached.map(str::to_owned);
            peer.path = way.map(str::to_owned);
            assert_eq!(path(&peer), word);
        }
        peer.backend = Some("udp".to_owned());
        assert_eq!(path(&peer), "CLEAR:udp");
    }

    #[test]
    fn wide_adds_endpoint_and_every_subnet() {
        let text = list(&fixture::state(), fixture::now()).render(Format::Wide);

        assert!(text.contains("10.0.0.2:51820"));
        assert!(text.contains("10.42.2.0/24,fd42:0:0:2::/64"));
    }

    #[test]
    fn never_is_null_in_json_and_a_time_is_rfc_3339() {
        let text = list(&fixture::state(), fixture::now()).render(Format::Json);

        assert!(text.contains(r#""lastHandshake": "2026-11-22T09:59:26Z""#));
        assert!(text.contains(r#""lastHandshake": null"#));
        assert!(!text.contains("1970"));
    }

    #[test]
    fn one_peer_is_shown_whole() {
        let state = fixture::state();

        let text = show(&state, &state.peers[0], fixture::now()).render(Format::Table);

        insta::assert_snapshot!(text, @r"
        Name        node-2
        Seen by     node-1
        Tunnel      up
        Site        <none>
        Subnets     10.42.2.0/24,fd42:0:0:2::/64
        Encryption  <unknown>
        Path        direct
        Endpoint    10.0.0.2:51820
        Handshake   34s
        Epoch       1
        Round trip  0.4ms
        MTU         1420
        Received    1.2GiB
        Sent        880MiB
        Last drop   <none>
        ");
    }

    #[test]
    fn a_configuration_is_what_wg_reads_with_the_secrets_hidden() {
        let mut laptop = fixture::laptop();
        laptop.spec.preshared_key_file = Some("/etc/psk".into());

        let configuration = configuration("laptop", &fixture::nodes(), &[laptop]).unwrap();

        insta::assert_snapshot!(configuration.print().render(Format::Table), @r"
        [Interface]
        # PrivateKey = (hidden)

        # laptop
        [Peer]
        PublicKey = CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk=
        # PresharedKey = (hidden)
        AllowedIPs = 10.42.1.200/32
        PersistentKeepalive = 25
        ");
    }

    #[test]
    fn a_learned_endpoint_beats_the_published_one() {
        let mut state = fixture::state();
        state.peers[0].endpoint = Some("192.0.2.1:7".into());

        let configuration = configuration("node-2", &fixture::nodes(), &[]).unwrap();

        let learned = configuration.learn(state.peer("node-2"));
        assert_eq!(learned.endpoint.as_deref(), Some("192.0.2.1:7"));
    }

    #[test]
    fn a_node_without_a_key_has_no_configuration() {
        let failure = configuration("node-3", &fixture::nodes(), &[]).unwrap_err();

        assert!(failure.to_string().contains("has not published its key of epoch 1"));
    }
}
