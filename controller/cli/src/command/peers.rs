//! `hawser peers`: one agent's tunnels.

use jiff::Timestamp;

use crate::{
    agent,
    args::Peers,
    cluster::Cluster,
    exit::{Exit, Failure},
    settings::Settings,
    terminal::Terminal,
    view::peers,
};

pub(super) async fn run(
    command: Option<Peers>,
    settings: &Settings,
    terminal: &Terminal,
) -> Result<Exit, Failure> {
    match command.unwrap_or(Peers::List) {
        Peers::List => {
            let state = agent::state(&settings.agent, settings.timeout).await?;
            terminal.print(&peers::list(&state, Timestamp::now()))?;
        }
        Peers::Show { name } => {
            let state = agent::state(&settings.agent, settings.timeout).await?;
            let peer = state.peer(&name).ok_or_else(|| peers::not_found(&name, &state))?;
            terminal.print(&peers::show(&state, peer, Timestamp::now()))?;
        }
        Peers::Config { name } => config(&name, settings, terminal).await?,
    }
    Ok(Exit::Ok)
}

async fn config(name: &str, settings: &Settings, terminal: &Terminal) -> Result<(), Failure> {
    let cluster = Cluster::connect(settings).await?;
    let (nodes, plain) = tokio::try_join!(cluster.nodes(), cluster.peers())?;
    let state = super::state_if_any(settings).await?;
    let live = state.as_ref().and_then(|state| state.peer(name));
    terminal.print(&peers::configuration(name, &nodes, &plain)?.learn(live).print())
}
