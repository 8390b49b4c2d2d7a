//! A whole cluster of three nodes, kubelets and containerd and all: the chart's objects are applied,
//! and pods reach pods.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use e2e::cluster::{NAMESPACE, scripts};
use e2e::lab::{bin_dir, until};
use serde_json::Value;
use tempfile::TempDir;

const NODES: [&str; 3] = ["n1", "n2", "n3"];
const LIMIT: Duration = Duration::from_secs(120);
const IMAGE: &str = "localhost/hawser:dev";
/// The chart as it is rendered for this cluster (e2e/charts.py says with which values).
const RENDERED: &str = "deploy/charts/snapshots/lab.yaml";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn run(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = String::from_utf8_lossy(&stdout).into_owned();
    assert!(status.success(), "{command:?}: {text}{}", String::from_utf8_lossy(&stderr));
    text
}

/// Three nodes in namespaces `k8s-*`, made and taken away by `cluster.sh`.
struct Cluster {
    scripts: PathBuf,
    dir: TempDir,
}

impl Cluster {
    fn start(scripts: PathBuf) -> Self {
        let this = Self { scripts, dir: TempDir::new().unwrap() };
        run(&mut this.script("down"));
        run(&mut this.script("up"));
        this
    }

    fn script(&self, verb: &str) -> Command {
        let mut command = Command::new(self.scripts.join("cluster.sh"));
        command.arg(verb).env("DIR", self.dir.path());
        command
    }

    fn kubectl(&self, words: &str) -> String {
        run(self.script("kubectl").args(words.split(' ')))
    }

    /// Into each node's containerd, as an air-gapped site would.
    fn import(&self, image: &Path) {
        let home = PathBuf::from(std::env::var_os("HOME").unwrap());
        let kube = std::env::var_os("HAWSER_KUBE").map(PathBuf::from);
        let ctr = kube.unwrap_or(home.join(".cache/hawser-kube")).join("rt/usr/bin/ctr");
        for node in NODES {
            let holder = self.dir.path().join("nodes").join(node).join("holder.pid");
            let holder = std::fs::read_to_string(holder).unwrap();
            let mut command = Command::new("nsenter");
            command.args(["-m", "-n", "-t", holder.trim(), "--"]).arg(&ctr);
            command.args(["-a", "/run/containerd/containerd.sock", "-n", "k8s.io", "image"]);
            run(command.arg("import").arg(image));
        }
    }

    /// How many of these have the condition Ready.
    fn ready(&self, what: &str) -> usize {
        let all: Value =
            serde_json::from_str(&self.kubectl(&format!("get {what} -o json"))).unwrap();
        let is_ready = |one: &&Value| {
            let conditions = one["status"]["conditions"].as_array();
            conditions.into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True")
        };
        all["items"].as_array().unwrap().iter().filter(is_ready).count()
    }

    fn wait_for_three(&self, what: &str) {
        let ready = || (self.ready(what) == NODES.len()).then_some(());
        if until(LIMIT, ready).is_none() {
            let pods = self.kubectl(&format!("get pods -n {NAMESPACE} -o wide"));
            let logs = format!("logs -n {NAMESPACE} -l app.kubernetes.io/name=hawser --tail=20");
            panic!("not all {what} are ready\n{pods}\n{}", self.kubectl(&logs));
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = self.script("down").output();
    }
}

fn image(dir: &Path) -> PathBuf {
    let (tools, files, image) =
        (root().join("deploy/image"), dir.join("files"), dir.join("hawser.tar"));
    run(Command::new(tools.join("gather")).arg(bin_dir()).arg(&files));
    println!("{}", run(Command::new(tools.join("pack")).args([&files, &image]).arg(IMAGE)));
    image
}

#[test]
fn three_nodes_get_their_network_from_the_chart() {
    let Some(scripts) = scripts().unwrap() else { return };
    let dir = TempDir::new().unwrap();
    let image = image(dir.path());
    let cluster = Cluster::start(scripts);
    cluster.import(&image);
    assert_eq!(cluster.ready("nodes"), 0, "without a network plugin no node is ready");

    let began = Instant::now();
    let at = |path: &str| root().join(path).canonicalize().unwrap().display().to_string();
    cluster.kubectl(&format!("create namespace {NAMESPACE}"));
    cluster.kubectl(&format!("create --validate=false -f {}", at("deploy/crds")));
    cluster.kubectl("wait --for=condition=Established crd --all --timeout=30s");
    cluster.kubectl(&format!("create --validate=false -f {}", at(RENDERED)));
    cluster.wait_for_three("nodes");
    println!(
        "three nodes Ready {:.1} s after the chart was applied",
        began.elapsed().as_secs_f64()
    );
    cluster.wait_for_three("meshnodes");
    println!("all tunnels up after {:.1} s", began.elapsed().as_secs_f64());

    // Pods on all nodes, every one to every one, a Service, a Deployment of six.
    println!("{}", run(&mut cluster.script("test")));
}
