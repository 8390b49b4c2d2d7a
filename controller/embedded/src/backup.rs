//! Backup and restore: the whole store as one file.
//!
//! A backup is one committed moment, taken while writes go on. It is a redb file with everything:
//! the resources, the certificate authority (so that agents trust a restored server), the hashes
//! of the tokens. It is a secret: 0600.
//!
//! # A restore never gives a subnet out again
//!
//! What was claimed after the backup is not in it. Two things make that safe:
//!
//! - **The directory still has its newer database** (the usual restore, after a mistake): nothing is
//!   unknown. Claims, nodes and their tokens are carried over as they are now, so a node that
//!   joined since goes on, a key epoch never goes back, who was revoked stays so, and a join token
//!   that was used up or taken away does not come back. Nodes that were deleted since do.
//! - **It has not** (the machine is lost): a node that joined after the backup may live on with a
//!   subnet that nobody here knows of. Nothing that the server can see tells when it is gone, and
//!   no waiting time does: its agent goes on from its last view for as long as it likes. So the
//!   Mesh gets the annotation [`RESTORED_AT`], and as long as it stands the controller allocates
//!   nothing that is not claimed already. The mesh itself goes on. The operator takes the
//!   annotation away once each machine is known or gone; only a person can know that.
//!
//! The versions jump ahead to a new history, so every client lists again.

use crate::RESTORED_AT;
use crate::auth::TOKENS;
use crate::client::{Client, ClientError};
use crate::kubeconfig;
use crate::server::App;
use crate::store::{Disk, DiskError, FILE, Key, Loaded, Lock, first_version, sync_directory};
use http::StatusCode;
use http_body_util::{BodyExt, Full};
use jiff::Timestamp;
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const CLAIMS: &str = "subnetclaims.hawser.dev";
const NODES: &str = "meshnodes.hawser.dev";
const MESHES: &str = "meshes.hawser.dev";
const JOIN_TOKENS: &str = "jointokens.hawser.dev";
/// What is true now stays true: see above.
const CARRIED_OVER: [&str; 4] = [CLAIMS, NODES, JOIN_TOKENS, TOKENS];

#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("the server refused: {0}")]
    Refused(String),
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },
    #[error("there is no database in {0}; is it the directory of --embedded?")]
    Nothing(PathBuf),
    #[error("the copy was interrupted: {0}")]
    Interrupted(String),
}

/// What a restore did, for the operator to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreReport {
    /// Claims made after the backup that are kept all the same.
    pub claims_carried_over: usize,
    /// Nodes that were gone and are back, with the tokens they had.
    pub nodes_returned: Vec<String>,
    /// True if the newer claims are unknown: see [`RESTORED_AT`].
    pub allocation_paused: bool,
    /// Where the database that was there before has gone.
    pub replaced: Option<PathBuf>,
}

/// Writes a backup of the directory to `out`, whether or not a server is running on it.
pub async fn backup(dir: &Path, out: &Path) -> Result<(), BackupError> {
    let next = beside(out, "next");
    match Lock::take_existing(dir) {
        Ok(lock) => {
            if !dir.join(FILE).exists() {
                return Err(BackupError::Nothing(dir.to_owned()));
            }
            let disk = Disk::open(dir, lock, first_version(Timestamp::now()))?;
            remove(&next)?;
            disk.copy_to(&next)?;
        }
        Err(DiskError::InUse(_)) => download(dir, &next).await?,
        Err(error) => return Err(error.into()),
    }
    Disk::open_file(&next)?.load()?;
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| BackupError::Io { path, source }
    };
    std::fs::File::open(&next).and_then(|file| file.sync_all()).map_err(io(&next))?;
    std::fs::rename(&next, out).map_err(io(out))?;
    Ok(sync_directory(parent(out))?)
}

/// From the running server, which alone can read its database.
async fn download(dir: &Path, next: &Path) -> Result<(), BackupError> {
    let client = Client::from_kubeconfig(&kubeconfig::path(dir))?;
    let mut connection = client.connect().await?;
    let mut request = http::Request::new(Full::default());
    *request.uri_mut() = http::Uri::from_static("/hawser/backup");
    let mut response = connection.send(request).await?;
    if response.status() != StatusCode::OK {
        return Err(BackupError::Refused(response.status().to_string()));
    }
    remove(next)?;
    let io = |source| BackupError::Io { path: next.to_owned(), source };
    let mut file = create_private(next).map_err(io)?;
    while let Some(frame) = response.body_mut().frame().await {
        let frame = frame.map_err(|error| BackupError::Interrupted(error.to_string()))?;
        if let Some(bytes) = frame.data_ref() {
            file.write_all(bytes).map_err(io)?;
        }
    }
    Ok(())
}

/// What is committed now, as a file without a name.
pub(crate) async fn snapshot(app: &Arc<App>) -> Result<tokio::fs::File, BackupError> {
    let app = app.clone();
    let copied = tokio::task::spawn_blocking(move || {
        let path = app.dir.join(format!("backup-{}.next", uuid::Uuid::new_v4().simple()));
        app.store.disk().copy_to(&path)?;
        let io = |source| BackupError::Io { path: path.clone(), source };
        let file = std::fs::File::open(&path).map_err(io)?;
        std::fs::remove_file(&path).map_err(io)?;
        Ok(file)
    });
    let file: Result<std::fs::File, BackupError> =
        copied.await.map_err(|error| BackupError::Interrupted(error.to_string()))?;
    Ok(tokio::fs::File::from_std(file?))
}

/// Puts the backup in place of the directory's database. No server may be running on it.
pub fn restore(dir: &Path, from: &Path, now: Timestamp) -> Result<RestoreReport, BackupError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| BackupError::Io { path, source }
    };
    let _lock = Lock::take(dir)?;
    let (next, place) = (dir.join("restore.next"), dir.join(FILE));
    remove(&next)?;
    let mut source = std::fs::File::open(from).map_err(io(from))?;
    let mut target = create_private(&next).map_err(io(&next))?;
    std::io::copy(&mut source, &mut target).map_err(io(&next))?;
    drop(target);

    let backup = Disk::open_file(&next)?;
    let then = backup.load()?;
    let current = newer_history(&place, &backup, &then)?;
    let Plan { objects, report } = plan(&then, current.as_ref(), now);
    backup.put_all(&objects)?;
    let last = current.as_ref().map_or(0, |current| current.version).max(then.version);
    backup.restart_history(first_version(now).max(last + 1))?;
    drop(backup);

    let replaced = place
        .exists()
        .then(|| beside(&place, &format!("before-restore-{}", now.strftime("%Y%m%dT%H%M%SZ"))));
    if let Some(aside) = &replaced {
        std::fs::hard_link(&place, aside).map_err(io(aside))?;
    }
    std::fs::rename(&next, &place).map_err(io(&place))?;
    sync_directory(dir)?;
    Ok(RestoreReport { replaced, ..report })
}

/// The database that is in place, if it is a later state of what was backed up.
fn newer_history(
    place: &Path,
    backup: &Disk,
    then: &Loaded,
) -> Result<Option<Loaded>, BackupError> {
    if !place.exists() {
        return Ok(None);
    }
    // One that cannot be read is why people restore; its claims are unknown then.
    let Ok(disk) = Disk::open_file(place) else {
        return Ok(None);
    };
    let Ok(loaded) = disk.load() else {
        return Ok(None);
    };
    let same = disk.meta("ca")? == backup.meta("ca")? && loaded.version >= then.version;
    Ok(same.then_some(loaded))
}

struct Plan {
    /// `None` takes an object away.
    objects: Vec<(Key, Option<Value>)>,
    report: RestoreReport,
}

/// What must be put on top of the backup. Pure.
fn plan(then: &Loaded, current: Option<&Loaded>, now: Timestamp) -> Plan {
    let mut report = RestoreReport {
        claims_carried_over: 0,
        nodes_returned: Vec::new(),
        allocation_paused: false,
        replaced: None,
    };
    let mut objects = Vec::new();
    let pause = match current {
        None => Some(now.to_string()),
        Some(current) => pause_of(current),
    };
    if let Some(since) = pause {
        report.allocation_paused = true;
        for (key, mut mesh) in of_kind(then, MESHES) {
            mesh["metadata"]["annotations"][RESTORED_AT] = since.clone().into();
            objects.push((key, Some(mesh)));
        }
    }
    let Some(current) = current else {
        return Plan { objects, report };
    };
    for kind in CARRIED_OVER {
        let before: Vec<(Key, Value)> = of_kind(then, kind).collect();
        for (key, object) in of_kind(current, kind) {
            if !before.iter().any(|(k, o)| *k == key && *o == object) {
                report.claims_carried_over += usize::from(kind == CLAIMS);
                objects.push((key, Some(object)));
            }
        }
    }
    let still_there = |kind| of_kind(current, kind).map(|(key, _)| key).collect::<BTreeSet<_>>();
    let nodes = still_there(NODES);
    let returned = of_kind(then, NODES).filter(|(key, _)| !nodes.contains(key));
    report.nodes_returned = returned.map(|(key, _)| key.name().to_owned()).collect();
    let tokens = still_there(JOIN_TOKENS);
    let used_up = of_kind(then, JOIN_TOKENS).filter(|(key, _)| !tokens.contains(key));
    objects.extend(used_up.map(|(key, _)| (key, None)));
    Plan { objects, report }
}

/// An earlier restore's annotation outlives the next one.
fn pause_of(current: &Loaded) -> Option<String> {
    of_kind(current, MESHES).find_map(|(_, mesh)| {
        mesh["metadata"]["annotations"][RESTORED_AT].as_str().map(str::to_owned)
    })
}

fn of_kind<'a>(loaded: &'a Loaded, kind: &str) -> impl Iterator<Item = (Key, Value)> + 'a {
    let prefix = Key::prefix(kind, "");
    let found = loaded.objects.iter().filter(move |(key, _)| key.starts_with(&prefix));
    found.map(|(key, object)| (key.clone(), object.value.clone()))
}

fn create_private(path: &Path) -> std::io::Result<std::fs::File> {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

fn remove(path: &Path) -> Result<(), BackupError> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(BackupError::Io { path: path.to_owned(), source })
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// `path` with something added to its name.
fn beside(path: &Path, added: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(added);
    PathBuf::from(name)
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
