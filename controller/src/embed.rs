//! The embedded API in this process, and a client of it that is like any other.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use api::{Mesh, MeshSpec, Pool};
use embedded::{Authority, Options, Server};
use kube::api::PostParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tracing::info;

/// A running server; it stops when `stop` is told.
pub struct Embedded {
    pub client: Client,
    /// What the gateway in front of it signs with.
    pub gateway_authority: Arc<Authority>,
    stop: oneshot::Sender<()>,
    served: JoinHandle<Result<(), embedded::ServeError>>,
}

/// How to start one.
pub struct Start {
    pub dir: PathBuf,
    pub listener: TcpListener,
    pub names: Vec<String>,
}

impl Embedded {
    /// Starts the server and waits until it answers.
    pub async fn start(start: Start) -> anyhow::Result<Embedded> {
        let Start { dir, listener, names } = start;
        let options = Options { crds: api::crds(), names };
        let server = Server::open(&dir, options)
            .with_context(|| format!("opening the store in {}", dir.display()))?;
        let kubeconfig = server.kubeconfig();
        let gateway_authority = server.gateway_authority();
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(server.serve(listener, async {
            // A sender that is gone means the same as one that says so.
            let _ = stopped.await;
        }));
        // The file may be from an earlier start until the server has written it anew.
        for _ in 0..100 {
            if served.is_finished() {
                break;
            }
            if let Ok(client) = client_from(&kubeconfig).await
                && client.apiserver_version().await.is_ok()
            {
                return Ok(Embedded { client, gateway_authority, stop, served });
            }
            sleep(Duration::from_millis(50)).await;
        }
        if served.is_finished() {
            served.await.context("serving")??;
        }
        bail!("the embedded API does not answer; see the log")
    }

    /// Resolves if the server ends by itself.
    pub async fn ended(&mut self) -> anyhow::Result<()> {
        (&mut self.served).await.context("serving the embedded API")??;
        Ok(())
    }

    /// Ends watches and requests cleanly.
    pub async fn stop(self) -> anyhow::Result<()> {
        // If the server is gone already, its outcome says why.
        let _ = self.stop.send(());
        self.served.await.context("serving the embedded API")??;
        Ok(())
    }
}

/// A client as the kubeconfig says.
pub async fn client_from(kubeconfig: &std::path::Path) -> anyhow::Result<Client> {
    let file = Kubeconfig::read_from(kubeconfig)
        .with_context(|| format!("reading {}", kubeconfig.display()))?;
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
        .await
        .with_context(|| format!("using {}", kubeconfig.display()))?;
    Client::try_from(config).context("making a client")
}

/// Makes the Mesh if there is none.
pub async fn ensure_mesh(client: &Client, pools: Vec<Pool>) -> anyhow::Result<()> {
    let api: Api<Mesh> = Api::all(client.clone());
    if api.get_opt(api::MESH).await.context("looking for the Mesh")?.is_some() {
        return Ok(());
    }
    let spec = MeshSpec { pools, ..MeshSpec::default() };
    match api.create(&PostParams::default(), &Mesh::new(api::MESH, spec)).await {
        Ok(_) => {
            info!("mesh created");
            Ok(())
        }
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        Err(error) => Err(error).context("making the Mesh; are the pools right?"),
    }
}
