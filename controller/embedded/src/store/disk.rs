//! The file: what is in which table, and one transaction a batch.
//!
//! | table   | key                     | value                                        |
//! |---------|-------------------------|----------------------------------------------|
//! | objects | kind \0 namespace \0 name | the object as JSON                         |
//! | log     | version                 | key, change, object, what selectors saw before |
//! | meta    | `version` `oldest` `ca` `gateway-ca` | the counter, the log's beginning, the CAs |

use super::ring::subject_of;
use super::{Change, Event, Key, Object};
use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};
use serde_json::Value;
use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

type LogEntry = (&'static str, u8, &'static [u8], &'static [u8]);

const OBJECTS: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("objects");
const LOG: TableDefinition<'static, u64, LogEntry> = TableDefinition::new("log");
const META: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("meta");

/// The name of the database in its directory.
pub(crate) const FILE: &str = "hawser.redb";
const LOCK: &str = "lock";

/// Why the file cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    #[error("{0} is in use by another process; is another hawser-controller running on it?")]
    InUse(PathBuf),
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },
    #[error("the database: {0}")]
    Database(#[from] Box<redb::Error>),
    #[error("the database holds {0}, which is not JSON; restore a backup")]
    Malformed(String),
    #[error("starting the writer: {0}")]
    Thread(std::io::Error),
}

fn database<E: Into<redb::Error>>(error: E) -> DiskError {
    DiskError::Database(Box::new(error.into()))
}

/// The open database. The directory's lock is held as long as it lives.
#[derive(Debug)]
pub(crate) struct Disk {
    database: Database,
    _lock: Option<Lock>,
}

/// No second process may open the directory.
#[derive(Debug)]
pub(crate) struct Lock(#[allow(dead_code, reason = "held, never read")] File);

impl Lock {
    /// Makes the directory (0700) if it is not there.
    pub(crate) fn take(dir: &Path) -> Result<Lock, DiskError> {
        let io = |source| DiskError::Io { path: dir.to_owned(), source };
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io)?;
        Lock::take_existing(dir)
    }

    /// The same for a directory that must be there.
    pub(crate) fn take_existing(dir: &Path) -> Result<Lock, DiskError> {
        let path = dir.join(LOCK);
        let opened = open_private(&path);
        let file = opened.map_err(|source| DiskError::Io { path: path.clone(), source })?;
        match file.try_lock() {
            Ok(()) => Ok(Lock(file)),
            Err(TryLockError::WouldBlock) => Err(DiskError::InUse(dir.to_owned())),
            Err(TryLockError::Error(source)) => Err(DiskError::Io { path, source }),
        }
    }
}

/// A file for the owner alone, made if it is not there.
fn open_private(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// What a start finds.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) version: u64,
    pub(crate) oldest: u64,
    pub(crate) objects: Vec<(Key, Arc<Object>)>,
    pub(crate) events: Vec<Event>,
}

impl Disk {
    /// Opens or makes the database in `dir`. A new one counts its versions from `first_version`.
    pub(crate) fn open(dir: &Path, lock: Lock, first_version: u64) -> Result<Disk, DiskError> {
        let disk = Disk { database: open_database(&dir.join(FILE))?, _lock: Some(lock) };
        if disk.meta("version")?.is_none() {
            disk.restart_history(first_version)?;
            sync_directory(dir)?;
        }
        Ok(disk)
    }

    /// Opens a database that no server uses: a backup.
    pub(crate) fn open_file(path: &Path) -> Result<Disk, DiskError> {
        Ok(Disk { database: open_database(path)?, _lock: None })
    }

    pub(crate) fn load(&self) -> Result<Loaded, DiskError> {
        let read = self.database.begin_read().map_err(database)?;
        let mut objects = Vec::new();
        for entry in read.open_table(OBJECTS).map_err(database)?.iter().map_err(database)? {
            let (key, json) = entry.map_err(database)?;
            let value = parse(key.value(), json.value())?;
            objects.push((Key::parse(key.value()), Arc::new(Object::new(value))));
        }
        let mut events = Vec::new();
        for entry in read.open_table(LOG).map_err(database)?.iter().map_err(database)? {
            let (version, entry) = entry.map_err(database)?;
            let (key, change, object, old) = entry.value();
            let change = Change::from_code(change);
            events.push(Event {
                version: version.value(),
                key: Key::parse(key),
                change,
                line: change.line(object),
                subject: subject_of(&parse(key, object)?),
                old_subject: (!old.is_empty()).then(|| parse(key, old)).transpose()?,
            });
        }
        let version = self.counter("version")?;
        Ok(Loaded { version, oldest: self.counter("oldest")?, objects, events })
    }

    /// Writes a batch; when this returns, it survives a power cut.
    pub(crate) fn commit(
        &self,
        events: &[Arc<Event>],
        trim_to: Option<u64>,
    ) -> Result<(), DiskError> {
        let Some(last) = events.last() else {
            return Ok(());
        };
        self.write(|write| {
            let mut objects = write.open_table(OBJECTS)?;
            let mut log = write.open_table(LOG)?;
            for event in events {
                let (key, json) = (event.key.as_str(), event.json());
                match event.change {
                    Change::Added | Change::Modified => objects.insert(key, &*json)?,
                    Change::Deleted => objects.remove(key)?,
                };
                let old = event.old_subject.as_ref().map(Value::to_string).unwrap_or_default();
                let entry = (key, event.change.code(), &*json, old.as_bytes());
                log.insert(event.version, entry)?;
            }
            let mut meta = write.open_table(META)?;
            meta.insert("version", &last.version.to_be_bytes()[..])?;
            if let Some(oldest) = trim_to {
                log.retain_in(..=oldest, |_, _| false)?;
                meta.insert("oldest", &oldest.to_be_bytes()[..])?;
            }
            Ok(())
        })
    }

    /// Forgets the log and goes on counting from `version`: whoever watches must list again.
    pub(crate) fn restart_history(&self, version: u64) -> Result<(), DiskError> {
        self.write(|write| {
            write.open_table(OBJECTS)?;
            write.open_table(LOG)?.retain(|_, _| false)?;
            let mut meta = write.open_table(META)?;
            meta.insert("version", &version.to_be_bytes()[..])?;
            meta.insert("oldest", &version.to_be_bytes()[..])?;
            Ok(())
        })
    }

    pub(crate) fn meta(&self, name: &str) -> Result<Option<Vec<u8>>, DiskError> {
        let read = self.database.begin_read().map_err(database)?;
        let table = match read.open_table(META) {
            Ok(table) => table,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
            Err(error) => return Err(database(error)),
        };
        Ok(table.get(name).map_err(database)?.map(|value| value.value().to_vec()))
    }

    pub(crate) fn set_meta(&self, name: &str, value: &[u8]) -> Result<(), DiskError> {
        self.write(|write| {
            write.open_table(META)?.insert(name, value)?;
            Ok(())
        })
    }

    /// Puts objects in place as they are, or takes them away: for a restore, before anybody watches.
    pub(crate) fn put_all(&self, objects: &[(Key, Option<Value>)]) -> Result<(), DiskError> {
        self.write(|write| {
            let mut table = write.open_table(OBJECTS)?;
            for (key, value) in objects {
                match value {
                    Some(value) => table.insert(key.as_str(), value.to_string().as_bytes())?,
                    None => table.remove(key.as_str())?,
                };
            }
            Ok(())
        })
    }

    /// Writes what is committed now into a new database at `path`, while writes go on.
    pub(crate) fn copy_to(&self, path: &Path) -> Result<(), DiskError> {
        let read = self.database.begin_read().map_err(database)?;
        let copy = open_database(path)?;
        write(&copy, |write| {
            let mut objects = write.open_table(OBJECTS)?;
            for entry in read.open_table(OBJECTS)?.iter()? {
                let (key, value) = entry?;
                objects.insert(key.value(), value.value())?;
            }
            let mut log = write.open_table(LOG)?;
            for entry in read.open_table(LOG)?.iter()? {
                let (version, value) = entry?;
                log.insert(version.value(), value.value())?;
            }
            let mut meta = write.open_table(META)?;
            for entry in read.open_table(META)?.iter()? {
                let (name, value) = entry?;
                meta.insert(name.value(), value.value())?;
            }
            Ok(())
        })
    }

    fn counter(&self, name: &str) -> Result<u64, DiskError> {
        let bytes = self.meta(name)?.and_then(|bytes| bytes.try_into().ok());
        bytes.map(u64::from_be_bytes).ok_or_else(|| DiskError::Malformed(format!("no {name}")))
    }

    fn write(
        &self,
        body: impl FnOnce(&redb::WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), DiskError> {
        write(&self.database, body)
    }
}

fn write(
    target: &Database,
    body: impl FnOnce(&redb::WriteTransaction) -> Result<(), redb::Error>,
) -> Result<(), DiskError> {
    let mut transaction = target.begin_write().map_err(database)?;
    transaction.set_durability(Durability::Immediate).map_err(database)?;
    body(&transaction).map_err(database)?;
    transaction.commit().map_err(database)
}

fn open_database(path: &Path) -> Result<Database, DiskError> {
    let io = |source| DiskError::Io { path: path.to_owned(), source };
    let file = open_private(path).map_err(io)?;
    let backend = redb::backends::FileBackend::new(file).map_err(database)?;
    Database::builder().create_with_backend(backend).map_err(|error| match error {
        redb::DatabaseError::DatabaseAlreadyOpen => DiskError::InUse(path.to_owned()),
        other => database(other),
    })
}

/// Makes the names in a directory survive a power cut.
pub(crate) fn sync_directory(dir: &Path) -> Result<(), DiskError> {
    let io = |source| DiskError::Io { path: dir.to_owned(), source };
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(io)
}

fn parse(key: &str, json: &[u8]) -> Result<Value, DiskError> {
    serde_json::from_slice(json).map_err(|_| DiskError::Malformed(key.replace('\0', "/")))
}
