//! One machine of the mesh: its agent and its pods.

use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;

use super::Pod;
use super::local_api;
use crate::lab::{Lab, Node, Process, until};

pub struct Member {
    name: String,
    agent: Option<Process>,
    pub pods: Vec<Pod>,
    pub node: Node,
    source: String,
}

impl Member {
    /// `source` as the agent's `--source` takes it: `kube:FILE` or `file:FILE`.
    pub fn new(node: Node, source: String) -> Self {
        let name = node.name().to_owned();
        Self { name, agent: None, pods: Vec::new(), node, source }
    }

    /// One that runs under another name than its machine's.
    pub fn named(name: &str, node: Node, source: String) -> Self {
        Self { name: name.to_owned(), agent: None, pods: Vec::new(), node, source }
    }

    /// As the agent's `--source` takes it.
    pub fn source(&self) -> &str {
        &self.source
    }

    pub fn start_agent(&mut self) -> anyhow::Result<()> {
        self.start_agent_with::<&str>([])
    }

    /// Starts the agent with more flags, such as `--engine boringtun`.
    pub fn start_agent_with<S: AsRef<std::ffi::OsStr>>(
        &mut self,
        flags: impl IntoIterator<Item = S>,
    ) -> anyhow::Result<()> {
        let command = self.node.command("hawser-agent").args(["run", "--node", &self.name]);
        let command = command.arg("--state").arg(self.node.state());
        self.agent = Some(command.args(["--source", &self.source]).args(flags).spawn()?);
        Ok(())
    }

    /// SIGKILL, as the kernel would under memory pressure.
    pub fn kill_agent(&mut self) {
        self.agent = None;
    }

    pub fn agent_mut(&mut self) -> anyhow::Result<&mut Process> {
        self.agent.as_mut().with_context(|| format!("no agent on {}", self.node.name()))
    }

    pub fn agent(&self) -> anyhow::Result<&Process> {
        self.agent.as_ref().with_context(|| format!("no agent on {}", self.node.name()))
    }

    /// Waits until the agent has written what the CNI plugin may give out and says it is ready.
    pub fn wait_until_ready(&mut self, limit: Duration) -> anyhow::Result<Duration> {
        let file = self.node.state().join("node.json");
        let name = self.node.name().to_owned();
        let agent = self.agent.as_mut().with_context(|| format!("no agent on {name}"))?;
        let socket = self.node.state().join("agent.sock");
        let ready = until(limit, || {
            let ready = file.exists()
                && local_api::get(&socket, "/readyz").is_ok_and(|(code, _)| code == 200);
            (ready || !agent.is_running()).then_some(ready)
        });
        match ready {
            Some((true, took)) => Ok(took),
            Some((false, _)) => anyhow::bail!("{name}'s agent ended:\n{}", agent.last_words()),
            None => anyhow::bail!("{name} is not ready:\n{}", agent.last_words()),
        }
    }

    /// Waits until whatever runs the agent has told the CNI plugin what it may give out.
    pub fn wait_for_node_file(&self, limit: Duration) -> anyhow::Result<Duration> {
        let file = self.node.state().join("node.json");
        crate::lab::eventually("node.json is there", limit, || file.exists())
    }

    /// The agent's `/state`.
    pub fn state(&self) -> anyhow::Result<Value> {
        let (code, body) = local_api::get(&self.node.state().join("agent.sock"), "/state")?;
        anyhow::ensure!(code == 200, "/state of {} answers {code}", self.node.name());
        serde_json::from_str(&body).with_context(|| format!("reading /state: {body}"))
    }

    /// A pod through the real CNI plugin.
    pub fn add_pod(&mut self, lab: &Lab, name: &str) -> anyhow::Result<&Pod> {
        let pod = Pod::add(lab, &self.node, name)
            .with_context(|| format!("putting the pod {name} on {}", self.node.name()))?;
        self.pods.push(pod);
        Ok(self.pods.last().expect("one was just pushed"))
    }
}
