//! `hawser graph`: sites, gateways and tunnels, as the API has them.

use crate::{
    args::Drawing,
    cluster::Cluster,
    exit::{Exit, Failure},
    settings::Settings,
    terminal::Terminal,
    view::graph::Graph,
};

pub(super) async fn run(
    drawing: Drawing,
    settings: &Settings,
    terminal: &Terminal,
) -> Result<Exit, Failure> {
    let cluster = Cluster::connect(settings).await?;
    let (mesh, nodes) = tokio::try_join!(cluster.mesh(), cluster.nodes())?;
    let mesh = mesh.ok_or_else(|| {
        Failure::failed("there is no Mesh").check("the chart makes it: hawser install")
    })?;
    terminal.print(&Graph::new(&mesh, &nodes).draw(drawing))?;
    Ok(Exit::Ok)
}
