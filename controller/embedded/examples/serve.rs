//! Serves the mesh's resources from a directory: `serve DIR ADDR`.

use anyhow::Context;
use std::path::PathBuf;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let dir = PathBuf::from(arguments.next().context("serve DIR ADDR")?);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let options = embedded::Options { crds: api::crds(), names: Vec::new() };
    let server = embedded::Server::open(&dir, options)?;
    println!("export KUBECONFIG={}", server.kubeconfig().display());
    let listener = tokio::net::TcpListener::bind(&address).await.context("listening")?;
    server.serve(listener, std::future::pending()).await?;
    Ok(())
}
