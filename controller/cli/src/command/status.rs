//! `hawser status`, once, until everything is ready, or at every change.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::{
    args::{self, FailOn, Format},
    cluster::Cluster,
    exit::{Exit, Failure},
    settings::Settings,
    terminal::Terminal,
    view::status::{Agent, Known, Status},
};

const PAUSE: Duration = Duration::from_secs(1);

pub(super) async fn run(
    args: args::Status,
    settings: &Settings,
    terminal: &Terminal,
) -> Result<Exit, Failure> {
    let args::Status { wait, watch, fail_on } = args;
    match (wait, watch) {
        (Some(limit), _) => until_ready(limit, fail_on, settings, terminal).await,
        (None, true) => at_every_change(settings, terminal).await,
        (None, false) => {
            let status = read(&Cluster::connect(settings).await?, settings).await?;
            terminal.print(&status.print())?;
            Ok(if status.fails(fail_on) { Exit::Failed } else { Exit::Ok })
        }
    }
}

pub(super) async fn read(cluster: &Cluster, settings: &Settings) -> Result<Status, Failure> {
    let (version, mesh, nodes, peers) =
        tokio::try_join!(cluster.version(), cluster.mesh(), cluster.nodes(), cluster.peers())?;
    let agent = match super::state_if_any(settings).await {
        Ok(Some(state)) => Agent::Answered(Box::new(state)),
        Ok(None) => Agent::Absent,
        Err(error) => Agent::Failed(error.to_string()),
    };
    // Whoever may not read them sees all the rest.
    let rotations = cluster.rotations().await.unwrap_or_default();
    let server = cluster.url.clone();
    let known = Known { server, server_version: version, mesh, nodes, peers, rotations, agent };
    Ok(Status::new(&known, Timestamp::now()))
}

/// Asks again until nothing is wrong. What was seen last is printed in any case.
async fn until_ready(
    limit: Duration,
    fail_on: FailOn,
    settings: &Settings,
    terminal: &Terminal,
) -> Result<Exit, Failure> {
    let cluster = Cluster::connect(settings).await?;
    let end = Instant::now() + limit;
    let mut told = String::new();
    loop {
        let seen = match read(&cluster, settings).await {
            Ok(status) if !status.fails(fail_on) => {
                terminal.print(&status.print())?;
                return Ok(Exit::Ok);
            }
            Err(failure) if failure.exit != Exit::Unreachable => return Err(failure),
            not_yet => not_yet,
        };
        let line = seen.as_ref().map_or_else(|failure| failure.what.clone(), Status::line);
        if line != told {
            terminal.say(&format!("waiting: {line}"));
            told = line;
        }
        if Instant::now() + PAUSE > end {
            if let Ok(status) = &seen {
                terminal.print(&status.print())?;
            }
            return Err(Failure::new(
                Exit::TimedOut,
                format!("not ready within {limit:?}: {told}"),
            )
            .check("the problems listed above, or --wait for longer"));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Draws the screen again, or prints one line or object a change where there is no screen.
async fn at_every_change(settings: &Settings, terminal: &Terminal) -> Result<Exit, Failure> {
    const HOME_AND_CLEAR: &str = "\u{1b}[H\u{1b}[2J";
    let cluster = Cluster::connect(settings).await?;
    let mut shown = String::new();
    loop {
        let status = read(&cluster, settings).await?;
        let text = match terminal.format() {
            Format::Table | Format::Wide if !terminal.is_screen() => {
                format!("{}\n", status.line())
            }
            Format::Json => status.print().render(Format::Jsonl),
            format => status.print().render(format),
        };
        if text != shown {
            if terminal.is_screen() {
                terminal.raw(HOME_AND_CLEAR)?;
            }
            terminal.text(&text)?;
            shown = text;
        }
        tokio::time::sleep(PAUSE).await;
    }
}
