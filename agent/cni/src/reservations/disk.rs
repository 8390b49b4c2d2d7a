//! The few file operations that reservations are made of; tests put a disk with faults in place.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// Records are small; whatever is larger was not written by us.
const LARGEST: u64 = 64 << 10;
const LOCK: &str = "lock";

/// One flat directory. Every method is one system call, or does nothing when it fails.
pub trait Disk {
    /// Held by whoever works on an attachment; the kernel lets go of it when he dies.
    type Hold;
    type Section;

    /// Waits for the one lock under which names are created and removed.
    fn enter(&self) -> io::Result<Self::Section>;
    /// Creates a file that must not exist, held.
    fn create(&self, name: &str, bytes: &[u8]) -> io::Result<Self::Hold>;
    /// Takes hold of an existing file; with `wait` false, `None` if somebody else has it.
    fn hold(&self, name: &str, wait: bool) -> io::Result<Option<Self::Hold>>;
    fn read(&self, name: &str) -> io::Result<Vec<u8>>;
    fn exists(&self, name: &str) -> io::Result<bool>;
    /// Whether two names are links to one file.
    fn same(&self, one: &str, other: &str) -> io::Result<bool>;
    fn link(&self, from: &str, to: &str) -> io::Result<()>;
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Overwrites a file whose loss is harmless.
    fn overwrite(&self, name: &str, bytes: &[u8]) -> io::Result<()>;
    /// Removes a name; nothing to remove is no error.
    fn remove(&self, name: &str) -> io::Result<()>;
    fn names(&self) -> io::Result<Vec<String>>;
}

/// The real one: `STATE/pods`, mode 0700.
#[derive(Debug)]
pub struct Directory(PathBuf);

impl Directory {
    /// Opens `path`, making the last part of it if it is not there.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        match fs::DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            Ok(()) | Err(_) => Ok(Self(path.to_owned())),
        }
    }

    /// For reading alone: makes nothing.
    pub(crate) fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    fn new_file(&self, name: &str, bytes: &[u8]) -> io::Result<File> {
        let path = self.0.join(name);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.lock()?;
        file.write_all(bytes)?;
        Ok(file)
    }
}

impl Disk for Directory {
    type Hold = File;
    type Section = File;

    fn enter(&self) -> io::Result<File> {
        let path = self.0.join(LOCK);
        let file =
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
        file.lock()?;
        Ok(file)
    }

    fn create(&self, name: &str, bytes: &[u8]) -> io::Result<File> {
        self.new_file(name, bytes).inspect_err(|error| {
            if error.kind() != io::ErrorKind::AlreadyExists {
                // Half a file is worse than none; the first error is the one to tell.
                let _ = self.remove(name);
            }
        })
    }

    fn hold(&self, name: &str, wait: bool) -> io::Result<Option<File>> {
        loop {
            let file = File::open(self.0.join(name))?;
            if wait {
                file.lock()?;
            } else {
                match file.try_lock() {
                    Ok(()) => (),
                    Err(TryLockError::WouldBlock) => return Ok(None),
                    Err(TryLockError::Error(error)) => return Err(error),
                }
            }
            // Whoever had it may have removed the name, and somebody may have made it anew.
            let now = fs::symlink_metadata(self.0.join(name))?;
            let held = file.metadata()?;
            if (now.dev(), now.ino()) == (held.dev(), held.ino()) {
                return Ok(Some(file));
            }
        }
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(self.0.join(name))?.take(LARGEST).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn exists(&self, name: &str) -> io::Result<bool> {
        match fs::symlink_metadata(self.0.join(name)) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn same(&self, one: &str, other: &str) -> io::Result<bool> {
        let of = |name: &str| fs::symlink_metadata(self.0.join(name)).map(|m| (m.dev(), m.ino()));
        Ok(of(one)? == of(other)?)
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        fs::hard_link(self.0.join(from), self.0.join(to))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.0.join(from), self.0.join(to))
    }

    fn overwrite(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.0.join(name);
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)?
            .write_all(bytes)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.0.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }
}
