//! What may happen to one node's machine: it is switched off and on again.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::{Kubelets, run};
use crate::lab::until;

const PATIENCE: Duration = Duration::from_secs(15);
/// What is kept in memory on a real machine.
const VOLATILE: [&str; 2] = ["/run/containerd", "/run/netns"];

impl Kubelets {
    /// Off and on again, at this address: nothing that runs outlives it, the disk does.
    pub fn reboot(&self, node: &str, address: &str) -> anyhow::Result<()> {
        let holder = self.holder(node)?;
        for name in ["kubelet", "proxy"] {
            kill(read_pid(&self.path(node, &format!("{name}.pid")))?)?;
        }
        let mounts = std::fs::read_link(format!("/proc/{holder}/ns/mnt")).context("no mounts")?;
        let there = |id: &str| {
            std::fs::read_link(format!("/proc/{id}/ns/mnt")).is_ok_and(|other| other == mounts)
        };
        for id in processes()?.filter(|id| there(id) || is_pod_of(node, id)) {
            kill(parse(&id)?)?;
        }
        run(Command::new("ip").args(["netns", "del", &format!("k8s-{node}")]))?;
        for dir in VOLATILE {
            let dir = self.path(node, dir);
            std::fs::remove_dir_all(&dir).with_context(|| format!("emptying {}", dir.display()))?;
        }
        self.plug_in(node, address)?;
        self.boot(node, address)
    }

    /// Its network, as `net.sh` makes it.
    fn plug_in(&self, node: &str, address: &str) -> anyhow::Result<()> {
        let (name, port) = (format!("k8s-{node}"), format!("p-{node}"));
        let address = format!("{address}/24");
        let lines = [
            vec!["netns", "add", &name],
            vec!["-n", &name, "link", "set", "lo", "up"],
            vec![
                "-n", &name, "link", "add", "eth0", "type", "veth", "peer", "name", &port, "netns",
                "k8s-sw",
            ],
            vec!["-n", "k8s-sw", "link", "set", &port, "master", "br0", "up"],
            vec!["-n", &name, "addr", "add", &address, "dev", "eth0"],
            vec!["-n", &name, "link", "set", "eth0", "up"],
            vec!["-n", &name, "route", "add", "default", "via", "10.231.0.1"],
        ];
        // The other end of its cable goes with the last packet that knows of it.
        let free =
            || run(Command::new("ip").args(["-n", "k8s-sw", "link", "show", &port])).is_err();
        until(PATIENCE, || free().then_some(())).context("the old cable is still there")?;
        for words in lines {
            run(Command::new("ip").args(words))?;
        }
        run(&mut self.on_node(node, &["sysctl", "-qw", "net.ipv4.ip_forward=1"])).map(drop)
    }

    fn boot(&self, node: &str, address: &str) -> anyhow::Result<()> {
        let home = std::env::var_os("HOME").context("HOME is not set")?;
        let kube = std::env::var_os("HAWSER_KUBE").map(Into::into);
        let kube = kube.unwrap_or_else(|| Path::new(&home).join(".cache/hawser-kube"));
        let log = File::create(self.path(node, "node.log")).context("making a log")?;
        let old = self.holder(node)?;
        let mut command = Command::new("setsid");
        command.arg("nsenter").arg(format!("--net=/run/netns/k8s-{node}"));
        command.args(["unshare", "-m", "-u", "--propagation", "private"]);
        command.arg(self.scripts.join("node.sh")).args([node, address]);
        command.env("DIR", self.state()).env("BIN", kube.join("bin/v1.20.2"));
        command.env("HAWSER_KUBE", &kube).env("PROXY", "iptables").current_dir(&self.scripts);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        command.spawn().context("starting the node")?;
        let new = || self.holder(node).ok().filter(|holder| *holder != old);
        until(4 * PATIENCE, new).context("the node does not come up")?;
        Ok(())
    }
}

fn is_pod_of(node: &str, id: &str) -> bool {
    let group = std::fs::read_to_string(format!("/proc/{id}/cgroup")).unwrap_or_default();
    group.contains(&format!("/k8s-{node}/"))
}

fn processes() -> anyhow::Result<impl Iterator<Item = String>> {
    let names = std::fs::read_dir("/proc").context("listing processes")?.flatten();
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    Ok(names.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())))
}

fn read_pid(file: &Path) -> anyhow::Result<Pid> {
    parse(std::fs::read_to_string(file).with_context(|| file.display().to_string())?.trim())
}

fn parse(id: &str) -> anyhow::Result<Pid> {
    Pid::from_raw(id.parse().context("reading a process id")?).context("no process")
}

/// Waits until it is gone; that it was gone before is as well.
fn kill(process: Pid) -> anyhow::Result<()> {
    if kill_process(process, Signal::KILL).is_err() {
        return Ok(());
    }
    let stat = format!("/proc/{}/stat", process.as_raw_nonzero());
    let gone = || std::fs::read_to_string(&stat).map_or(true, |text| text.contains(") Z "));
    ensure!(until(PATIENCE, || gone().then_some(())).is_some(), "{process:?} does not end");
    Ok(())
}
