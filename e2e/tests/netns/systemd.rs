//! A machine joins as a service of a real systemd, which keeps its agent alive.

use std::path::Path;
use std::time::Duration;

use e2e::lab::{Command, Node, Process, eventually, program};
use e2e::mesh::Mesh;
use e2e::oracle::marker;

use crate::join::token;
use crate::laptop::secret;

const LIMIT: Duration = Duration::from_secs(20);
const SYSTEMD: &str = "/lib/systemd/systemd";
const UNIT: &str = "/etc/systemd/system/hawser-agent.service";

/// systemd on one machine of a lab, in process and mount namespaces of its own.
struct Systemd<'a> {
    node: &'a Node,
    _outside: Process,
    pid: String,
}

impl<'a> Systemd<'a> {
    fn boot(node: &'a Node) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/netns/systemd/boot.sh");
        let unshare = node.command("unshare");
        let apart = ["--pid", "--fork", "--mount", "--cgroup", "--uts", "--ipc", "--mount-proc"];
        let outside = unshare.args(apart).arg("--kill-child").arg(script).spawn().unwrap();
        let children = format!("/proc/{0}/task/{0}/children", outside.pid());
        let first = || std::fs::read_to_string(&children).unwrap_or_default().trim().to_owned();
        eventually("the first process is there", LIMIT, || !first().is_empty()).unwrap();
        let systemd = Self { node, _outside: outside, pid: first() };
        let runs = || systemd.systemctl(&["is-active", "multi-user.target"]) == "active";
        eventually("systemd has booted", LIMIT, runs).unwrap();
        systemd
    }

    /// A program in its namespaces.
    fn command(&self, name: &str) -> Command {
        let inside = ["--mount", "--pid", "--cgroup", "--uts", "--ipc", "--target", &self.pid];
        self.node.command("nsenter").args(inside).arg(program(name).unwrap())
    }

    fn systemctl(&self, words: &[&str]) -> String {
        let output = self.command("systemctl").args(words).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn agent(&self) -> String {
        self.systemctl(&["show", "--property=MainPID", "--value", "hawser-agent.service"])
    }
}

#[test]
fn a_machine_joins_as_a_service_that_systemd_keeps_alive_and_leaves_again() {
    if !Path::new(SYSTEMD).exists() {
        return eprintln!("skipped: there is no {SYSTEMD}");
    }
    let marker = marker();
    let mut mesh = Mesh::start("systemd", 1).unwrap();
    mesh.add_pods(1).unwrap();
    let node = mesh.lab.node("edge-1").unwrap();
    let token = token(&mesh.controller, &[]);
    let file = secret(&node, "token", &token);
    let systemd = Systemd::boot(&node);
    let pod = mesh.members[0].pods[0].address(true).unwrap();

    let join = systemd.command("hawser").args(["join", &mesh.controller.gateway_url()]);
    let join = join.arg("--token-file").arg(file).arg("--state").arg(node.state());
    let joined = join.args(["--name", "edge-1", "--install-service"]).stdout().unwrap();
    assert!(joined.contains("meshnode/edge-1 joined in"), "{joined}");
    let unit = systemd.command("cat").arg(UNIT).stdout().unwrap();
    let key = std::fs::read_to_string(node.state().join("gateway.kubeconfig")).unwrap();
    let secrets = [token.trim(), key.split("client-key-data\": \"").nth(1).unwrap()];
    assert!(secrets.iter().all(|secret| !unit.contains(&secret[..20])), "{unit}");
    node.namespace().ping_until(pod, &marker, LIMIT).unwrap();

    let first = systemd.agent();
    systemd.command("kill").args(["-KILL", &first]).stdout().unwrap();
    let again = || !["0", "", first.as_str()].contains(&systemd.agent().as_str());
    eventually("systemd starts the agent again", LIMIT, again).unwrap();
    node.namespace().ping_until(pod, &marker, LIMIT).unwrap();

    let leave = systemd.command("hawser").args(["leave", "--yes", "--state"]).arg(node.state());
    let left = leave.output().unwrap();
    assert!(left.status.success(), "{}", String::from_utf8_lossy(&left.stderr));
    assert!(!systemd.command("cat").arg(UNIT).output().unwrap().status.success());
    assert!(!node.state().exists());
}
