//! Writes every definition into the folder that is named: `cargo run -p api --example crds deploy/crds`.
fn main() -> std::io::Result<()> {
    let folder = std::env::args().nth(1).unwrap_or_else(|| "deploy/crds".into());
    for (name, text) in api::manifests() {
        std::fs::write(std::path::Path::new(&folder).join(name), text)?;
    }
    Ok(())
}
