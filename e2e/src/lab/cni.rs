//! Calls the real `hawser-cni` as a container runtime would: environment, standard input, JSON.

use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::{Namespace, Node};

/// The plugin on one machine.
pub struct Cni<'a> {
    node: &'a Node,
    state: PathBuf,
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
        Self { node, state: node.state() }
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
        let mut config = json!({
            "cniVersion": "1.0.0",
            "name": "hawser",
            "type": "hawser-cni",
            "state": self.state,
        });
        if let (Some(config), Value::Object(extra)) = (config.as_object_mut(), extra) {
            config.extend(extra);
        }
        let output = self
            .node
            .command("hawser-cni")
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
