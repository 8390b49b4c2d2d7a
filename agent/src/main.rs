//! `hawser-agent`: reads the command line and runs one command.

use std::{io::IsTerminal, process::ExitCode};

use agent::options::{Command, Options};
use anyhow::Context;
use clap::Parser;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let Options { command } = Options::parse();
    log();
    match execute(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn execute(command: Command) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("starting the runtime")?;
    match command {
        Command::Keygen(state) => agent::keygen(&state.directory),
        Command::Prove(prove) => agent::prove(&prove),
        Command::Guard(state) => runtime.block_on(agent::boot::run(state)),
        Command::InstallCni(install) => agent::install::run(install),
        Command::Run(run) => runtime.block_on(agent::run::run(*run)),
        Command::Uninstall(uninstall) => runtime.block_on(agent::uninstall::run(uninstall)),
    }
}

/// To standard error; `HAWSER_LOG` says how much. The engine warns of every peer that is away and
/// the client of every API that is: what we make of it says the same once, in our words.
fn log() {
    let filter = EnvFilter::try_from_env("HAWSER_LOG");
    let filter = filter.unwrap_or_else(|_| "info,boringtun=error,kube_client=off".into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}
