//! The state directory's small files that belong to nobody else: who runs here, and which tunnel
//! device there is to take away.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::Path,
    time::Duration,
};

use rustix::fs::{FlockOperation, flock};
use tokio::time::{Instant, sleep};

const LOCK: &str = "agent.lock";
const DEVICE: &str = "device";
/// Where none is remembered.
const USUAL_DEVICE: &str = "hawser0";

/// Held by the one agent, or uninstall, that works on a state directory.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "the lock lives as long as the file")] File);

#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("an agent is running on {0}; stop it first")]
    Taken(String),
    #[error("locking {path}: {source}")]
    Io { path: String, source: io::Error },
}

/// A program that a killed agent had just started may hold its lock until it runs.
const HANDOVER: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(20);

/// Takes the directory for this process, until it ends; waits a moment for one that just ended.
pub async fn lock(state: &Path) -> Result<Lock, LockError> {
    let patience = Instant::now() + HANDOVER;
    loop {
        match try_lock(state) {
            Err(LockError::Taken(_)) if Instant::now() < patience => sleep(PAUSE).await,
            other => return other,
        }
    }
}

fn try_lock(state: &Path) -> Result<Lock, LockError> {
    let path = state.join(LOCK);
    let error = |source| LockError::Io { path: path.display().to_string(), source };
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = file.map_err(error)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Lock(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(LockError::Taken(state.display().to_string())),
        Err(other) => Err(error(other.into())),
    }
}

/// Makes an empty directory ours alone: a kubelet that finds a volume's directory missing makes it
/// readable by all. One with something in it, or that others may write to, stays as it is, and is
/// refused later.
pub fn tighten_if_empty(state: &Path) -> io::Result<()> {
    let Ok(metadata) = fs::symlink_metadata(state) else {
        return Ok(());
    };
    let ours = metadata.is_dir() && metadata.uid() == rustix::process::geteuid().as_raw();
    if !ours || metadata.mode() & 0o022 != 0 || fs::read_dir(state)?.next().is_some() {
        return Ok(());
    }
    fs::set_permissions(state, fs::Permissions::from_mode(0o700))
}

/// Remembers the tunnel device's name, so that uninstall finds it.
pub fn remember_device(state: &Path, tun: &str) -> io::Result<()> {
    fs::write(state.join(DEVICE), tun)
}

/// The remembered device, else the usual one.
pub fn device(state: &Path) -> String {
    let name = fs::read_to_string(state.join(DEVICE)).unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { USUAL_DEVICE } else { name }.to_owned()
}

/// Removes what `run` leaves in the directory, except keys, view and reservations.
pub fn forget(state: &Path) -> io::Result<()> {
    for name in [DEVICE, "agent.sock"] {
        match fs::remove_file(state.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_empty_directory_is_made_ours_alone() {
        let state = tempfile::tempdir().unwrap();
        let mode = || fs::metadata(state.path()).unwrap().mode() & 0o777;
        let loosen = |mode| {
            fs::set_permissions(state.path(), fs::Permissions::from_mode(mode)).unwrap();
            tighten_if_empty(state.path()).unwrap();
        };

        loosen(0o755);
        assert_eq!(mode(), 0o700);
        loosen(0o777);
        assert_eq!(mode(), 0o777, "others may have written here already");
        fs::write(state.path().join("x"), "").unwrap();
        loosen(0o755);
        assert_eq!(mode(), 0o755);
        tighten_if_empty(&state.path().join("missing")).unwrap();
    }

    #[tokio::test]
    async fn a_state_directory_has_one_agent() {
        let state = tempfile::tempdir().unwrap();

        let first = lock(state.path()).await.unwrap();

        assert!(matches!(lock(state.path()).await, Err(LockError::Taken(_))));
        drop(first);
        lock(state.path()).await.unwrap();
    }

    #[test]
    fn the_device_is_remembered_and_forgotten() {
        let state = tempfile::tempdir().unwrap();

        remember_device(state.path(), "hawser7").unwrap();
        assert_eq!(device(state.path()), "hawser7");

        forget(state.path()).unwrap();
        forget(state.path()).unwrap();
        assert_eq!(device(state.path()), "hawser0");
    }
}
