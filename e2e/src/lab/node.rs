//! A machine on the underlay: a namespace with `eth0`, both families, default routes.

use std::path::{Path, PathBuf};

use super::{Capture, Command, Namespace, Pair, Process, Switch};

/// The underlay device of every machine.
pub(super) const DEVICE: &str = "eth0";

pub struct Node {
    name: String,
    namespace: Namespace,
    address: Pair,
    dir: PathBuf,
}

impl Node {
    pub(super) fn new(
        name: &str,
        namespace: Namespace,
        switch: &Switch,
        lab: &Path,
    ) -> anyhow::Result<Self> {
        let address = switch.plug(&namespace, DEVICE)?;
        let gateway = switch.gateway();
        namespace.netlink(async move |net| net.default_routes(gateway).await)?;
        let dir = lab.join(name);
        std::fs::create_dir_all(&dir)?;
        Ok(Self { name: name.to_owned(), namespace, address, dir })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The addresses of `eth0`.
    pub fn address(&self) -> Pair {
        self.address
    }

    /// A directory of this machine, made when the machine was.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A place for the agent's `--state`; the agent makes it.
    pub fn state(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// A program to run on this machine; Hawser's own come from `bin_dir`.
    pub fn command(&self, program: &str) -> Command {
        Command::new(&self.namespace, program, &self.dir)
    }

    /// Starts `program` with its output in a log file of this machine.
    pub fn spawn<S: AsRef<std::ffi::OsStr>>(
        &self,
        program: &str,
        args: impl IntoIterator<Item = S>,
    ) -> anyhow::Result<Process> {
        self.command(program).args(args).spawn()
    }

    /// Both directions of one device of this machine, from now on.
    pub fn capture(&self, device: &str, markers: &[&[u8]]) -> anyhow::Result<Capture> {
        Capture::device(&self.namespace, device, markers)
    }
}
