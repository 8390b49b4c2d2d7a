//! The command line: every flag and command with its help text, and nothing else.
//!
//! Precedence is flag, `HAWSER_*`, file, default: clap does the first two, [`crate::settings`] the
//! rest, so flags with a default elsewhere are `Option` here.

mod graph;
mod join;
mod mesh;
mod release;
mod token;

use std::{net::IpAddr, path::PathBuf, time::Duration};

use clap::{ArgAction, Parser, Subcommand, ValueEnum, ValueHint, builder::styling};
use clap_complete::Shell;
use jiff::SignedDuration;
use serde::Deserialize;

pub use graph::Drawing;
pub use join::{Join, Leave, Risk};
pub use mesh::{Fallback, MeshCommand, MeshRisk, MeshSet, ShapedPort, SiteMode};
pub use release::{Place, Profile, Release};
pub use token::{CreateToken, Decide, Tokens};

const EXIT_CODES: &str = "\
Exit codes:
    0  ok (warnings allowed)
    1  a check failed or a difference was found
    2  usage
    3  cannot reach the API or the agent
    4  timed out while waiting (the state is printed)
    5  refused: needs --yes and stdin is no terminal
    6  not permitted (names the missing verb or capability)
  130  interrupted

Settings: flag, then HAWSER_*, then $XDG_CONFIG_HOME/hawser/config.yaml, then the default.";

/// An encrypted overlay mesh for Kubernetes and the machines around it
#[derive(Debug, Parser)]
#[command(name = "hawser", version, after_help = EXIT_CODES, styles = STYLES)]
#[command(disable_help_subcommand = true, arg_required_else_help = true)]
pub struct Args {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

const STYLES: styling::Styles = styling::Styles::styled()
    .header(styling::AnsiColor::Yellow.on_default())
    .usage(styling::AnsiColor::Yellow.on_default())
    .literal(styling::AnsiColor::Green.on_default());

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// How to print the result
    #[arg(short, long, global = true, env = "HAWSER_OUTPUT", value_enum)]
    pub output: Option<Format>,

    /// The kubeconfig's context to use
    #[arg(long, global = true, env = "HAWSER_CONTEXT", value_name = "NAME")]
    pub context: Option<String>,

    /// The kubeconfig; else KUBECONFIG, else ~/.kube/config, else the pod's service account
    #[arg(long, global = true, env = "HAWSER_KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// Act as this user
    #[arg(long = "as", global = true, env = "HAWSER_AS", value_name = "USER")]
    pub impersonate: Option<String>,

    /// The agent whose live figures to show [default: /var/lib/hawser/agent.sock]
    #[arg(long, global = true, env = "HAWSER_AGENT", value_name = "SOCKET")]
    #[arg(value_hint = ValueHint::FilePath)]
    pub agent: Option<PathBuf>,

    /// When to colour; NO_COLOR, TERM=dumb and pipes are honoured [default: auto]
    #[arg(long, global = true, env = "HAWSER_COLOR", value_enum, value_name = "WHEN")]
    pub color: Option<Color>,

    /// Longest wait for one answer, such as 10s or 1m30s [default: 10s]
    #[arg(long, global = true, env = "HAWSER_TIMEOUT", value_parser = duration)]
    #[arg(value_name = "DURATION")]
    pub timeout: Option<Duration>,

    /// Answer yes to every question
    #[arg(short, long, global = true)]
    pub yes: bool,

    /// Say what would be done: `client` asks nobody, `server` lets the API check it
    #[arg(long, global = true, value_enum, num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "client", value_name = "WHERE")]
    pub dry_run: Option<DryRun>,

    /// Log to stderr what is asked; twice for more
    #[arg(short, long, global = true, action = ArgAction::Count, conflicts_with = "quiet")]
    pub verbose: u8,

    /// No progress and no hints on stderr
    #[arg(short, long, global = true)]
    pub quiet: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Rows for people, 80 columns
    #[default]
    Table,
    /// More columns
    Wide,
    /// One versioned document
    Json,
    /// The same document as YAML
    Yaml,
    /// kind/name, one a line
    Name,
    /// One versioned object a line
    Jsonl,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Color {
    #[default]
    Auto,
    Always,
    Never,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DryRun {
    Client,
    Server,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// The mesh on one screen: what works, what does not, what to do about it
    Status(Status),
    /// The nodes of the mesh, as the API has them
    #[command(alias = "node")]
    Nodes {
        #[command(subcommand)]
        command: Option<Nodes>,
    },
    /// The tunnels, as one agent sees them
    ///
    /// PATH is how a peer is reached: direct; punched, where both ends had to call, each out of its
    /// NAT; relayed:NODE, where that node passes on what it cannot read; vxlan-shaped; or CLEAR and a
    /// backend.
    Peers {
        #[command(subcommand)]
        command: Option<Peers>,
    },
    /// The route, owner, key and carrier between two addresses; sends nothing
    ///
    /// SRC and DST are addresses, nodes or peers. Exit code 1 if there is no path.
    Path {
        /// Where the packet starts: an address, a node or a peer
        #[arg(value_name = "SRC")]
        source: String,
        /// Where it goes: an address, a node or a peer
        #[arg(value_name = "DST")]
        destination: String,
    },
    /// Look for what goes wrong in the field: each finding with a code and a fix
    ///
    /// Exit code 1 if something must be mended.
    Check(Check),
    /// Judge resources in files before they are applied; asks nobody
    ///
    /// Each finding has a code and a fix, and what their conditions say is told. Documents that are
    /// not of hawser.dev are left alone. Exit code 1 if something must be mended.
    Analyze {
        /// YAML or JSON, also as kubectl get -o yaml prints it; - is standard input
        #[arg(value_name = "FILE", required = true, value_hint = ValueHint::FilePath)]
        files: Vec<PathBuf>,
    },
    /// Prove what the mesh promises
    Verify {
        #[command(subcommand)]
        command: Option<Verify>,
    },
    /// Key epochs and fingerprints, never a key
    Keys {
        #[command(subcommand)]
        command: Keys,
    },
    /// Throw a node out at once and for ever: sessions, routes, subnets, credential
    Revoke {
        /// The node
        node: String,
    },
    /// What the whole mesh shares: whether it encrypts, and what carries
    Mesh {
        #[command(subcommand)]
        command: MeshCommand,
    },
    /// Install Hawser on a cluster, with Helm and the charts that are built into this program
    ///
    /// --dry-run prints what would be made; --dry-run=server lets the API check it.
    Install(Release),
    /// Bring a release to this program's version; values stay unless they are given again
    Upgrade(Release),
    /// Take every node out of the mesh, then delete the release
    ///
    /// Devices, routes, guard and CNI files go first, by the agents; nodes that are not out in time
    /// are named, and nothing is deleted then. The definitions stay, and so do their objects: delete
    /// the release of the definitions and kubectl delete crd when nobody needs them.
    Uninstall {
        #[command(flatten)]
        place: Place,
        /// Take the nodes out of the mesh and delete nothing; helm uninstall does this first
        #[arg(long)]
        agents_only: bool,
        /// How long to wait for the agents
        #[arg(long, value_parser = duration, default_value = "2m", value_name = "DURATION")]
        wait: Duration,
    },
    /// Make this machine a part of the mesh
    ///
    /// Stays in the foreground, with the agent, unless --install-service is given. Flags for the
    /// agent go behind two dashes: hawser join URL --token-file F -- --listen-port 51821
    ///
    /// A gateway that is away or busy is asked again, for two minutes or as long as --timeout says.
    /// The token is used once all the same.
    Join(Join),
    /// Take this machine out of the mesh, and leave nothing behind
    Leave(Leave),
    /// Tokens that let machines outside of the cluster join
    #[command(alias = "tokens")]
    Token {
        #[command(subcommand)]
        command: Tokens,
    },
    /// Laptops, phones and routers with any WireGuard on them
    Peer {
        #[command(subcommand)]
        command: PlainPeers,
    },
    /// Gather what somebody needs who was not there: resources, events, this node's agent
    ///
    /// Writes one tar.gz with mode 0600: the mesh's resources without join tokens, their events, the
    /// agent's state, metrics and its last packets (headers only, unless the agent was told
    /// otherwise) as pcapng. No key is in it; names and addresses are. What could not be read is
    /// named in it.
    Bundle {
        /// The file to write; none that is there is overwritten [default: hawser-bundle-TIME.tar.gz]
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        out: Option<PathBuf>,
    },
    /// Draw who speaks with whom: sites, their gateways, and the tunnels between them
    ///
    /// Up to 40 nodes each is drawn, of more the sites alone. For a picture: hawser graph --draw dot |
    /// dot -Tsvg, or --draw svg. -o json has all of it.
    Graph {
        /// How to draw it
        #[arg(long, value_enum, default_value = "text", value_name = "HOW")]
        draw: Drawing,
    },
    /// Print the custom resource definitions, for kubectl apply -f -
    Crds,
    /// Print a completion script: source <(hawser completion bash)
    Completion {
        #[arg(value_enum)]
        shell: Shell,
    },
    /// Write the manual pages into DIR
    Man {
        #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
        directory: PathBuf,
    },
    /// The versions of this program, of the API server and of the agent
    Version,
}

#[derive(Debug, clap::Args)]
pub struct Status {
    /// Wait until everything is ready, at most so long (5m if no time is given)
    #[arg(long, value_parser = duration, num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "5m", value_name = "DURATION")]
    pub wait: Option<Duration>,
    /// Show it again at every change, until Ctrl-C
    #[arg(long, conflicts_with = "wait")]
    pub watch: bool,
    /// Which problems make the exit code 1
    #[arg(long, value_enum, default_value = "error", value_name = "SEVERITY")]
    pub fail_on: FailOn,
}

#[derive(Debug, clap::Args)]
pub struct Check {
    /// Look at this machine, before an agent runs on it; asks no API. Else: at the running mesh
    #[arg(long)]
    pub pre: bool,
    /// The UDP port that the tunnels will have
    #[arg(long, default_value_t = 51820, value_name = "PORT", requires = "pre")]
    pub listen_port: u16,
    /// A pool of the mesh; may be repeated
    #[arg(long, value_name = "CIDR", requires = "pre")]
    #[arg(default_values = ["10.244.0.0/16", "fd42::/48"])]
    pub pool: Vec<ipnet::IpNet>,
    /// Where the container runtime looks for network configurations
    #[arg(long, value_name = "DIR", default_value = "/etc/cni/net.d", requires = "pre")]
    pub conf_dir: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FailOn {
    Error,
    Warning,
    Never,
}

#[derive(Debug, Subcommand)]
pub enum Nodes {
    /// One row a node
    #[command(alias = "ls")]
    List,
    /// Everything about one node
    Show { name: String },
    /// Create a node and a kubeconfig with exactly its rights
    Add {
        name: String,
        /// The kubeconfig to write, 0600; it holds the node's token
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        out: PathBuf,
        /// Where the node stands; nodes of one site prefer each other
        #[arg(long)]
        site: Option<String>,
        /// The API's address as the node reaches it; else the one used now
        #[arg(long, value_name = "URL")]
        server: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub enum Peers {
    /// One row a peer
    #[command(alias = "ls")]
    List,
    /// Everything about one peer
    Show { name: String },
    /// One peer in the form of `wg showconf`, with the private key hidden
    Config { name: String },
}

#[derive(Debug, Subcommand)]
pub enum Keys {
    /// Which node is on which epoch, with fingerprints to compare by eye
    Status,
    /// Change the nodes' keys without losing a packet
    Rotate(Rotate),
    /// Stop before the next step
    Pause {
        /// The rotation; else the one that is under way
        name: Option<String>,
    },
    /// Go on after a pause
    Resume {
        /// The rotation; else the one that is under way
        name: Option<String>,
    },
    /// End it: nodes that have not switched keep their key
    Abort {
        /// The rotation; else the one that is under way
        name: Option<String>,
    },
    /// End it: nodes that have switched go back to the key that they still hold
    Rollback {
        /// The rotation; else the one that is under way
        name: Option<String>,
    },
    /// Stop waiting for nodes that are away and for plain peers: the old keys go now
    Forget {
        /// The rotation; else the one that is under way
        name: Option<String>,
    },
    /// All rotations, the newest first
    History,
}

#[derive(Debug, clap::Args)]
pub struct Rotate {
    /// Rotate this node; may be repeated. Without --node and --site: all
    #[arg(long, value_name = "NODE")]
    pub node: Vec<String>,
    /// Rotate the nodes of this site; may be repeated
    #[arg(long, value_name = "SITE")]
    pub site: Vec<String>,
    /// A node that goes first, alone; may be repeated
    #[arg(long, value_name = "NODE")]
    pub canary: Vec<String>,
    /// A site whose nodes go first; may be repeated
    #[arg(long, value_name = "SITE")]
    pub canary_site: Vec<String>,
    /// At most so many nodes change at once
    #[arg(long, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub wave_size: Option<u32>,
    /// No new wave begins while more nodes than this are away [default: a quarter]
    #[arg(long, value_name = "N")]
    pub max_unavailable: Option<u32>,
    /// Until when the old epoch stays valid for nodes that are away: a time, or 36h from now
    /// [default: 7 days]
    #[arg(long, value_name = "WHEN")]
    pub deadline: Option<String>,
    /// Begin also while the mesh is degraded
    #[arg(long)]
    pub force: bool,
    /// Their disks are lost: refuse their old keys at once, and let them make new ones
    #[arg(long, requires = "node", conflicts_with_all = ["site", "canary", "canary_site"])]
    pub lost: bool,
    /// The rotation's name [default: manual-DATE-TIME]
    #[arg(long)]
    pub name: Option<String>,
    /// Do not wait for its end
    #[arg(long)]
    pub no_wait: bool,
}

#[derive(Debug, Subcommand)]
pub enum PlainPeers {
    /// Make a peer and show its configuration, once; its private key is stored nowhere
    ///
    /// There is one configuration for each node that the peer may call, with the same key and
    /// addresses: for wg-quick, or on a terminal also as a QR code for a phone. Use one of them at
    /// a time. Should its node fail, change to another: the mesh follows.
    Create(CreatePeer),
    /// One row a peer, and the node that it called last
    #[command(alias = "ls")]
    List,
    /// Every node refuses it from now on, and its addresses are free again
    Delete { name: String },
}

#[derive(Debug, clap::Args)]
pub struct CreatePeer {
    /// Its name, such as laptop
    pub name: String,
    /// The nodes that it may call, in order [default: up to 3 with a public endpoint]
    #[arg(long, value_name = "NODE[,NODE]", value_delimiter = ',')]
    pub via: Vec<String>,
    /// Write to this file, 0600, instead of printing it; for more nodes also to NAME-2, NAME-3
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub out: Option<PathBuf>,
    /// Replace files that are there
    #[arg(long, requires = "out")]
    pub force: bool,
}

#[derive(Debug, Subcommand)]
pub enum Verify {
    /// Guard, handshakes and epochs, from the agent's own figures; sends nothing
    Quick {
        /// Also write the checks as JUnit XML
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        junit: Option<PathBuf>,
    },
    /// Send marked packets and prove that none is readable on the underlay
    ///
    /// Runs on a node and needs CAP_NET_RAW. The same capture must see the marker on the tunnel
    /// device, else the result counts for nothing and the check fails.
    Wire(Wire),
}

#[derive(Debug, clap::Args)]
pub struct Wire {
    /// Also write the checks as JUnit XML
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub junit: Option<PathBuf>,
    /// The tunnel device; else the one that the agent made
    #[arg(long, value_name = "DEVICE")]
    pub tun: Option<String>,
    /// The devices to watch; else all but loopback, the tunnel and the pods' devices
    #[arg(long, value_name = "DEVICE")]
    pub underlay: Vec<String>,
    /// The UDP port of the tunnels
    #[arg(long, default_value_t = 51820, value_name = "PORT")]
    pub port: u16,
    /// Send to these addresses; else to each peer's own address in the mesh
    #[arg(long, value_name = "ADDRESS")]
    pub to: Vec<IpAddr>,
    /// Packets to each address
    #[arg(long, default_value_t = 20, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub count: u32,
}

/// Without host bits, and not everything.
pub fn prefix(text: &str) -> Result<String, String> {
    let prefix = api::parse_prefix(text).map_err(|bad| bad.to_string())?;
    if prefix.prefix_len() == 0 {
        return Err("that is the whole address space".to_owned());
    }
    Ok(prefix.to_string())
}

/// `10s`, `5m`, `1h30m`; never negative.
pub fn duration(text: &str) -> Result<Duration, String> {
    let length: SignedDuration =
        text.parse().map_err(|_| "write a duration such as 30s, 5m or 1h30m".to_owned())?;
    length.try_into().map_err(|_| "a duration cannot be negative".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn durations_are_written_as_people_write_them() {
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert!(duration("-5s").is_err());
        assert!(duration("soon").is_err());
    }

    #[test]
    fn wait_alone_means_five_minutes() {
        let args = Args::try_parse_from(["hawser", "status", "--wait"]).unwrap();

        let Command::Status(status) = args.command else { panic!("not status") };
        assert_eq!(status.wait, Some(Duration::from_secs(300)));
    }
}
