//! Where programs are found: Hawser's own in the build's directory, all others on PATH.

use std::path::PathBuf;

use anyhow::Context as _;

/// Where the scripts build the peers that Debian does not carry.
const PEERS: &str = ".cache/hawser-peers/bin";

/// `HAWSER_BIN_DIR`, else `release/` in the target directory.
pub fn bin_dir() -> PathBuf {
    if let Some(dir) = std::env::var_os("HAWSER_BIN_DIR") {
        return dir.into();
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let here = || std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    target.unwrap_or_else(here).join("release")
}

/// The path of one program; the error says how to get it.
pub fn program(name: &str) -> anyhow::Result<PathBuf> {
    if !name.starts_with("hawser") {
        return on_path(name).with_context(|| format!("there is no `{name}` on PATH; install it"));
    }
    let path = bin_dir().join(name);
    anyhow::ensure!(
        path.is_file(),
        "there is no {}; run `cargo build --release`, or set HAWSER_BIN_DIR",
        path.display()
    );
    Ok(path)
}

fn on_path(name: &str) -> Option<PathBuf> {
    let direct = PathBuf::from(name);
    if direct.is_absolute() {
        return direct.is_file().then_some(direct);
    }
    let path = std::env::var_os("PATH")?;
    let peers = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(PEERS));
    let mut places = std::env::split_paths(&path).chain(peers).map(|dir| dir.join(name));
    places.find(|path| path.is_file())
}
