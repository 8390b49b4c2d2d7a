//! The agent's local API: `/livez`, `/readyz`, `/metrics` and `/state` over HTTP.
//!
//! It is served on a Unix socket that only root can open, and, where asked, on a loopback address. The
//! last packets (`/packets`) are told by the socket alone.
//! It changes nothing and knows nothing: [`Live`] answers, this turns the answers into HTTP.

use std::{
    collections::BTreeMap,
    fs::Permissions,
    io,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use api::{Backend, Encryption};
use axum::{
    Json, Router,
    extract::State as Extract,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, UnixListener};

use crate::{metrics, reached::Reached, tls::TlsState};

/// Whoever can tell how the agent is.
pub trait Live: Send + Sync + 'static {
    fn state(&self) -> State;

    /// May pods be given to this node? The reason why not is shown to the operator.
    fn ready(&self) -> Result<(), String>;

    /// The last packets as a pcapng file, or why there is none.
    fn recent_packets(&self) -> Result<Vec<u8>, String>;

    /// Is a restart not needed?
    fn alive(&self) -> Result<(), String>;
}

/// The agent as it is: the answer to `/state`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    pub node: String,
    pub version: String,
    pub engine: String,
    pub mtu: u16,
    /// The epoch of this node's own key.
    pub epoch: u32,
    pub view: ViewState,
    pub peers: Vec<PeerState>,
    /// Nodes that are reached through a gateway; absent where none is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub behind: Vec<BehindState>,
    pub routes: Vec<RouteState>,
    pub guard: GuardState,
    /// What this node has passed on for others since its agent began.
    #[serde(default)]
    pub passed_on: PassedOnState,
    /// Absent where it was not asked for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub canary: Option<CanaryState>,
    /// Streams of sealed datagrams in TLS.
    #[serde(default)]
    pub tls: TlsState,
    /// How many packets died, by the reason's name.
    pub discards: BTreeMap<String, u64>,
}

/// Where the agent's knowledge of the mesh is from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ViewState {
    /// `file:…`, `kube`, or `disk` while the source has not answered yet.
    pub source: String,
    /// Since the view last changed.
    pub age_seconds: Option<f64>,
    /// Since the API last answered; absent with a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard_seconds: Option<f64>,
    /// How old the view may become (`Mesh.spec.maxViewAge`); absent: as old as it likes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age_seconds: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerState {
    pub name: String,
    pub endpoint: Option<SocketAddr>,
    /// What carries packets to it; absent if nothing can.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub backend: Option<Backend>,
    /// `vxlan-shaped`, `tcp`, or `relay` and a node's name, while its sealed datagrams travel so; absent: as
    /// usual.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub path: Option<String>,
    /// `direct`, `punched` (both ends had to call, out of their NATs) or `relayed`; absent while nobody
    /// knows where the peer is.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reached: Option<Reached>,
    /// The carrier of the Mesh's list that `backend` stands in for, as that does not get through.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub instead_of: Option<Backend>,
    /// The epoch of the key that is sent with.
    pub epoch: Option<u32>,
    pub last_handshake: Option<Timestamp>,
    /// True while packets go out without a handshake first.
    pub up: bool,
    pub rx_bytes: u64,
    pub tx_bytes: u64,
    pub rtt_seconds: Option<f64>,
    pub mtu: u16,
    pub subnets: Vec<IpNet>,
    pub site: Option<String>,
    /// What the Mesh says of encryption between its site and this node's.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub encryption: Option<Encryption>,
}

/// A node of another site, and the peer that hands on what is for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BehindState {
    pub name: String,
    pub through: String,
    /// All that may, best first.
    pub gateways: Vec<String>,
}

/// A prefix and either the peer it leads to or what else becomes of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteState {
    pub prefix: IpNet,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
}

/// Which layers of the guard are in place, and what they stopped.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuardState {
    pub routes: bool,
    pub nft: bool,
    /// Packets that would have left in clear.
    pub blocked_packets: u64,
}

/// Sealed datagrams of others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PassedOnState {
    pub datagrams: u64,
    /// With what relays add.
    pub bytes: u64,
}

/// What became of the standing canary's probes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CanaryState {
    pub verdict: CanaryVerdict,
    pub sent: u64,
    /// Probes that were readable on a device that is not the tunnel's.
    pub seen_in_clear: u64,
    /// Those devices.
    pub devices: Vec<String>,
    /// Why it is blind.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub why: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CanaryVerdict {
    /// Seen in the tunnel, and nowhere else.
    Clean,
    /// Some were seen in clear since the agent began.
    Clear,
    /// Not even seen where they are readable: nothing is proven.
    Blind,
    /// None sent yet, or nobody to send to.
    Idle,
}

/// Serves on a Unix socket of mode 0600, in the place of one that a dead agent left.
pub async fn serve_unix(path: &Path, live: Arc<dyn Live>) -> io::Result<()> {
    let listener = bind_unix(path)?;
    let packets = Router::new().route("/packets", get(packets)).with_state(Arc::clone(&live));
    axum::serve(listener, router(live).merge(packets)).await
}

/// Serves on a loopback address; any other is refused, for this API asks nobody who he is.
pub async fn serve_tcp(address: SocketAddr, live: Arc<dyn Live>) -> io::Result<()> {
    if !address.ip().is_loopback() {
        let text = format!("{address} is no loopback address; use 127.0.0.1 or [::1]");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    axum::serve(TcpListener::bind(address).await?, router(live)).await
}

/// Bound beside its place, restricted, then moved there: at no moment can others connect.
fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    let new = PathBuf::from(format!("{}.new", path.display()));
    match std::fs::remove_file(&new) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(&new)?;
    std::fs::set_permissions(&new, Permissions::from_mode(0o600))?;
    std::fs::rename(&new, path)?;
    Ok(listener)
}

fn router(live: Arc<dyn Live>) -> Router {
    Router::new()
        .route(
            "/livez",
            get(|Extract(live): Extract<Arc<dyn Live>>| async move { verdict(live.alive()) }),
        )
        .route(
            "/readyz",
            get(|Extract(live): Extract<Arc<dyn Live>>| async move { verdict(live.ready()) }),
        )
        .route(
            "/state",
            get(|Extract(live): Extract<Arc<dyn Live>>| async move { Json(live.state()) }),
        )
        .route("/metrics", get(exposition))
        .with_state(live)
}

fn verdict(result: Result<(), String>) -> (StatusCode, String) {
    match result {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

async fn packets(Extract(live): Extract<Arc<dyn Live>>) -> impl IntoResponse {
    const PCAPNG: [(header::HeaderName, &str); 1] =
        [(header::CONTENT_TYPE, "application/x-pcapng")];
    match live.recent_packets() {
        Ok(file) => (PCAPNG, file).into_response(),
        Err(why) => (StatusCode::INTERNAL_SERVER_ERROR, why).into_response(),
    }
}

async fn exposition(Extract(live): Extract<Arc<dyn Live>>) -> impl IntoResponse {
    let text = metrics::exposition(&live.state(), metrics::PerPeer::Auto);
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text)
}

#[cfg(test)]
pub(crate) mod tests;
