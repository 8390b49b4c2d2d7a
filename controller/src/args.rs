//! The command line: the doc comments are the help text.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Parser, Subcommand};

/// Gives each node of a mesh its subnets and judges what nodes publish.
#[derive(Debug, Parser)]
#[command(name = "hawser-controller", version, args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub run: Run,
}

#[derive(Debug, clap::Args)]
pub struct Run {
    /// Serve the mesh's resources from this directory, without Kubernetes.
    #[arg(long, value_name = "DIR", env = "HAWSER_EMBEDDED")]
    pub embedded: Option<PathBuf>,
    /// Where the embedded API listens.
    #[arg(
        long,
        value_name = "ADDR",
        env = "HAWSER_LISTEN",
        default_value = "127.0.0.1:8443",
        requires = "embedded"
    )]
    pub listen: SocketAddr,
    /// Another name or address by which clients reach the embedded API. May be repeated.
    #[arg(
        long,
        value_name = "NAME",
        env = "HAWSER_TLS_SAN",
        value_delimiter = ',',
        requires = "embedded"
    )]
    pub tls_san: Vec<String>,
    /// The pools of the Mesh that the embedded API starts with if it has none. May be repeated.
    #[arg(
        long,
        value_name = "CIDR/PREFIXLEN",
        env = "HAWSER_POOLS",
        value_delimiter = ',',
        default_values = ["10.42.0.0/16/24", "fd42::/48/64"],
        requires = "embedded"
    )]
    pub pool: Vec<PoolArg>,
    /// The cluster to work in; else the pod's own, or what KUBECONFIG names.
    #[arg(long, value_name = "FILE", env = "HAWSER_KUBECONFIG", conflicts_with = "embedded")]
    pub kubeconfig: Option<PathBuf>,
    /// Who this controller is, in the lease and in events; else the host's name.
    #[arg(long, value_name = "NAME", env = "HAWSER_IDENTITY")]
    pub identity: Option<String>,
    /// Where machines outside of the cluster join and take part, such as 0.0.0.0:8444.
    #[arg(long, value_name = "ADDR", env = "HAWSER_GATEWAY")]
    pub gateway: Option<SocketAddr>,
    /// How machines reach the gateway, such as https://mesh.example:8444. May be repeated.
    #[arg(
        long,
        value_name = "URL",
        env = "HAWSER_GATEWAY_URL",
        value_delimiter = ',',
        requires = "gateway"
    )]
    pub gateway_url: Vec<String>,
    /// How long a machine's certificate lives; it gets the next one after two thirds of that.
    #[arg(
        long,
        value_name = "DURATION",
        env = "HAWSER_CERTIFICATE_LIFE",
        default_value = "24h",
        value_parser = life
    )]
    pub certificate_life: Duration,
    /// Where /livez, /readyz and /metrics are served.
    #[arg(long, value_name = "ADDR", env = "HAWSER_ADMIN")]
    pub admin: Option<SocketAddr>,
    /// Write logs as JSON.
    #[arg(long, env = "HAWSER_LOG_JSON")]
    pub log_json: bool,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Copy everything in the directory of --embedded into one file, while the server runs or not.
    Backup {
        /// The directory of --embedded.
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        /// The file to write. It holds the mesh's CA key: keep it safe.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Put a backup in place of what is in the directory. The server must not run.
    Restore {
        /// The directory of --embedded.
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        /// The backup.
        #[arg(long, value_name = "FILE")]
        from: PathBuf,
    },
}

/// A pool on the command line: its prefix and the length of a node's subnet, behind its name if it
/// has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolArg(pub api::Pool);

#[derive(Debug, thiserror::Error)]
#[error(
    "a pool looks like 10.42.0.0/16/24, fd42::/48/64 or edge=10.43.0.0/24/32: prefix, then the length \
     of a node's subnet, behind a name where it has one"
)]
pub struct NotAPool;

impl FromStr for PoolArg {
    type Err = NotAPool;

    fn from_str(text: &str) -> Result<PoolArg, NotAPool> {
        let (name, block) =
            text.split_once('=').map_or((None, text), |(n, block)| (Some(n), block));
        let inside = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        if name.is_some_and(|name| name.is_empty() || !name.bytes().all(inside)) {
            return Err(NotAPool);
        }
        let (cidr, length) = block.rsplit_once('/').ok_or(NotAPool)?;
        let prefix = api::parse_prefix(cidr).map_err(|_| NotAPool)?;
        let node_prefix_length = length.parse().map_err(|_| NotAPool)?;
        let name = name.map(str::to_owned);
        Ok(PoolArg(api::Pool { cidr: prefix.to_string(), node_prefix_length, name }))
    }
}

/// `24h`; from ten seconds to a year.
fn life(text: &str) -> Result<Duration, String> {
    let life = text.parse::<jiff::SignedDuration>().ok();
    let life = life.and_then(|life| Duration::try_from(life).ok());
    let sensible = Duration::from_secs(10)..=Duration::from_secs(366 * 86_400);
    life.filter(|life| sensible.contains(life))
        .ok_or_else(|| "write a duration from 10s to 366d, such as 24h".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }

    #[test]
    fn a_pool_is_a_prefix_and_a_length() {
        let args = Args::parse_from([
            "hawser-controller",
            "--embedded=/tmp/x",
            "--pool=10.1.0.0/16/24",
            "--pool=fd01::/48/64",
        ]);

        let pools: Vec<_> = args.run.pool.iter().map(|p| p.0.cidr.as_str()).collect();
        assert_eq!(pools, ["10.1.0.0/16", "fd01::/48"]);
        let edge = "edge=10.2.0.0/24/32".parse::<PoolArg>().unwrap().0;
        assert_eq!((edge.name.as_deref(), &*edge.cidr), (Some("edge"), "10.2.0.0/24"));
        assert!("=10.2.0.0/24/32".parse::<PoolArg>().is_err());
        assert!("10.1.0.0/16".parse::<PoolArg>().is_err());
        assert!("10.1.0.1/16/24".parse::<PoolArg>().is_err());
    }
}
