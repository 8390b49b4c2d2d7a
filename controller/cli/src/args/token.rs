//! `hawser token …`.

use std::{path::PathBuf, time::Duration};

use clap::{Subcommand, ValueHint};

use super::{duration, prefix};

#[derive(Debug, Subcommand)]
pub enum Tokens {
    /// Make a token and print it, once; the mesh keeps a hash of it
    Create(CreateToken),
    /// One row a token, and who joined with it
    #[command(alias = "ls")]
    List,
    /// Let in a machine that waits: its key is the one that it prints
    Approve(Decide),
    /// Refuse a machine that waits, for as long as the token lives
    Deny(Decide),
    /// Nobody joins with it any more; machines that did stay
    Revoke { name: String },
}

#[derive(Debug, clap::Args)]
pub struct Decide {
    /// The machine, by the name that it will have
    #[arg(value_name = "MACHINE")]
    pub machine: String,
    /// The token that it came with, where machines of that name wait with several
    #[arg(long, value_name = "NAME")]
    pub token: Option<String>,
}

#[derive(Debug, clap::Args)]
pub struct CreateToken {
    /// How long it can be used
    #[arg(long, default_value = "24h", value_parser = duration, value_name = "DURATION")]
    pub ttl: Duration,
    /// How many machines may join with it
    #[arg(long, default_value_t = 1, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub uses: u32,
    /// The site that the machines belong to
    #[arg(long)]
    pub site: Option<String>,
    /// The pools that the machines' subnets come from, by their name in the Mesh [default: those
    /// without a name]; a pool of /32 or /128 gives each machine one address
    #[arg(long, value_name = "NAME")]
    pub pool: Option<String>,
    /// What the machines' names begin with
    #[arg(long, value_name = "PREFIX")]
    pub name_prefix: Option<String>,
    /// What machines may announce with hawser join --announce: prefixes inside of these, such as a
    /// site's LAN, which the whole mesh then reaches through them
    #[arg(long, value_name = "CIDR[,CIDR]", value_delimiter = ',', value_parser = prefix)]
    pub announce: Vec<String>,
    /// Let each machine wait until somebody approves it: hawser token approve
    #[arg(long)]
    pub approve: bool,
    /// The token's own name, which is no secret [default: join-RANDOM]
    #[arg(long)]
    pub name: Option<String>,
    /// Write it to this file, 0600, instead of printing it
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub out: Option<PathBuf>,
    /// Print the command to run on the machine
    #[arg(long)]
    pub print_join_command: bool,
}
