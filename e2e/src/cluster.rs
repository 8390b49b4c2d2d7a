//! A real Kubernetes API server (1.20, etcd, RBAC) on a machine of a lab.
//!
//! `HAWSER_KUBE_SCRIPTS` names the folder with `cp.sh`, which starts and stops it. Without it the
//! tests of the cluster level skip, and say so; `HAWSER_REQUIRE_CLUSTER=1` makes that an error.
//! Rights are those of the chart, as rendered with its defaults.

pub mod kubelets;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ListParams, PostParams};
use kube::config::Kubeconfig;
use kube::{Client, ResourceExt as _};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::client::speak;
use crate::lab::{Command, Lab, Node, until};

/// What the chart renders with its defaults, in the namespace `hawser`.
const RENDERED: &str = include_str!("../../deploy/charts/snapshots/default.yaml");
/// The same with the gateway.
const GATEWAY: &str = include_str!("../../deploy/charts/snapshots/gateway.yaml");
/// Of that, what says who may do what.
const RIGHTS: [&str; 5] =
    ["ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"];
/// The release's namespace in it.
pub const NAMESPACE: &str = "hawser";

const PATIENCE: Duration = Duration::from_secs(30);

/// The folder of scripts; `None`, said aloud, where there is none.
pub fn scripts() -> anyhow::Result<Option<PathBuf>> {
    if let Some(scripts) = std::env::var_os("HAWSER_KUBE_SCRIPTS") {
        return Ok(Some(scripts.into()));
    }
    let required = std::env::var_os("HAWSER_REQUIRE_CLUSTER").is_some_and(|value| value == "1");
    ensure!(!required, "HAWSER_REQUIRE_CLUSTER=1, but HAWSER_KUBE_SCRIPTS names no scripts");
    eprintln!("skipped (level cluster): HAWSER_KUBE_SCRIPTS is not set, so there is no API server");
    Ok(None)
}

pub struct ApiServer {
    scripts: PathBuf,
    state: PathBuf,
    node: Node,
}

impl ApiServer {
    /// Starts it with our resources and the chart's service accounts and rights installed.
    pub fn start(lab: &Lab, scripts: PathBuf) -> anyhow::Result<Self> {
        let node = lab.node("control")?;
        let server = Self { scripts, state: node.dir().join("server"), node };
        server.script("start")?;
        server.install_resources()?;
        server.install_rights().context("applying the chart's rights")?;
        Ok(server)
    }

    /// The kubeconfig of the cluster's admin.
    pub fn kubeconfig(&self) -> PathBuf {
        self.state.join("admin.kubeconfig")
    }

    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Speaks to the API as the cluster's admin.
    pub fn api<T, F>(&self, work: F) -> anyhow::Result<T>
    where
        T: Send + 'static,
        F: AsyncFnOnce(Client) -> anyhow::Result<T> + Send + 'static,
    {
        speak(self.node.namespace(), &self.kubeconfig(), work)
    }

    /// kubectl on the server's machine, with somebody's kubeconfig.
    pub fn kubectl(&self, kubeconfig: &Path) -> Command {
        self.node.command("kubectl").arg("--kubeconfig").arg(kubeconfig)
    }

    /// A kubeconfig with the rights of one of the chart's service accounts.
    pub fn kubeconfig_of(&self, account: &str) -> anyhow::Result<PathBuf> {
        let create = self.kubectl(&self.kubeconfig()).args(["create", "token", account, "-n"]);
        let token = create.arg(NAMESPACE).stdout()?;
        let admin = Kubeconfig::read_from(self.kubeconfig()).context("reading the kubeconfig")?;
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "x",
            "clusters": admin.clusters,
            "users": [{"name": "u", "user": {"token": token.trim()}}],
            "contexts": [{"name": "x", "context": {
                "cluster": admin.clusters[0].name, "user": "u", "namespace": NAMESPACE,
            }}],
        });
        let path = self.node.dir().join(format!("{account}.kubeconfig"));
        std::fs::write(&path, config.to_string())
            .with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }

    /// What the chart adds for the gateway: its Service, and the controllers' right to its Secret.
    pub fn install_gateway(&self) -> anyhow::Result<()> {
        let whose = ["  name: hawser-gateway\n", "  name: hawser-controller-gateway\n"];
        let of_gateway = |text: &&str| whose.iter().any(|name| text.contains(name));
        let all: Vec<&str> = GATEWAY.split("---\n").filter(of_gateway).collect();
        ensure!(all.len() == 3, "the chart has {} objects for the gateway", all.len());
        let create = self.kubectl(&self.kubeconfig()).args(["create", "-f", "-"]);
        create.input(all.join("---\n")).stdout().map(drop)
    }

    fn install_rights(&self) -> anyhow::Result<()> {
        let is_right = |text: &&str| {
            let kind = text.lines().find_map(|line| line.strip_prefix("kind: "));
            let hook = text.contains("helm.sh/hook:");
            !hook && kind.is_some_and(|kind| RIGHTS.contains(&kind))
        };
        let namespace =
            format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {NAMESPACE}}}\n");
        let rights = RENDERED.split("---\n").filter(is_right);
        let all: Vec<&str> = std::iter::once(namespace.as_str()).chain(rights).collect();
        let create = self.kubectl(&self.kubeconfig()).args(["create", "-f", "-"]);
        create.input(all.join("---\n")).stdout().map(drop)
    }

    fn script(&self, verb: &str) -> anyhow::Result<()> {
        let script = self.scripts.join("cp.sh");
        let inside = format!("nsenter --net={}", self.node.namespace().path().display());
        let status = std::process::Command::new(&script)
            .arg(verb)
            .env("DIR", &self.state)
            .env("IP", self.node.address().v4.to_string())
            .envs([("PORT", "6443"), ("EPORT", "2379"), ("NSX", &inside)])
            .stdout(Stdio::null())
            .status()
            .with_context(|| format!("starting {}", script.display()))?;
        ensure!(status.success(), "{} {verb}: {status}", script.display());
        Ok(())
    }

    /// What its store holds at this moment, as after a crash.
    pub fn back_up(&self) -> anyhow::Result<PathBuf> {
        let file = self.state.join("etcd.pid");
        let text = std::fs::read_to_string(&file).context("reading etcd's process id")?;
        let etcd = Pid::from_raw(text.trim().parse()?).context("no process")?;
        let backup = self.node.dir().join("backup");
        kill_process(etcd, Signal::STOP).context("stopping etcd")?;
        let copied = copy(&self.state.join("etcd"), &backup);
        kill_process(etcd, Signal::CONT).context("continuing etcd")?;
        copied.map(|()| backup)
    }

    /// Starts again from what the store held then.
    pub fn restore(&self, backup: &Path) -> anyhow::Result<()> {
        self.script("stop")?;
        let store = self.state.join("etcd");
        std::fs::remove_dir_all(&store).context("removing the store")?;
        copy(backup, &store)?;
        self.script("start")
    }

    fn install_resources(&self) -> anyhow::Result<()> {
        self.api(async |client| {
            let api = Api::<CustomResourceDefinition>::all(client);
            for crd in api::crds() {
                let made = api.create(&PostParams::default(), &crd).await;
                made.with_context(|| format!("creating {}", crd.name_any()))?;
            }
            Ok(())
        })?;
        until(PATIENCE, || self.api(are_served).ok()).context("our resources are not served")?;
        Ok(())
    }
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let status = std::process::Command::new("cp").arg("-a").args([from, to]).status();
    ensure!(status.context("starting cp")?.success(), "copying {}", from.display());
    Ok(())
}

async fn are_served(client: Client) -> anyhow::Result<()> {
    let one = ListParams::default().limit(1);
    Api::<api::Mesh>::all(client.clone()).list(&one).await?;
    Api::<api::MeshNode>::all(client.clone()).list(&one).await?;
    Api::<api::MeshPeer>::all(client.clone()).list(&one).await?;
    Api::<api::SubnetClaim>::all(client.clone()).list(&one).await?;
    Api::<api::JoinToken>::all(client.clone()).list(&one).await?;
    Api::<api::KeyRotation>::all(client).list(&one).await?;
    Ok(())
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            print_end(&self.state.join("apiserver.log"));
        }
        if let Err(error) = self.script("stop") {
            eprintln!("the API server does not stop: {error:#}");
        }
    }
}

fn print_end(log: &Path) {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    eprintln!("--- {}\n{}", log.display(), lines[lines.len().saturating_sub(20)..].join("\n"));
}
