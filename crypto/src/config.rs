//! What a mesh is told about its peers, and what it tells about them.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use ipnet::IpNet;
use keys::{KeyEpoch, PresharedKey, PublicKey};

/// One peer as the control plane wants it. Two configurations of one name are one peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerConfig {
    pub name: String,
    /// Its public keys by epoch. All are listened to.
    pub keys: Vec<(KeyEpoch, PublicKey)>,
    /// Which of them handshakes are begun with; `None` or one that is not listed: the newest.
    pub send_to: Option<KeyEpoch>,
    /// False for a machine that knows our keys by heart: which of them, it shows. It is called with
    /// the one that it used last, else with each in turn.
    pub follows: bool,
    pub preshared_key: Option<PresharedKey>,
    /// Where it is reached. Learned endpoints win until this changes.
    pub endpoint: Option<SocketAddr>,
    /// Where it may be reached too, such as behind a NAT. While it does not answer it is called at all
    /// of them at once, and spoken to where an answer came from. With these, `endpoint` too is only
    /// where it may be, and what was learned of a peer that is heard stays.
    pub others: Vec<SocketAddr>,
    /// Sends an empty message when nothing else was sent for so long, and begins the first
    /// handshake at once instead of with the first packet.
    pub keepalive: Option<Duration>,
    /// The prefixes whose packets it may send and gets.
    pub allowed: Vec<IpNet>,
    /// Prefixes of others whose packets it may hand on: a gateway's, of what is behind it. They are
    /// sent to by whoever has them in `allowed`.
    pub forwards: Vec<IpNet>,
    /// Others may pass on its datagrams, and ours to it: it is known by its [`crate::relay::id`].
    pub relayed: bool,
}

/// One peer as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerStatus {
    pub name: String,
    pub endpoint: Option<SocketAddr>,
    /// The epoch of the key that packets to it are sealed for.
    pub epoch: Option<KeyEpoch>,
    /// The epoch of our own key in the session that packets are sealed with; none without one, and
    /// with an engine of one key.
    pub own_epoch: Option<KeyEpoch>,
    /// When a handshake last completed.
    pub last_handshake: Option<Instant>,
    /// When anything authentic last came from it.
    pub last_received: Option<Instant>,
    /// Bytes of IP packets, without the tunnel's own.
    pub rx_bytes: u64,
    pub tx_bytes: u64,
    /// Round trip of the last handshake that we began.
    pub rtt: Option<Duration>,
    /// True while packets can be sealed without a handshake first.
    pub established: bool,
    pub allowed: Vec<IpNet>,
}
