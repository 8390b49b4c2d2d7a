//! From the command line to running parts, and back to an end on SIGTERM.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use k8s_openapi::api::core::v1::Node as KubeNode;
use kube::api::ListParams;
use kube::{Api, Client};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::{info, warn};

use crate::args::{Command, Run};
use crate::embed::{self, Embedded, Start};
use crate::gateway::{self, Gateway};
use crate::metrics::Metrics;
use crate::reconcile::{self, Settings};
use crate::{admin, lease};

/// How long the API may take when the controller ends.
const GRACE: Duration = Duration::from_secs(2);

/// Runs the controller until SIGTERM or SIGINT.
pub async fn run(args: Run) -> anyhow::Result<()> {
    let Run {
        embedded,
        listen,
        tls_san,
        pool,
        kubeconfig,
        identity,
        gateway,
        gateway_url,
        certificate_life,
        admin,
        log_json: _,
    } = args;
    let identity = identity.unwrap_or_else(hostname);
    let gateway = match gateway {
        Some(address) => Some(bind(address).await?),
        None => None,
    };
    let doorway =
        gateway::Settings { identity: identity.clone(), urls: gateway_url, life: certificate_life };
    let Some(dir) = embedded else {
        let client = match kubeconfig {
            Some(file) => embed::client_from(&file).await?,
            None => Client::try_default().await.context("finding the cluster")?,
        };
        let mut settings = Settings::new(identity);
        settings.mirror = has_machines(&client).await;
        let gateway = match gateway {
            Some(listener) => {
                let authority = gateway::authority_of_cluster(&client).await;
                let authority = authority.context("the gateway's authority")?;
                Some(Gateway::new(listener, authority, doorway))
            }
            None => None,
        };
        return control_cluster(client, settings, Ports { admin, gateway }).await;
    };
    let listener = bind(listen).await?;
    let start = Start { dir, listener, names: tls_san };
    let mut server = Embedded::start(start).await?;
    let pools = pool.into_iter().map(|pool| pool.0).collect();
    let client = server.client.clone();
    let authority = Arc::clone(&server.gateway_authority);
    let gateway = gateway.map(|listener| Gateway::new(listener, authority, doorway));
    tokio::select! {
        failed = control_embedded(client, identity, Ports { admin, gateway }, pools) => failed?,
        ended = server.ended() => return ended,
        ended = asked_to_end() => ended?,
    }
    info!("stopping");
    server.stop().await
}

async fn control_cluster(client: Client, settings: Settings, ports: Ports) -> anyhow::Result<()> {
    let identity = settings.identity.clone();
    tokio::select! {
        failed = Box::pin(control(client.clone(), settings, ports)) => failed?,
        ended = asked_to_end() => ended?,
    }
    info!("stopping");
    match timeout(GRACE, lease::release(client, &identity)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => warn!(%error, "lease not given up; it ends by itself"),
        Err(_) => warn!("lease not given up in time; it ends by itself"),
    }
    Ok(())
}

async fn control_embedded(
    client: Client,
    identity: String,
    ports: Ports,
    pools: Vec<api::Pool>,
) -> anyhow::Result<()> {
    embed::ensure_mesh(&client, pools).await?;
    Box::pin(control(client, Settings::new(identity), ports)).await
}

/// What is open to others.
struct Ports {
    admin: Option<SocketAddr>,
    gateway: Option<Gateway>,
}

/// Lease, reconciler, admin port and gateway, until dropped.
async fn control(
    client: Client,
    settings: Settings,
    Ports { admin, gateway }: Ports,
) -> anyhow::Result<()> {
    let metrics = Arc::new(Metrics::default());
    let (hold, active) = watch::channel(false);
    let (went_back, restores) = watch::channel(0);
    let lease = lease::run(client.clone(), settings.identity.clone(), (hold, went_back));
    let admin = serve_admin(admin, Arc::clone(&metrics));
    let open = serve_gateway(gateway, client.clone());
    let reconcile = reconcile::run(client, settings, active, restores, metrics);
    let others = async { tokio::join!(lease, reconcile, admin) };
    tokio::select! {
        _ = others => Ok(()),
        failed = open => failed,
    }
}

async fn serve_gateway(gateway: Option<Gateway>, client: Client) -> anyhow::Result<()> {
    match gateway {
        Some(gateway) => gateway.run(client).await.context("serving the gateway"),
        None => std::future::pending().await,
    }
}

/// On a machine without IPv6, `[::]` stands for every address that it has.
async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let bound = match TcpListener::bind(address).await {
        Err(_) if address.ip() == IpAddr::from(Ipv6Addr::UNSPECIFIED) => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await
        }
        other => other,
    };
    bound.with_context(|| format!("listening on {address}"))
}

async fn serve_admin(address: Option<SocketAddr>, metrics: Arc<Metrics>) {
    let Some(address) = address else {
        return;
    };
    let served = async {
        let listener = TcpListener::bind(address).await?;
        admin::serve(listener, metrics).await
    };
    // The mesh is worth more than its metrics.
    if let Err(error) = served.await {
        warn!(%address, error = format!("{error:#}"), "no /metrics");
    }
}

/// Backup and restore of an embedded directory.
pub async fn command(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Backup { dir, out } => {
            embedded::backup(&dir, &out).await.context("backing up")?;
            say(&format!("{} written", out.display()))
        }
        Command::Restore { dir, from } => {
            let now = jiff::Timestamp::now();
            let report = embedded::restore(&dir, &from, now).context("restoring")?;
            say(&told(&report))
        }
    }
}

/// A restore in words. Pure.
fn told(report: &embedded::RestoreReport) -> String {
    let embedded::RestoreReport {
        claims_carried_over,
        nodes_returned,
        allocation_paused,
        replaced,
    } = report;
    let mut lines = vec!["restored".to_owned()];
    if *claims_carried_over > 0 {
        lines.push(format!("{claims_carried_over} newer subnet claims are kept"));
    }
    if !nodes_returned.is_empty() {
        lines.push(format!(
            "nodes that were gone and are back with the tokens they had: {}",
            nodes_returned.join(", ")
        ));
    }
    if *allocation_paused {
        lines.push(format!(
            "subnets given out after the backup are unknown, so no new ones are given out; once \
             each machine is known or gone, run: kubectl annotate mesh default {}-",
            embedded::RESTORED_AT
        ));
    }
    if let Some(aside) = replaced {
        lines.push(format!("what was there before is kept in {}", aside.display()));
    }
    lines.join("\n")
}

/// One line on standard output: the result, as against the log.
fn say(line: &str) -> anyhow::Result<()> {
    use std::io::Write;
    writeln!(std::io::stdout(), "{line}").context("writing to standard output")
}

async fn asked_to_end() -> anyhow::Result<()> {
    let mut term = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    tokio::select! {
        _ = term.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// Whether this API has Kubernetes Nodes at all; an embedded one has not.
async fn has_machines(client: &Client) -> bool {
    let machines: Api<KubeNode> = Api::all(client.clone());
    let answer = machines.list(&ListParams::default().limit(1)).await;
    !matches!(answer, Err(kube::Error::Api(status)) if status.code == 404)
}

fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
