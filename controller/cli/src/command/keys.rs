//! `hawser keys`.

use crate::{
    args::Keys,
    cluster::Cluster,
    exit::{Exit, Failure},
    settings::Settings,
    terminal::Terminal,
    view::keys,
};

pub(super) async fn run(
    command: Keys,
    settings: &Settings,
    terminal: &Terminal,
) -> Result<Exit, Failure> {
    match command {
        Keys::Status => {
            let cluster = Cluster::connect(settings).await?;
            let (nodes, rotations) = tokio::try_join!(cluster.nodes(), cluster.rotations())?;
            terminal.print(&keys::status(&nodes, &rotations))?;
            Ok(Exit::Ok)
        }
    }
}
