//! `hawser verify`: proves what the mesh promises.
//!
//! ```text
//! quick   /state ─▶ checks
//! wire    targets, canaries ─▶ send marked packets ─┐
//!         one packet socket on every device ────────┴▶ Tally ─▶ judge ─▶ checks
//! ```
//! What decides is pure ([`quick`], [`tally`], [`canary`], [`frame`]); what touches the network is
//! small ([`capture`], [`wire`]).

mod canary;
mod capture;
mod frame;
mod quick;
mod report;
mod tally;
mod wire;

use std::{path::Path, time::Instant};

use jiff::Timestamp;

use crate::{
    agent,
    args::Verify,
    exit::{Exit, Failure},
    settings::Settings,
    terminal::Terminal,
};
use report::Report;

pub async fn run(
    command: Option<Verify>,
    settings: &Settings,
    terminal: &Terminal,
) -> Result<Exit, Failure> {
    let started = Instant::now();
    match command.unwrap_or(Verify::Quick { junit: None }) {
        Verify::Quick { junit } => {
            let state = agent::state(&settings.agent, settings.timeout).await?;
            let checks = quick::checks(&state, Timestamp::now());
            finish(&Report::new("quick", checks, started.elapsed()), junit.as_deref(), terminal)
        }
        Verify::Wire(args) => {
            let junit = args.junit.clone();
            let checks = wire::run(args, settings, terminal).await?;
            finish(&Report::new("wire", checks, started.elapsed()), junit.as_deref(), terminal)
        }
    }
}

fn finish(report: &Report, junit: Option<&Path>, terminal: &Terminal) -> Result<Exit, Failure> {
    if let Some(path) = junit {
        std::fs::write(path, report.junit())
            .map_err(|error| Failure::failed(format!("writing {}: {error}", path.display())))?;
    }
    terminal.print(&report.print())?;
    Ok(if report.passes() { Exit::Ok } else { Exit::Failed })
}
