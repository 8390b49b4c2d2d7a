//! The gateway: one TLS port through which machines outside of the cluster take part in the mesh,
//! and never see the API server.
//!
//! ```text
//! machine ──TLS 1.3──▶ connection ─┬─ no certificate ─▶ entry: /join ─▶ admission (pure), audit
//!                                  ├─ certificate ────▶ entry: /renew
//!                                  └─ certificate ────▶ door: list, watch ◀─ feed ◀─ follow ◀─ API
//!                                                         └─ own status ───────────────────▶ API
//! ```
//! Replicas share nothing but the API and the authority: any of them answers anybody.

mod admission;
mod announce;
mod answer;
mod audit;
mod door;
mod entry;
mod feed;
mod follow;
mod limits;
mod listener;
mod members;
mod tls;
mod watch;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use embedded::Authority;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::net::TcpListener;
use tracing::info;

use audit::Audit;
use door::Door;
use entry::Entry;
use follow::Feeds;
use listener::Hall;
use members::Members;

/// Where the authority is kept in a cluster: all replicas have the same.
const SECRET: &str = "hawser-gateway-authority";
const SECRET_KEY: &str = "authority.json";

/// How a gateway is reached and what it gives out.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Who it is, in events.
    pub identity: String,
    /// How machines reach it; empty: at the listener's own address.
    pub urls: Vec<String>,
    /// How long a certificate lives.
    pub life: Duration,
}

/// A gateway that listens and does not answer yet.
pub struct Gateway {
    listener: TcpListener,
    authority: Arc<Authority>,
    settings: Settings,
}

impl Gateway {
    pub fn new(listener: TcpListener, authority: Arc<Authority>, settings: Settings) -> Gateway {
        Gateway { listener, authority, settings }
    }

    /// Answers until dropped.
    pub async fn run(self, client: Client) -> anyhow::Result<()> {
        let Gateway { listener, authority, settings: Settings { identity, urls, life } } = self;
        let address = listener.local_addr().context("the gateway's listener")?;
        let pin = api::join::hex(&api::join::pin(authority.certificate()));
        let announced = api::Gateway { urls: urls_or(urls, address), authority: pin };
        info!(%address, urls = ?announced.urls, "gateway open");
        let feeds = Arc::new(Feeds::new(Arc::new(Members::new())));
        let config = Arc::new(tls::server_config(&authority)?);
        let audit = Audit::new(client.clone(), &identity);
        let signing = (authority, life);
        let entry = Entry::new(client.clone(), Arc::clone(&feeds), signing, audit);
        let door = Door { feeds: Arc::clone(&feeds), client: client.clone() };
        tokio::select! {
            () = follow::follow(client.clone(), Arc::clone(&feeds)) => {}
            () = announce::announce(client, feeds, announced) => {}
            () = listener::serve(listener, config, Hall::new(entry, door)) => {}
        }
        Ok(())
    }
}

fn urls_or(urls: Vec<String>, address: SocketAddr) -> Vec<String> {
    if urls.is_empty() && !address.ip().is_unspecified() {
        return vec![format!("https://{address}")];
    }
    urls
}

/// The authority of a cluster's gateways: made by the first, read by all.
pub async fn authority_of_cluster(client: &Client) -> anyhow::Result<Arc<Authority>> {
    let secrets: Api<Secret> = Api::default_namespaced(client.clone());
    for _ in 0..2 {
        if let Some(secret) = secrets.get_opt(SECRET).await.context("reading its Secret")? {
            let kept = secret.data.unwrap_or_default().remove(SECRET_KEY);
            let kept = kept.with_context(|| format!("the Secret {SECRET} has no {SECRET_KEY}"))?;
            return Ok(Arc::new(Authority::open(&kept.0, Vec::new())?));
        }
        let mut secret = Secret::default();
        secret.metadata.name = Some(SECRET.to_owned());
        let kept = ByteString(Authority::create(embedded::GATEWAY)?);
        secret.data = Some([(SECRET_KEY.to_owned(), kept)].into());
        match secrets.create(&PostParams::default(), &secret).await {
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            made => drop(made.context("making its Secret")?),
        }
    }
    anyhow::bail!("the Secret {SECRET} comes and goes; who deletes it?")
}
