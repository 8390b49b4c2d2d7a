//! What the program says of itself: version, completion, manual pages.

use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;
use serde::Serialize;

use crate::{
    args::Args,
    cluster::Cluster,
    exit::{Exit, Failure},
    output::{Item, Output},
    settings::Settings,
    terminal::Terminal,
    text::NONE,
    view::{fields, or},
};

const OWN: &str = env!("CARGO_PKG_VERSION");

#[derive(Serialize)]
struct Version {
    client: &'static str,
    server: Option<String>,
    agent: Option<String>,
}

/// Never fails: whoever is not there has no version.
pub(super) async fn version(settings: &Settings, terminal: &Terminal) -> Result<Exit, Failure> {
    let agent = super::state_if_any(settings).await.ok().flatten().map(|state| state.version);
    let version = Version { client: OWN, server: server(settings).await, agent };
    let screen = fields(&[
        ("hawser", version.client.to_owned()),
        ("server", or(version.server.as_ref(), NONE)),
        ("agent", or(version.agent.as_ref(), NONE)),
    ]);
    let item = Item::new(format!("version/{OWN}"), &version);
    terminal.print(&Output::screen("Version", screen, item))?;
    Ok(Exit::Ok)
}

async fn server(settings: &Settings) -> Option<String> {
    Cluster::connect(settings).await.ok()?.version().await.ok()
}

pub(super) fn completion(shell: Shell, terminal: &Terminal) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "hawser", &mut script);
    terminal.raw(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Ok)
}

pub(super) fn man(directory: &Path, terminal: &Terminal) -> Result<Exit, Failure> {
    std::fs::create_dir_all(directory)
        .and_then(|()| clap_mangen::generate_to(Args::command(), directory))
        .map_err(|error| {
            Failure::failed(format!("writing manual pages into {}: {error}", directory.display()))
        })?;
    terminal.say(&format!(
        "manual pages written; read them with man -M or man {}/hawser.1",
        directory.display()
    ));
    Ok(Exit::Ok)
}
