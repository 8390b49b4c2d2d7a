//! The agent's command line: what an operator may say, and nothing else.

use std::{fmt, net::SocketAddr, path::PathBuf, str::FromStr};

use api::Backend;
use clap::{Args, Parser, Subcommand, ValueEnum};
use cni::POD_DEVICE_PREFIX;

use crate::datapath::{Dscp, Engine};

/// Hawser's agent: one on every node of the mesh.
#[derive(Debug, Parser)]
#[command(name = "hawser-agent", version)]
pub struct Options {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Creates the node's key if there is none, and prints the public key.
    Keygen(State),
    /// Proves to a gateway that this node holds the private half of the key that keygen printed.
    Prove(Prove),
    /// Takes part in the mesh until it is killed. What it leaves behind fails closed.
    Run(Box<Run>),
    /// Puts the guard of the last run back in force, for before the network comes up at boot.
    Guard(State),
    /// Puts the CNI plugin and its configuration on this node.
    InstallCni(InstallCni),
    /// Removes device, routes and guard; nothing else does. The agent must not be running.
    Uninstall(Uninstall),
}

#[derive(Clone, Debug, Args)]
pub struct State {
    /// Keys, the last view, the pods' addresses, node.json and agent.sock.
    #[arg(
        long = "state",
        value_name = "DIR",
        env = "HAWSER_STATE",
        default_value = "/var/lib/hawser"
    )]
    pub directory: PathBuf,
}

#[derive(Debug, Args)]
pub struct Prove {
    #[command(flatten)]
    pub state: State,

    /// The gateway's fresh public key.
    #[arg(long, value_name = "KEY", value_parser = keys::PublicKey::from_published)]
    pub challenge: keys::PublicKey,

    /// What the proof is for, in hexadecimal; nothing of it is secret.
    #[arg(long, value_name = "HEX")]
    pub context: String,
}

#[derive(Debug, Args)]
pub struct Run {
    /// This node's name: its MeshNode.
    #[arg(long, env = "HAWSER_NODE")]
    pub node: String,

    #[command(flatten)]
    pub state: State,

    /// Who is in the mesh: file:VIEW.yaml, kube or kube:KUBECONFIG.
    #[arg(long, env = "HAWSER_SOURCE")]
    pub source: SourceOption,

    /// UDP port of the tunnels, on both families.
    #[arg(long, env = "HAWSER_LISTEN_PORT", default_value_t = 51820)]
    pub listen_port: u16,

    /// Name of the tunnel device.
    #[arg(long, env = "HAWSER_TUN", default_value = "hawser0", value_parser = device_name)]
    pub tun: String,

    /// Which implementation carries the sessions.
    #[arg(long, env = "HAWSER_ENGINE", value_enum, default_value_t = EngineOption::Native)]
    pub engine: EngineOption,

    /// Threads that carry packets; by default one for each core.
    #[arg(long, env = "HAWSER_WORKERS", value_parser = workers)]
    pub workers: Option<usize>,

    /// Binds each of them to a core: for machines that have cores to spare for it.
    #[arg(long, env = "HAWSER_PIN_WORKERS")]
    pub pin_workers: bool,

    /// DSCP of the encrypted packets: zero, copy (the inner packet's) or a number from 0 to 63.
    #[arg(long, env = "HAWSER_DSCP", default_value = "zero")]
    pub dscp: Dscp,

    /// How many of the last packets each thread keeps for hawser bundle, inner and outer; 0: none.
    #[arg(long, env = "HAWSER_RECENT_PACKETS", value_name = "N", default_value_t = 1000)]
    #[arg(value_parser = clap::value_parser!(u32).range(..=100_000))]
    pub recent_packets: u32,

    /// Bytes that it keeps of each inner packet behind the headers. They are what was said, in clear.
    #[arg(long, env = "HAWSER_RECENT_PAYLOAD", value_name = "BYTES", default_value_t = 0)]
    pub recent_payload: u16,

    /// Overrides the Mesh's backend; its encryption judges the result all the same.
    #[arg(long, env = "HAWSER_BACKEND", value_parser = backend)]
    pub backend: Option<Backend>,

    /// Where this node is reached, one per family: ADDRESS or ADDRESS:PORT.
    #[arg(long, env = "HAWSER_ENDPOINT", value_delimiter = ',', conflicts_with = "interface")]
    pub endpoint: Vec<Endpoint>,

    /// The device whose addresses this node is reached at; else those of the default routes.
    #[arg(long, env = "HAWSER_INTERFACE")]
    pub interface: Option<String>,

    /// Takes the tunnel in TLS on this TCP address as well, such as [::]:443, from nodes that no UDP
    /// gets out of, and publishes it with the certificate in the state directory. Unset: off.
    #[arg(long, env = "HAWSER_TLS_LISTEN", value_name = "ADDRESS:PORT")]
    pub tls_listen: Option<SocketAddr>,

    /// Serves /livez, /readyz, /metrics and /state on this loopback address as well.
    #[arg(long, env = "HAWSER_ADMIN", value_name = "ADDR")]
    pub admin: Option<SocketAddr>,

    /// Where switches of the kernel are set: in a container that sees its own /proc/sys read-only,
    /// a mount of the node's, of which `net` is enough.
    #[arg(long, env = "HAWSER_PROC_SYS", value_name = "DIR", default_value = "/proc/sys")]
    pub proc_sys: PathBuf,

    #[command(flatten)]
    pub plugin: PluginDirs,

    /// Who gives pods their interface: main: hawser-cni alone. chained: another plugin, and
    /// hawser-cni comes last; the agent writes 00-hawser.conflist in --conf-dir from the other's
    /// configuration, and follows its changes.
    #[arg(
        long,
        env = "HAWSER_CNI_MODE",
        value_enum,
        default_value_t,
        requires_if("chained", "conf_dir")
    )]
    pub cni_mode: CniMode,

    /// What tells this machine from its clones, besides what its firmware says: in a container, the
    /// node's own file.
    #[arg(long, env = "HAWSER_MACHINE_ID", value_name = "FILE", default_value = "/etc/machine-id")]
    pub machine_id: PathBuf,

    /// Sends each other node a marked packet every so many seconds, and watches all devices for it:
    /// it must be readable in the tunnel, and nowhere else. Needs CAP_NET_RAW. Unset: off.
    #[arg(long, env = "HAWSER_CANARY", value_name = "SECONDS")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=3600))]
    pub canary: Option<u16>,

    /// Seconds between messages that keep a firewall before this node open, for as long as nothing
    /// else is sent. Without it 25 where there may be a NAT on the way to a node, and none elsewhere.
    #[arg(long, env = "HAWSER_KEEPALIVE", value_name = "SECONDS")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=120))]
    pub keepalive: Option<u16>,

    /// Firewall mark on the encrypted packets, for policy routing.
    #[arg(long, env = "HAWSER_FWMARK")]
    pub fwmark: Option<u32>,
}

#[derive(Debug, Args)]
pub struct Uninstall {
    #[command(flatten)]
    pub state: State,

    /// Removes keys, the last view and the pods' reservations as well.
    #[arg(long)]
    pub purge: bool,

    #[command(flatten)]
    pub plugin: PluginDirs,
}

/// Whose pods they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum CniMode {
    #[default]
    Main,
    Chained,
}

/// Where `install-cni` put the plugin, for when the node leaves the mesh.
#[derive(Clone, Debug, Default, Args)]
pub struct PluginDirs {
    /// Leaving the mesh removes the plugin from this directory as well.
    #[arg(long, value_name = "DIR")]
    pub bin_dir: Option<PathBuf>,

    /// Leaving the mesh removes the plugin's configuration from this directory as well.
    #[arg(long, value_name = "DIR")]
    pub conf_dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct InstallCni {
    /// The plugin's program.
    #[arg(long, value_name = "FILE")]
    pub plugin: PathBuf,

    /// Where the container runtime looks for plugins.
    #[arg(long, value_name = "DIR", default_value = "/opt/cni/bin")]
    pub bin_dir: PathBuf,

    /// Where the container runtime looks for configurations.
    #[arg(long, value_name = "DIR", default_value = "/etc/cni/net.d")]
    pub conf_dir: PathBuf,

    #[command(flatten)]
    pub state: State,

    /// main: the plugin and its configuration. chained: the plugin alone; the agent writes the
    /// configuration.
    #[arg(long, env = "HAWSER_CNI_MODE", value_enum, default_value_t)]
    pub cni_mode: CniMode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EngineOption {
    Native,
    Boringtun,
}

impl From<EngineOption> for Engine {
    fn from(option: EngineOption) -> Self {
        match option {
            EngineOption::Native => Self::Native,
            EngineOption::Boringtun => Self::Boringtun,
        }
    }
}

/// `file:VIEW.yaml`, `kube` or `kube:KUBECONFIG`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceOption {
    File(PathBuf),
    Kube(Option<PathBuf>),
}

#[derive(Debug, thiserror::Error)]
#[error("write it as file:VIEW.yaml, kube or kube:KUBECONFIG")]
pub struct BadSource;

impl FromStr for SourceOption {
    type Err = BadSource;

    fn from_str(text: &str) -> Result<Self, BadSource> {
        match text.split_once(':') {
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(path.into())),
            Some(("kube", path)) if !path.is_empty() => Ok(Self::Kube(Some(path.into()))),
            None if text == "kube" => Ok(Self::Kube(None)),
            _ => Err(BadSource),
        }
    }
}

impl fmt::Display for SourceOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Kube(Some(path)) => write!(f, "kube:{}", path.display()),
            Self::Kube(None) => f.write_str("kube"),
        }
    }
}

/// An address of this node, with a port if it differs from the one listened on (a forwarded port).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub address: std::net::IpAddr,
    pub port: Option<u16>,
}

#[derive(Debug, thiserror::Error)]
#[error("write it as 192.0.2.1, 192.0.2.1:51820, 2001:db8::1 or [2001:db8::1]:51820")]
pub struct BadEndpoint;

impl FromStr for Endpoint {
    type Err = BadEndpoint;

    fn from_str(text: &str) -> Result<Self, BadEndpoint> {
        if let Ok(address) = text.parse() {
            return Ok(Self { address, port: None });
        }
        let with_port: SocketAddr = text.parse().map_err(|_| BadEndpoint)?;
        Ok(Self { address: with_port.ip(), port: Some(with_port.port()) })
    }
}

fn backend(text: &str) -> Result<Backend, String> {
    serde_json::from_value(text.into())
        .map_err(|_| "one of wireguard, esp, udp, vxlan, direct".to_owned())
}

/// A device has 256 queues at most.
fn workers(text: &str) -> Result<usize, String> {
    let count = text.parse().ok().filter(|count| (1..=256).contains(count));
    count.ok_or_else(|| "a number from 1 to 256".to_owned())
}

/// What Linux accepts as a device's name, and no pod's.
fn device_name(text: &str) -> Result<String, String> {
    let fits = (1..=15).contains(&text.len()) && text != "." && text != "..";
    let plain = text.bytes().all(|c| c.is_ascii_graphic() && !b"/:*\"%".contains(&c));
    if !fits || !plain {
        return Err("a device name has 1 to 15 letters, digits or dashes".to_owned());
    }
    if text.starts_with(POD_DEVICE_PREFIX) || text == "lo" {
        return Err(format!("lo and names that begin with {POD_DEVICE_PREFIX} are taken"));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn sources_and_endpoints_are_told_apart() {
        assert_eq!("file:/v.yaml".parse::<SourceOption>().unwrap().to_string(), "file:/v.yaml");
        assert_eq!("kube:/k:c".parse::<SourceOption>().unwrap().to_string(), "kube:/k:c");
        assert_eq!("kube".parse::<SourceOption>().unwrap().to_string(), "kube");
        for bad in ["", "file:", "file", "http://x", "kube:"] {
            assert!(bad.parse::<SourceOption>().is_err(), "{bad}");
        }
        assert_eq!("2001:db8::1".parse::<Endpoint>().unwrap().port, None);
        assert_eq!("[2001:db8::1]:7".parse::<Endpoint>().unwrap().port, Some(7));
        assert!("node-1:51820".parse::<Endpoint>().is_err());
    }

    #[test]
    fn the_tunnel_cannot_be_called_like_a_pods_device() {
        for bad in ["", "lo", "hwp0", "a name", "a/b", "0123456789abcdef", ".."] {
            assert!(device_name(bad).is_err(), "{bad}");
        }
        assert!(device_name("hawser0").is_ok());
    }
}
