//! What an agent says of itself at `/state`: the live figures that the API does not hold.
//!
//! Every field may be absent, and new ones may come: a CLI of last month shows what it knows.

use std::collections::BTreeMap;

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct State {
    pub node: String,
    pub version: String,
    pub engine: String,
    pub mtu: Option<u16>,
    /// Of this node's own key.
    pub epoch: Option<u32>,
    pub view: View,
    pub peers: Vec<Peer>,
    /// Nodes that are reached through one of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub behind: Vec<Behind>,
    pub routes: Vec<Route>,
    pub guard: Guard,
    /// Absent where it was not asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,
    pub discards: BTreeMap<String, u64>,
}

/// A node of another site, and the peer that hands on what is for it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Behind {
    pub name: String,
    pub through: String,
}

/// Where the agent has its picture of the mesh from, and how old it is.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct View {
    pub source: String,
    pub age_seconds: Option<f64>,
    /// Since the API last answered.
    pub heard_seconds: Option<f64>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Peer {
    pub name: String,
    pub endpoint: Option<String>,
    /// What carries packets to it.
    pub backend: Option<String>,
    /// How its datagrams travel, if not as usual.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// `direct`, `punched`, `relayed` or what a later agent says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reached: Option<String>,
    /// What `backend` stands in for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instead_of: Option<String>,
    pub epoch: Option<u32>,
    pub last_handshake: Option<Timestamp>,
    /// As the agent judges it; else it is judged by the handshake's age.
    pub up: Option<bool>,
    pub rx_bytes: u64,
    pub tx_bytes: u64,
    pub rtt_seconds: Option<f64>,
    pub mtu: Option<u16>,
    pub subnets: Vec<IpNet>,
    pub site: Option<String>,
    /// What the Mesh says of the pair: Required, Preferred or None.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encryption: Option<String>,
    pub last_discard: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    pub prefix: IpNet,
    #[serde(default)]
    pub peer: Option<String>,
    #[serde(default)]
    pub kind: Option<String>,
}

/// Whether what keeps clear packets off the wire is in place.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Guard {
    pub routes: bool,
    pub nft: bool,
    /// Packets that would have left in clear.
    pub blocked_packets: Option<u64>,
}

/// What became of the standing canary's probes.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Canary {
    /// clean, clear, blind or idle.
    pub verdict: String,
    pub sent: u64,
    pub seen_in_clear: u64,
    pub devices: Vec<String>,
    pub why: Option<String>,
}

impl Guard {
    pub fn stands(&self) -> bool {
        self.routes && self.nft
    }
}

impl State {
    pub fn peer(&self, name: &str) -> Option<&Peer> {
        self.peers.iter().find(|peer| peer.name == name)
    }
}

impl Peer {
    /// Two missed rekeys: a session is renewed every two minutes and ends after three.
    pub const STALE_SECONDS: i64 = 180;

    /// The backend, if packets to it go out in clear.
    pub fn in_clear(&self) -> Option<&str> {
        self.backend.as_deref().filter(|backend| ["udp", "vxlan", "direct"].contains(backend))
    }

    /// Another node passes on what is sealed for it.
    pub fn is_relayed(&self) -> bool {
        self.path.as_deref().is_some_and(|path| path.starts_with("relay"))
    }

    /// A tunnel is up while the session of its last handshake is.
    pub fn is_up(&self, now: Timestamp) -> bool {
        self.up.unwrap_or_else(|| {
            self.last_handshake
                .is_some_and(|then| now.duration_since(then).as_secs() <= Self::STALE_SECONDS)
        })
    }
}
