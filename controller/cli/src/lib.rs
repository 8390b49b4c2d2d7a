//! The program `hawser`: status, checks, keys, joins and proof for the operator.
//!
//! ```text
//! args ─▶ settings ─▶ command ─▶ cluster (API), agent (socket)        thin: asks
//!                        └─▶ view (pure) ─▶ output ─▶ terminal ─▶ stdout
//! ```
//! stdout is the result; progress, questions and errors go to stderr.

#![forbid(unsafe_code)]
#![allow(
    clippy::format_push_string,
    reason = "a screen of text is built once, and reads better so"
)]

pub mod agent;
pub mod args;
pub mod cluster;
pub mod command;
pub mod exit;
#[cfg(test)]
mod fixture;
pub mod helm;
pub mod join;
pub mod kubeconfig;
pub mod member;
pub mod node_file;
pub mod output;
pub mod peer;
pub mod settings;
pub mod state;
pub mod terminal;
pub mod text;
pub mod verify;
pub mod view;

use std::{ffi::OsString, path::Path, process::ExitCode};

use clap::{CommandFactory, FromArgMatches};
use tracing_subscriber::{EnvFilter, fmt};

use crate::{
    args::Args,
    exit::{Exit, Failure},
    settings::Settings,
    terminal::Terminal,
};

/// Runs one command line, and says how it ended.
pub fn run(argv: impl IntoIterator<Item = OsString>) -> ExitCode {
    let argv: Vec<OsString> = argv.into_iter().collect();
    let args = match parse(&argv) {
        Ok(args) => args,
        Err(error) => {
            // A closed stdout is all that can go wrong here, and nobody is left to tell.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(Exit::Usage as u8));
        }
    };
    match start(args) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            terminal::complain(&failure);
            failure.exit.into()
        }
    }
}

/// The same binary is `hawser` and, by its name, the plugin `kubectl hawser`.
fn parse(argv: &[OsString]) -> Result<Args, clap::Error> {
    let name = argv.first().and_then(|name| Path::new(name).file_name()).unwrap_or_default();
    let mut command = Args::command();
    if name.to_string_lossy().starts_with("kubectl-") {
        command = command.bin_name("kubectl hawser");
    }
    Args::from_arg_matches(&command.try_get_matches_from(argv)?)
}

fn start(args: Args) -> Result<Exit, Failure> {
    let Args { global, command } = args;
    let file = match settings::path(|name| std::env::var(name).ok()) {
        Some(path) => settings::read(&path)?,
        None => settings::File::default(),
    };
    let settings = Settings::decide(global, file)?;
    log(settings.verbose);
    let terminal = Terminal::new(&settings);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("starting: {error}")))?;
    let result = runtime.block_on(async {
        tokio::select! {
            biased; // the signal is watched for before anything is done
            _ = tokio::signal::ctrl_c() => Err(terminal.interrupted()),
            result = command::run(command, &settings, &terminal) => result,
        }
    });
    // A question may still be waiting for an answer; it is not waited for.
    runtime.shutdown_background();
    result
}

fn log(verbose: u8) {
    let level = match verbose {
        0 => "off",
        1 => "cli=info",
        2 => "cli=debug,kube_client=debug",
        _ => "debug",
    };
    fmt()
        .with_env_filter(EnvFilter::new(level))
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
}
