//! What a machine is told that comes or goes.

use std::path::PathBuf;

use clap::{ValueEnum, ValueHint};

use super::prefix;
use crate::join::cni::When;

#[derive(Debug, clap::Args)]
pub struct Join {
    /// The gateway, such as https://mesh.example:8444
    pub url: String,
    /// A file with the token, or - for standard input
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub token_file: String,
    /// The name this machine wants [default: its host name]
    #[arg(long)]
    pub name: Option<String>,
    /// Where keys and the access to the gateway are kept
    #[arg(long, value_name = "DIR", env = "HAWSER_STATE", default_value = "/var/lib/hawser")]
    pub state: PathBuf,
    /// Prefixes behind this machine that the mesh is to reach through it, such as its LAN; the token
    /// has to permit them
    #[arg(long, value_name = "CIDR[,CIDR]", value_delimiter = ',', value_parser = prefix)]
    pub announce: Vec<String>,
    /// Run the agent as a systemd unit instead of here
    #[arg(long)]
    pub install_service: bool,
    /// Give containers on this machine addresses of the mesh, through the CNI plugin
    #[arg(long, value_enum, num_args = 0..=1, require_equals = true, value_name = "WHEN")]
    #[arg(default_value = "auto", default_missing_value = "always")]
    pub cni: When,
    /// Where the container runtime looks for plugins
    #[arg(long, value_name = "DIR", default_value = "/opt/cni/bin")]
    pub cni_bin_dir: PathBuf,
    /// Where it looks for configurations
    #[arg(long, value_name = "DIR", default_value = "/etc/cni/net.d")]
    pub cni_conf_dir: PathBuf,
    /// Flags for hawser-agent run
    #[arg(last = true, value_name = "FLAGS")]
    pub flags: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub struct Leave {
    /// Where keys and the access to the gateway are kept
    #[arg(long, value_name = "DIR", env = "HAWSER_STATE", default_value = "/var/lib/hawser")]
    pub state: PathBuf,
    /// What may go wrong: lose-ssh, where this session runs through the mesh
    #[arg(long, value_enum, value_name = "RISK")]
    pub accept_risk: Option<Risk>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Risk {
    LoseSsh,
}
