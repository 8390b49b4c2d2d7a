//! The last view on disk: with it an agent comes back while the API is away.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::View;

const FILE: &str = "view.json";
const TEMPORARY: &str = "view.json.new";

/// Where the view is.
pub fn path(state: &Path) -> PathBuf {
    state.join(FILE)
}

/// When the view there was last known to be true: its file's time.
pub fn kept_at(state: &Path) -> Option<SystemTime> {
    fs::metadata(path(state)).and_then(|metadata| metadata.modified()).ok()
}

/// The view that [`save`] wrote last. A file that can't be read counts as none: the source brings a
/// new one.
pub fn load(state: &Path) -> Option<View> {
    let text = fs::read(path(state)).ok()?;
    match serde_json::from_slice(&text) {
        Ok(view) => Some(view),
        Err(error) => {
            tracing::warn!(%error, file = FILE, "last view unreadable");
            None
        }
    }
}

/// Forgets the stored view.
pub fn remove(state: &Path) -> io::Result<()> {
    match fs::remove_file(state.join(FILE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Replaces the stored view, atomically and durably, mode 0600.
pub fn save(state: &Path, view: &View) -> io::Result<()> {
    let temporary = state.join(TEMPORARY);
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(&serde_json::to_vec(view)?)?; // in one call, not one a word
    file.sync_all()?;
    fs::rename(&temporary, path(state))?;
    File::open(state)?.sync_all()
}
