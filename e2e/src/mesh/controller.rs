//! The controller's machine: the program, its API, and what an operator does there.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use kube::Client;
use kube::api::{Api, PostParams};

use super::PATIENCE;
use crate::client::speak;
use crate::lab::{Lab, Node, Process, until};
use crate::oracle::POOLS;

const PORT: u16 = 6443;
const GATEWAY: u16 = 8444;

pub struct Controller {
    process: Option<Process>,
    node: Node,
    dir: PathBuf,
}

impl Controller {
    pub fn new(lab: &Lab) -> anyhow::Result<Self> {
        let node = lab.node("control")?;
        let dir = node.dir().join("api");
        Ok(Self { process: None, node, dir })
    }

    pub fn node(&self) -> &Node {
        &self.node
    }

    pub fn process(&self) -> Option<&Process> {
        self.process.as_ref()
    }

    /// The kubeconfig of the operator.
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.join("admin.kubeconfig")
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.node.address().v4.into(), PORT)
    }

    /// Where machines join.
    pub fn gateway(&self) -> SocketAddr {
        SocketAddr::new(self.node.address().v4.into(), GATEWAY)
    }

    pub fn gateway_url(&self) -> String {
        format!("https://{}", self.gateway())
    }

    /// Starts the program and waits until it answers.
    pub fn start(&mut self) -> anyhow::Result<Duration> {
        self.start_with(&[])
    }

    /// The same with more flags.
    pub fn start_with(&mut self, flags: &[&str]) -> anyhow::Result<Duration> {
        let command = self.node.command("hawser-controller");
        let command = command.arg("--embedded").arg(&self.dir);
        let command = command.arg("--listen").arg(self.address().to_string());
        let command = command.arg("--gateway").arg(self.gateway().to_string());
        self.process = Some(command.args(flags).spawn()?);
        let answers =
            until(PATIENCE, || self.api(async |client| Ok(client.apiserver_version().await?)).ok());
        let last_words = || self.process.as_ref().map(Process::last_words).unwrap_or_default();
        let (_, took) = answers.with_context(|| format!("no API: {}", last_words()))?;
        Ok(took)
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Speaks to the API as the operator.
    pub fn api<T, F>(&self, work: F) -> anyhow::Result<T>
    where
        T: Send + 'static,
        F: AsyncFnOnce(Client) -> anyhow::Result<T> + Send + 'static,
    {
        speak(self.node.namespace(), &self.kubeconfig(), work)
    }

    /// Creates the Mesh that every test and the demo use, if there is none yet.
    pub fn create_mesh(&self) -> anyhow::Result<()> {
        self.api(create_mesh).context("creating the Mesh")
    }

    /// `hawser nodes add`: what the agent's `--source` takes.
    pub fn add_node(&self, name: &str) -> anyhow::Result<String> {
        let file = self.node.dir().join(format!("{name}.kubeconfig"));
        let add = self.hawser().args(["nodes", "add", name, "--out"]).arg(&file);
        add.stdout().with_context(|| format!("adding {name}"))?;
        Ok(format!("kube:{}", file.display()))
    }

    /// The CLI on this machine, as the operator.
    pub fn hawser(&self) -> crate::lab::Command {
        self.node.command("hawser").env("KUBECONFIG", self.kubeconfig())
    }

    /// All MeshNodes.
    pub fn nodes(&self) -> anyhow::Result<Vec<api::MeshNode>> {
        self.api(async |client| {
            let all = Api::<api::MeshNode>::all(client);
            Ok(all.list(&kube::api::ListParams::default()).await?.items)
        })
    }
}

/// Creates [`mesh`], if there is none yet.
pub async fn create_mesh(client: Client) -> anyhow::Result<()> {
    match Api::<api::Mesh>::all(client).create(&PostParams::default(), &mesh()).await {
        Err(kube::Error::Api(refusal)) if refusal.code == 409 => Ok(()),
        other => Ok(other.map(drop)?),
    }
}

/// What every test and the demo use: two pools, WireGuard, nothing in clear.
pub(super) fn mesh() -> api::Mesh {
    let pool = |cidr: &str, length| api::Pool {
        cidr: cidr.to_owned(),
        node_prefix_length: length,
        name: None,
    };
    let pools = vec![pool(POOLS[0], 24), pool(POOLS[1], 64)];
    let spec = api::MeshSpec { pools, ..api::MeshSpec::default() };
    api::Mesh::new(api::MESH, spec)
}
