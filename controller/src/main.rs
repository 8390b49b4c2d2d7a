//! `hawser-controller`: parses the command line, starts the log, and hands over.

#![forbid(unsafe_code)]

use std::io::{IsTerminal, Write, stderr};
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use controller::args::Args;
use controller::run;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let args = Args::parse();
    start_log(args.run.log_json);
    allow_open_files();
    match start(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // What to check, for the operator; a backtrace would hide it.
            let _ = writeln!(stderr(), "hawser-controller: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Each machine at the gateway holds a few connections, and systemd's usual soft limit is 1,024.
fn allow_open_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let all = rustix::process::Rlimit { current: limit.maximum, ..limit };
    if let Err(error) = setrlimit(Resource::Nofile, all) {
        tracing::warn!(%error, "open files stay few");
    }
}

fn start(Args { command, run }: Args) -> anyhow::Result<()> {
    // Fails only if somebody has chosen already, and then it is the same provider.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?
        .block_on(async {
            match command {
                Some(command) => run::command(command).await,
                None => Box::pin(run::run(run)).await,
            }
        })
}

fn start_log(json: bool) {
    // The client reports each refused connection as an error; the watchers say the same, once.
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("info,kube_runtime=warn,kube_client=off"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(stderr().is_terminal())
        .with_writer(stderr);
    if json {
        log.json().init();
    } else {
        log.init();
    }
}
