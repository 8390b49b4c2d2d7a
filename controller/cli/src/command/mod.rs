//! The commands: each asks whom it must, hands what it got to a pure view, and prints it.

mod analyze;
mod bundle;
mod check;
mod crds;
mod graph;
mod install;
mod join;
mod keys;
mod leave;
mod mesh;
mod nodes;
mod path;
mod peer;
mod peers;
mod program;
mod revoke;
mod status;
mod surroundings;
mod token;
mod uninstall;

use crate::{
    agent::{self, AgentError},
    args::Command,
    exit::{Exit, Failure},
    settings::Settings,
    state::State,
    terminal::Terminal,
    verify,
};

/// Runs one command.
pub async fn run(
    command: Command,
    settings: &Settings,
    terminal: &Terminal,
) -> Result<Exit, Failure> {
    match command {
        Command::Status(args) => status::run(args, settings, terminal).await,
        Command::Nodes { command } => nodes::run(command, settings, terminal).await,
        Command::Peers { command } => peers::run(command, settings, terminal).await,
        Command::Path { source, destination } => {
            path::run(&source, &destination, settings, terminal).await
        }
        Command::Analyze { files } => analyze::run(&files, terminal),
        Command::Check(args) => check::run(args, settings, terminal).await,
        Command::Verify { command } => verify::run(command, settings, terminal).await,
        Command::Keys { command } => keys::run(command, settings, terminal).await,
        Command::Revoke { node } => revoke::run(&node, settings, terminal).await,
        Command::Mesh { command } => mesh::run(command, settings, terminal).await,
        Command::Install(release) => install::install(&release, settings, terminal).await,
        Command::Upgrade(release) => install::upgrade(&release, settings, terminal).await,
        Command::Uninstall { place, agents_only, wait } => {
            let place = (!agents_only).then_some(place);
            uninstall::run(place.as_ref(), wait, settings, terminal).await
        }
        Command::Join(args) => join::run(args, settings, terminal).await,
        Command::Leave(args) => leave::run(args, settings, terminal).await,
        Command::Token { command } => token::run(command, settings, terminal).await,
        Command::Peer { command } => peer::run(command, settings, terminal).await,
        Command::Bundle { out } => bundle::run(out, settings, terminal).await,
        Command::Graph { draw } => graph::run(draw, settings, terminal).await,
        Command::Crds => crds::run(terminal),
        Command::Completion { shell } => program::completion(shell, terminal),
        Command::Man { directory } => program::man(&directory, terminal),
        Command::Version => program::version(settings, terminal).await,
    }
}

/// The agent's figures, where there is an agent. One that was named, or is there and does not
/// answer, is an error.
async fn state_if_any(settings: &Settings) -> Result<Option<State>, AgentError> {
    match agent::state(&settings.agent, settings.timeout).await {
        Ok(state) => Ok(Some(state)),
        Err(AgentError::Absent(_)) if !settings.agent_named => Ok(None),
        Err(error) => Err(error),
    }
}
