//! Calls the real `hawser-cni` as a container runtime would: environment, standard input, JSON.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::{Value, json};

use super::{Namespace, Node};

const PLUGIN: &str = "hawser-cni";

/// The plugin on one machine.
pub struct Cni<'a> {
    node: &'a Node,
    program: PathBuf,
    config: Value,
}

/// What the plugin printed, and how it ended.
#[derive(Debug)]
pub struct CniOutput {
    pub ok: bool,
    pub json: Value,
}

impl CniOutput {
    /// The pod's addresses, without their prefix lengths.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let ips = self.json["ips"].as_array().into_iter().flatten();
        let texts = ips.filter_map(|ip| ip["address"].as_str()?.split('/').next());
        texts.filter_map(|text| text.parse().ok()).collect()
    }

    /// The spec's error code.
    pub fn code(&self) -> Option<u64> {
        self.json["code"].as_u64()
    }
}

impl<'a> Cni<'a> {
    pub fn new(node: &'a Node) -> Self {
        let config = json!({
            "cniVersion": "1.0.0",
            "name": "hawser",
            "type": PLUGIN,
            "state": node.state(),
        });
        Self { node, program: PLUGIN.into(), config }
    }

    /// As a container runtime finds it: the program in `bin`, its configuration the first in `conf`.
    pub fn installed(node: &'a Node, bin: &Path, conf: &Path) -> anyhow::Result<Self> {
        let entries = std::fs::read_dir(conf).context("reading the CNI configurations")?;
        let first = entries.flatten().map(|entry| entry.path()).min();
        let first = first.context("there is no CNI configuration")?;
        let text = std::fs::read(&first).with_context(|| format!("reading {}", first.display()))?;
        let list: Value = serde_json::from_slice(&text).context("reading it as JSON")?;
        let mut config = list["plugins"][0].clone();
        config["cniVersion"] = list["cniVersion"].clone();
        config["name"] = list["name"].clone();
        let program = bin.join(config["type"].as_str().unwrap_or_default());
        Ok(Self { node, program, config })
    }

    pub fn add(&self, container: &str, pod: &Namespace) -> anyhow::Result<CniOutput> {
        self.call("ADD", container, pod, json!({}))
    }

    pub fn del(&self, container: &str, pod: &Namespace) -> anyhow::Result<CniOutput> {
        self.call("DEL", container, pod, json!({}))
    }

    /// Any verb; `extra` is merged into the network configuration.
    pub fn call(
        &self,
        verb: &str,
        container: &str,
        pod: &Namespace,
        extra: Value,
    ) -> anyhow::Result<CniOutput> {
        let mut config = self.config.clone();
        if let (Some(config), Value::Object(extra)) = (config.as_object_mut(), extra) {
            config.extend(extra);
        }
        let output = self
            .node
            .command(&self.program.to_string_lossy())
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", container)
            .env("CNI_NETNS", pod.path())
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", super::bin_dir())
            .input(config.to_string())
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let json = if text.trim().is_empty() {
            Value::Null
        } else {
            serde_json::from_str(&text).with_context(|| format!("reading {verb}'s JSON: {text}"))?
        };
        Ok(CniOutput { ok: output.status.success(), json })
    }
}
