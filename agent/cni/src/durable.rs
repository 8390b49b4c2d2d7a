//! Replacing a file so that a reader, or a crash at any moment, sees the old text or the new one.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// Writes `bytes` to `dir/name` (mode 0600): a temporary file beside it, flushed, renamed over it,
/// directory flushed. A failure leaves the old file and no temporary one.
pub(crate) fn replace(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = dir.join(format!(".{name}.{}", std::process::id()));
    let outcome = write_synced(&temporary, bytes)
        .and_then(|()| fs::rename(&temporary, dir.join(name)))
        .and_then(|()| File::open(dir)?.sync_all());
    if outcome.is_err() {
        // It may not exist; the first error is the one to tell.
        let _ = fs::remove_file(&temporary);
    }
    outcome
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
