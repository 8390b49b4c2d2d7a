//! A whole cluster on this machine: three nodes with containerd, kubelet and kube-proxy, made and
//! taken away by `cluster.sh`, and the chart as it is rendered for it.
//!
//! A node is a network namespace `k8s-n1` … and a mount namespace; its pods' processes are this
//! machine's, so the programs of this machine can be run in a pod's network.

mod machine;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::fs::{FlockOperation, flock};
use rustix::process::Pid;
use serde_json::Value;
use tempfile::TempDir;

use super::NAMESPACE;
use crate::lab::{bin_dir, until};

pub const NODES: [&str; 3] = ["n1", "n2", "n3"];
pub const IMAGE: &str = "localhost/hawser:dev";
/// What the chart is installed with.
const VALUES: &str = include_str!("../../../deploy/charts/snapshots/lab.values.yaml");
const AUDIT: &str = r#"{"apiVersion": "audit.k8s.io/v1", "kind": "Policy",
    "omitStages": ["RequestReceived", "ResponseStarted"],
    "rules": [{"level": "Metadata", "userGroups": ["system:serviceaccounts:hawser"]},
              {"level": "None"}]}"#;
const LIMIT: Duration = Duration::from_secs(120);

/// The InternalIP of `n1` and so on.
pub fn internal_ip(node: &str) -> String {
    format!("10.231.0.1{}", node.trim_start_matches('n'))
}

pub struct Kubelets {
    scripts: PathBuf,
    dir: TempDir,
    /// Last, so that it is let go when the cluster is down: its namespaces have fixed names, and a
    /// second cluster would take them from the first.
    _alone: File,
}

impl Kubelets {
    /// Starts it without any network plugin, with our image in each containerd.
    pub fn start(scripts: PathBuf) -> anyhow::Result<Self> {
        let dir = TempDir::new().context("making a directory")?;
        let this = Self { scripts, dir, _alone: alone()? };
        let image = pack_image(this.dir.path())?;
        run(&mut this.script("down"))?;
        std::fs::write(this.dir.path().join("audit.yaml"), AUDIT).context("writing a policy")?;
        let log = this.audit_log();
        let policy = this.dir.path().join("audit.yaml");
        let arguments =
            format!("--audit-policy-file={} --audit-log-path={}", policy.display(), log.display());
        run(this.script("up").env("APIARGS", arguments))?;
        for node in NODES {
            let import = ["-n", "k8s.io", "image", "import"];
            run(this.ctr(node)?.args(import).arg(&image))?;
        }
        Ok(this)
    }

    /// A line for each answered request of our service accounts.
    pub fn audit_log(&self) -> PathBuf {
        self.dir.path().join("audit.log")
    }

    /// The reference bridge plugin with static routes, where there is no other network.
    pub fn use_the_bridge(&self) -> anyhow::Result<()> {
        run(&mut self.script("cni")).map(drop)
    }

    /// The CLI on a machine outside of the cluster, as its admin.
    pub fn hawser(&self) -> Command {
        let program = bin_dir().join("hawser");
        outside(&[&program.display().to_string(), "--kubeconfig", &self.kubeconfig()])
    }

    /// Helm, likewise.
    pub fn helm(&self) -> Command {
        outside(&["helm", "--kubeconfig", &self.kubeconfig(), "--namespace", NAMESPACE])
    }

    fn kubeconfig(&self) -> String {
        self.state().join("admin.kubeconfig").display().to_string()
    }

    /// A file with the values for this cluster.
    pub fn values(&self) -> anyhow::Result<PathBuf> {
        let file = self.dir.path().join("values.yaml");
        std::fs::write(&file, VALUES).context("writing the values")?;
        Ok(file)
    }

    /// `hawser install`, and nothing is waited for.
    pub fn install(&self) -> anyhow::Result<()> {
        self.install_with(&[])
    }

    /// The same, with more flags.
    pub fn install_with(&self, flags: &[&str]) -> anyhow::Result<()> {
        let values = self.values()?;
        let mut command = self.hawser();
        command.args(["install", "--wait=0s", "--values"]).arg(values).args(flags);
        run(&mut command).map(drop)
    }

    /// The script's own, which it makes anew.
    fn state(&self) -> PathBuf {
        self.dir.path().join("cluster")
    }

    fn script(&self, verb: &str) -> Command {
        let mut command = Command::new(self.scripts.join("cluster.sh"));
        command.arg(verb).env("DIR", self.state());
        command
    }

    /// kubectl as the cluster's admin; words are separated by single spaces.
    pub fn kubectl(&self, words: &str) -> anyhow::Result<String> {
        run(self.script("kubectl").args(words.split(' ')))
    }

    pub fn json(&self, words: &str) -> anyhow::Result<Value> {
        serde_json::from_str(&self.kubectl(&format!("{words} -o json"))?).context("reading JSON")
    }

    /// Creates or changes objects.
    pub fn apply(&self, objects: &str) -> anyhow::Result<()> {
        let file = self.dir.path().join("objects.yaml");
        std::fs::write(&file, objects).context("writing objects")?;
        self.kubectl(&format!("apply --validate=false -f {}", file.display())).map(drop)
    }

    /// Deletes objects, as `helm uninstall` would.
    pub fn delete(&self, objects: &str) -> anyhow::Result<()> {
        let file = self.dir.path().join("objects.yaml");
        std::fs::write(&file, objects).context("writing objects")?;
        self.kubectl(&format!("delete --ignore-not-found -f {}", file.display())).map(drop)
    }

    /// A node's view of one of its own directories.
    pub fn path(&self, node: &str, path: &str) -> PathBuf {
        self.state().join("nodes").join(node).join(path.trim_start_matches('/'))
    }

    fn holder(&self, node: &str) -> anyhow::Result<String> {
        let file = self.path(node, "holder.pid");
        let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        Ok(text.trim().to_owned())
    }

    fn ctr(&self, node: &str) -> anyhow::Result<Command> {
        let home = PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?);
        let kube = std::env::var_os("HAWSER_KUBE").map(PathBuf::from);
        let ctr = kube.unwrap_or(home.join(".cache/hawser-kube")).join("rt/usr/bin/ctr");
        let mut command = Command::new("nsenter");
        command.args(["-m", "-n", "-t", &self.holder(node)?, "--"]).arg(&ctr);
        command.args(["-a", "/run/containerd/containerd.sock"]);
        Ok(command)
    }

    /// A program of this machine in a node's network.
    pub fn on_node(&self, node: &str, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/k8s-{node}")).arg("--").args(words);
        command
    }

    /// A program in a node's network and with its view of the disk.
    pub fn inside(&self, node: &str, words: &[&str]) -> anyhow::Result<Command> {
        let mut command = Command::new("nsenter");
        command.args(["-m", "-n", "-t", &self.holder(node)?, "--"]).args(words);
        Ok(command)
    }

    /// The API server's process.
    pub fn api_server(&self) -> anyhow::Result<Pid> {
        let file = self.state().join("apiserver.pid");
        let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        Pid::from_raw(text.trim().parse().context("reading a process id")?).context("no process")
    }

    /// The process of a pod's first container.
    pub fn process_of(&self, node: &str, pod: &str) -> anyhow::Result<String> {
        let pod = self.json(&format!("get pod {pod}"))?;
        let id = pod["status"]["containerStatuses"][0]["containerID"].as_str();
        let id = id.and_then(|id| id.strip_prefix("containerd://")).context("no container")?;
        let tasks = run(self.ctr(node)?.args(["-n", "k8s.io", "task", "ls"]))?;
        let task = tasks.lines().find(|line| line.starts_with(id)).context("no task")?;
        Ok(task.split_whitespace().nth(1).context("no process")?.to_owned())
    }

    /// How many of these have the condition Ready.
    pub fn ready(&self, what: &str) -> anyhow::Result<usize> {
        let all = self.json(&format!("get {what}"))?;
        let is_ready = |one: &&Value| {
            let conditions = one["status"]["conditions"].as_array();
            conditions.into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True")
        };
        Ok(all["items"].as_array().into_iter().flatten().filter(is_ready).count())
    }

    /// Waits until `count` of these are Ready; else the agents' last words are the error.
    pub fn wait_ready(&self, what: &str, count: usize) -> anyhow::Result<()> {
        let ready = || (self.ready(what).ok()? == count).then_some(());
        if until(LIMIT, ready).is_some() {
            return Ok(());
        }
        let pods = self.kubectl("get pods -A -o wide")?;
        let logs = format!("logs -n {NAMESPACE} -l app.kubernetes.io/name=hawser --tail=20");
        anyhow::bail!("not all {what} are ready\n{pods}\n{}", self.kubectl(&logs)?)
    }
}

impl Drop for Kubelets {
    fn drop(&mut self) {
        if let Err(error) = run(&mut self.script("down")) {
            eprintln!("the cluster does not stop: {error:#}");
        }
    }
}

/// Waits until no other cluster runs on this machine.
fn alone() -> anyhow::Result<File> {
    let path = std::env::temp_dir().join("hawser-cluster.lock");
    let what = || format!("locking {}", path.display());
    let file = File::create(&path).with_context(what)?;
    flock(&file, FlockOperation::LockExclusive).with_context(what)?;
    Ok(file)
}

/// A program on the machine of the control plane.
fn outside(words: &[&str]) -> Command {
    let mut command = Command::new("nsenter");
    command.arg("--net=/run/netns/k8s-cp").arg("--").args(words);
    command
}

/// Runs to the end; what it said is the error.
pub fn run(command: &mut Command) -> anyhow::Result<String> {
    let Output { status, stdout, stderr } =
        command.output().with_context(|| format!("starting {command:?}"))?;
    let text = String::from_utf8_lossy(&stdout).into_owned();
    ensure!(status.success(), "{command:?}: {text}{}", String::from_utf8_lossy(&stderr));
    Ok(text)
}

fn pack_image(dir: &Path) -> anyhow::Result<PathBuf> {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/image");
    let (files, image) = (dir.join("files"), dir.join("hawser.tar"));
    run(Command::new(tools.join("gather")).arg(bin_dir()).arg(&files))?;
    println!("{}", run(Command::new(tools.join("pack")).args([&files, &image]).arg(IMAGE))?);
    Ok(image)
}
