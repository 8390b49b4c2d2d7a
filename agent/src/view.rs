//! Who is in the mesh, judged and typed: what every source yields and every plan starts from.
//!
//! Resources are other people's input. [`View::judge`] looks at each object alone and then at all
//! of them together; what it can't accept becomes a [`Complaint`] and stays out, and the rest of
//! the mesh goes on.
//!
//! ```text
//! file, API ─▶ Resources ─▶ View::judge(.., previous) ─▶ (View, complaints, overlaps)
//!                                                          └─▶ view.json ─▶ the next start
//! ```

mod entry;
mod judge;
mod resources;
pub mod store;
mod ways;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

pub use api::{Backend, Encryption, Relay, SiteEncryption, SiteGateways};
use ipnet::IpNet;
use keys::{KeyEpoch, PublicKey};
use serde::{Deserialize, Serialize};

pub use self::{
    judge::{Judgement, Overlap},
    resources::{Complaint, Resources},
    ways::Detour,
};

/// The mesh as this node knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    pub pools: Vec<IpNet>,
    pub backend: Backend,
    pub encryption: Encryption,
    /// What holds between two sites in its place; never malformed.
    #[serde(default)]
    pub site_encryption: Vec<SiteEncryption>,
    /// Sites that are reached through gateways.
    #[serde(default)]
    pub site_gateways: Vec<SiteGateways>,
    /// Nodes that are reached through a gateway, as this node uses them now.
    #[serde(skip)]
    pub detours: BTreeMap<String, Detour>,
    /// The same, by the gateway in use.
    #[serde(skip)]
    pub behind: BTreeMap<String, Vec<String>>,
    /// This node hands on what others send to each other.
    #[serde(skip)]
    pub forwards: bool,
    /// What carries where the backend does not get through, best first.
    #[serde(default)]
    pub fallback: Vec<Backend>,
    /// Where sealed datagrams may travel in the shape of VXLAN.
    #[serde(default)]
    pub vxlan_shaped_port: Option<u16>,
    /// Whether nodes pass on what others send to each other, where these don't reach each other.
    #[serde(default)]
    pub relay: Relay,
    /// A carrier that failed is gone back to when it has answered for so long.
    #[serde(default = "api::return_after")]
    pub return_after: Duration,
    /// A node whose key is gone may be sent to in clear, where encryption is Preferred.
    #[serde(default)]
    pub allow_downgrade: bool,
    /// Nodes that this node ever knew a key of, as long as they are in the mesh.
    #[serde(default)]
    pub sealed: BTreeSet<String>,
    /// Set by the operator; else it follows from the underlay.
    pub mtu: Option<u16>,
    pub nodes: BTreeMap<String, Node>,
    pub peers: BTreeMap<String, PlainPeer>,
    /// Keys of revoked nodes, refused for ever, whoever publishes them.
    #[serde(default)]
    pub revoked_keys: BTreeSet<PublicKey>,
    /// The mesh is being taken away: nothing of it stays on this node.
    #[serde(default)]
    pub removing: bool,
    /// For how long this may be acted on after the API was last heard; none: for ever.
    #[serde(default)]
    pub max_age: Option<Duration>,
}

/// One MeshNode, ourselves included.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    pub subnets: Vec<IpNet>,
    /// The machine's own addresses, which pods elsewhere reach through the tunnel.
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
    /// Prefixes behind the machine, which the others reach through its tunnel.
    #[serde(default)]
    pub announced: Vec<IpNet>,
    /// The epoch whose key senders use.
    pub epoch: KeyEpoch,
    /// The epochs that it is told to hold; empty: it was never told.
    #[serde(default)]
    pub epochs: BTreeSet<KeyEpoch>,
    /// The newest epoch that it says it ever had a key of.
    #[serde(default)]
    pub newest: Option<KeyEpoch>,
    /// Published keys that it was asked for, the one of `epoch` first.
    pub keys: Vec<(KeyEpoch, PublicKey)>,
    pub endpoints: Vec<SocketAddr>,
    /// The kind of NAT that it found before itself, as `outside::Nat` names them.
    #[serde(default)]
    pub nat: Option<String>,
    /// It knows that there is none.
    #[serde(default)]
    pub bare: bool,
    pub site: Option<String>,
    pub revoked: bool,
    /// Plain peers that came to it, and its turn with each.
    #[serde(default)]
    pub serves: BTreeMap<String, i64>,
    /// Where it is called over TLS, by nodes that no datagram gets out of.
    #[serde(default)]
    pub tls: Option<Listener>,
    /// Nodes through which it is reached, as no datagram gets out of it; empty: it is as all others.
    #[serde(default)]
    pub relays: Vec<String>,
}

/// A node that is called over TLS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// Best first; never empty.
    pub endpoints: Vec<SocketAddr>,
    /// SHA-256 of its certificate.
    pub fingerprint: [u8; 32],
}

impl View {
    /// What may carry, best first, each once; `flag` stands in for the Mesh's backend.
    pub fn carriers(&self, flag: Option<Backend>) -> Vec<Backend> {
        let mut listed = vec![flag.unwrap_or(self.backend)];
        for backend in &self.fallback {
            if !listed.contains(backend) {
                listed.push(*backend);
            }
        }
        listed
    }

    /// What holds between two nodes; for one that is not in the view, as if it stood nowhere.
    pub fn encryption_between(&self, a: &str, b: &str) -> Encryption {
        let site = |name: &str| self.nodes.get(name).and_then(|node| node.site.as_deref());
        api::encryption_between(self.encryption, &self.site_encryption, (site(a), site(b)))
    }

    /// Nodes that are called over TLS, but `me`.
    pub fn listeners<'a>(
        &'a self,
        me: &'a str,
    ) -> impl Iterator<Item = (&'a String, &'a Listener)> {
        let others = self.nodes.iter().filter(move |(name, node)| *name != me && node.is_peer());
        others.filter_map(|(name, node)| Some((name, node.tls.as_ref()?)))
    }

    /// True if some datagrams may travel otherwise than from one node to the other.
    pub fn has_detours(&self) -> bool {
        self.relay == Relay::Auto || self.nodes.values().any(|node| node.tls.is_some())
    }

    /// True if some pair may be in clear, as the Mesh has it.
    pub fn permits_clear(&self) -> bool {
        let of_sites = self.site_encryption.iter().map(|of| of.encryption);
        of_sites.chain([self.encryption]).any(|one| one != Encryption::Required)
    }

    /// True if the node `me` is told something new, or somebody is out who was in.
    pub fn is_urgent_after(&self, before: &Self, me: &str) -> bool {
        let told = |view: &Self| {
            let node = view.nodes.get(me)?;
            let has = (node.subnets.clone(), node.announced.clone());
            Some((node.epoch, node.epochs.clone(), has, node.revoked))
        };
        let out = |(name, node): (&String, &Node)| {
            !node.revoked && self.nodes.get(name).is_none_or(|now| now.revoked)
        };
        let gone = |name: &String| !self.peers.contains_key(name);
        self.removing != before.removing
            || told(self) != told(before)
            || before.nodes.iter().any(out)
            || before.peers.keys().any(gone)
    }
}

impl Node {
    /// Whether others have a tunnel to it.
    pub fn is_peer(&self) -> bool {
        !self.revoked && !self.keys.is_empty()
    }

    /// Whether it ever had a key, as the API tells now.
    pub fn had_key(&self) -> bool {
        !self.keys.is_empty() || self.newest.is_some() || !self.epochs.is_empty()
    }
}

/// One MeshPeer: any WireGuard implementation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlainPeer {
    pub key: PublicKey,
    pub addresses: Vec<IpNet>,
    pub endpoint: Option<SocketAddr>,
    /// The nodes that it calls; empty: all.
    #[serde(default)]
    pub entries: Vec<String>,
    pub preshared_key_file: Option<PathBuf>,
    /// Seconds; zero and absent mean none.
    pub keepalive: Option<u16>,
}

#[cfg(test)]
mod tests;
