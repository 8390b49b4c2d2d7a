//! The network configuration on standard input.

use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::Value;

use super::{Code, Dns, Failure, Version, environment::is_identifier};
use crate::Attachment;

/// What is longer was not meant for us; with it the memory of one call is bounded.
pub(crate) const LARGEST: usize = 1 << 20;
const DEFAULT_STATE: &str = "/var/lib/hawser";

/// A configuration, checked.
#[derive(Clone, Debug)]
pub(crate) struct NetworkConfig {
    pub(crate) version: Version,
    pub(crate) name: String,
    pub(crate) state: PathBuf,
    /// Another plugin comes before, whose pods these are.
    pub(crate) chained: bool,
    pub(crate) dns: Option<Dns>,
    pub(crate) prev_result: Option<PrevResult>,
    /// For GC: what is to stay.
    pub(crate) valid: Option<Vec<Attachment>>,
}

/// What ADD has answered, perhaps changed by plugins behind us; chained: what those before us did.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct PrevResult {
    /// As it came.
    #[serde(skip)]
    pub(crate) whole: Value,
    #[serde(default)]
    pub(crate) interfaces: Vec<Interface>,
    #[serde(default)]
    pub(crate) ips: Vec<PrevIp>,
    #[serde(default)]
    pub(crate) routes: Vec<PrevRoute>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Interface {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) sandbox: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct PrevIp {
    pub(crate) address: IpNet,
    pub(crate) interface: Option<usize>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct PrevRoute {
    pub(crate) dst: IpNet,
}

#[derive(Deserialize)]
struct Head {
    #[serde(rename = "cniVersion")]
    version: Option<String>,
}

#[derive(Deserialize)]
struct Wire {
    name: Option<String>,
    state: Option<PathBuf>,
    #[serde(default)]
    chained: bool,
    dns: Option<Dns>,
    #[serde(rename = "prevResult")]
    prev_result: Option<Value>,
    #[serde(rename = "runtimeConfig", default)]
    runtime_config: RuntimeConfig,
    #[serde(rename = "cni.dev/valid-attachments")]
    valid: Option<Vec<WireAttachment>>,
    /// The name that the specification's first text had; some runtimes send both.
    #[serde(rename = "cni.dev/attachments")]
    valid_too: Option<Vec<WireAttachment>>,
}

/// What a runtime passes where a configuration claims capabilities that we don't have.
#[derive(Default, Deserialize)]
struct RuntimeConfig {
    ips: Option<Vec<String>>,
    mac: Option<String>,
    #[serde(rename = "ipRanges")]
    ip_ranges: Option<IgnoredAny>,
}

impl RuntimeConfig {
    /// Giving another address than the one asked for would be worse than none.
    fn refuse(&self) -> Result<(), Failure> {
        let wanted = match self {
            Self { ips: Some(ips), .. } if !ips.is_empty() => format!("ips {ips:?}"),
            Self { mac: Some(mac), .. } => format!("mac {mac:?}"),
            Self { ip_ranges: Some(_), .. } => "ipRanges".to_owned(),
            Self { .. } => return Ok(()),
        };
        let msg = format!("runtimeConfig {wanted} is not supported; remove the capability");
        Err(Failure::new(Code::UnsupportedField, msg))
    }
}

#[derive(Deserialize)]
struct WireAttachment {
    #[serde(rename = "containerID")]
    container_id: String,
    ifname: String,
}

impl NetworkConfig {
    pub(crate) fn parse(input: &[u8]) -> Result<Self, Failure> {
        let version = version_of(input)?;
        let wire: Wire = serde_json::from_slice(input).map_err(|error| undecodable(&error))?;
        let name = wire.name.ok_or_else(|| invalid("name is missing"))?;
        if !is_identifier(&name) {
            let why = "must start with a letter or digit and go on with these, '_', '.' and '-'";
            return Err(invalid(&format!("name {name:?} {why}")));
        }
        let state = wire.state.unwrap_or_else(|| DEFAULT_STATE.into());
        if !state.is_absolute() {
            return Err(invalid(&format!("state {} is not an absolute path", state.display())));
        }
        wire.runtime_config.refuse()?;
        let valid = wire.valid.or(wire.valid_too).map(|list| {
            list.into_iter().map(|one| Attachment::new(one.container_id, one.ifname)).collect()
        });
        let prev_result = wire.prev_result.map(PrevResult::read).transpose()?;
        let (dns, chained) = (wire.dns, wire.chained);
        Ok(Self { version, name, state, chained, dns, prev_result, valid })
    }
}

impl PrevResult {
    fn read(whole: Value) -> Result<Self, Failure> {
        let read = Self::deserialize(&whole).map_err(|error| undecodable(&error))?;
        Ok(Self { whole, ..read })
    }
}

/// The version that the configuration is written in. It comes first: all else depends on it.
pub(crate) fn version_of(input: &[u8]) -> Result<Version, Failure> {
    if input.len() > LARGEST {
        return Err(invalid(&format!("the configuration is longer than {LARGEST} bytes")));
    }
    let head: Head = serde_json::from_slice(input).map_err(|error| undecodable(&error))?;
    Version::parse(head.version.as_deref())
}

fn invalid(msg: &str) -> Failure {
    Failure::new(Code::InvalidConfig, msg)
}

fn undecodable(error: &serde_json::Error) -> Failure {
    Failure::because(Code::Decode, "decoding the network configuration", error)
}
