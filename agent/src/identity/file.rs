//! Files of a directory that nobody else may touch, by descriptor and without following links.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::{fd::OwnedFd, unix::fs::DirBuilderExt},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, fstat, linkat, openat, renameat, unlinkat},
    io::Errno,
    process::geteuid,
};
use zeroize::Zeroizing;

use super::IdentityError;

/// A key file has 45 bytes; more than this was not written by us.
const LARGEST: u64 = 4096;

/// The state directory: mode 0700, our own.
pub(super) struct StateDir {
    path: PathBuf,
    fd: OwnedFd,
}

impl StateDir {
    pub(super) fn open_or_create(path: &Path) -> Result<Self, IdentityError> {
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
        match made {
            // Something that is no directory is told better by opening it.
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(IdentityError::Io { path: path.display().to_string(), source: error })
            }
            Ok(()) | Err(_) => Self::open(path),
        }
    }

    pub(super) fn open(path: &Path) -> Result<Self, IdentityError> {
        let shown = path.display().to_string();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| {
            let link = path.symlink_metadata().is_ok_and(|m| m.is_symlink());
            match errno {
                Errno::NOTDIR | Errno::LOOP if link => {
                    IdentityError::SymbolicLink { path: shown.clone() }
                }
                Errno::NOTDIR => IdentityError::Kind { path: shown.clone(), expected: "directory" },
                other => IdentityError::Io { path: shown.clone(), source: other.into() },
            }
        })?;
        let this = Self { path: path.to_owned(), fd };
        let stat = fstat(&this.fd).map_err(|errno| this.io("", errno))?;
        judge_directory(&this.path(""), Facts::of(&stat), geteuid().as_raw())?;
        Ok(this)
    }

    /// A path for people.
    pub(super) fn path(&self, name: &str) -> String {
        let path = if name.is_empty() { self.path.clone() } else { self.path.join(name) };
        path.display().to_string()
    }

    pub(super) fn names(&self) -> Result<Vec<String>, IdentityError> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.fd).map_err(|errno| self.io("", errno))? {
            let entry = entry.map_err(|errno| self.io("", errno))?;
            if let Ok(name) = entry.file_name().to_str() {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    /// Reads a file that nobody else may have read or written.
    pub(super) fn read_secret(&self, name: &str) -> Result<Zeroizing<Vec<u8>>, IdentityError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = openat(&self.fd, name, flags, Mode::empty()).map_err(|errno| match errno {
            Errno::LOOP => IdentityError::SymbolicLink { path: self.path(name) },
            other => self.io(name, other),
        })?;
        let stat = fstat(&fd).map_err(|errno| self.io(name, errno))?;
        judge_file(&self.path(name), Facts::of(&stat), geteuid().as_raw())?;
        // Never grows, so no copy of a key stays behind in freed memory.
        let mut bytes = Zeroizing::new(Vec::with_capacity(LARGEST as usize + 1));
        File::from(fd)
            .take(LARGEST)
            .read_to_end(&mut bytes)
            .map_err(|source| IdentityError::Io { path: self.path(name), source })?;
        Ok(bytes)
    }

    pub(super) fn read_if_there(
        &self,
        name: &str,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, IdentityError> {
        match self.read_secret(name) {
            Err(IdentityError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Ok(None)
            }
            other => other.map(Some),
        }
    }

    /// Creates `name` with `bytes`, at once and whole. An existing file stays as it is, and that
    /// is no error.
    pub(super) fn create_once(&self, name: &str, bytes: &[u8]) -> Result<(), IdentityError> {
        let temporary = self.write_temporary(name, bytes)?;
        let linked = linkat(&self.fd, &temporary, &self.fd, name, AtFlags::empty());
        self.discard(&temporary);
        match linked {
            // NOENT: a faster process made the file and cleared what it took for leftovers.
            Ok(()) | Err(Errno::EXIST | Errno::NOENT) => self.flush(),
            Err(errno) => Err(self.io(name, errno)),
        }
    }

    /// Puts `bytes` in the place of `name`, at once and whole.
    pub(super) fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), IdentityError> {
        let temporary = self.write_temporary(name, bytes)?;
        if let Err(errno) = renameat(&self.fd, &temporary, &self.fd, name) {
            self.discard(&temporary);
            return Err(self.io(name, errno));
        }
        self.flush()
    }

    /// Overwrites and removes a file. How much of it a log-structured or copying disk keeps is
    /// beyond a program's reach; full-disk encryption is the answer there.
    pub(super) fn wipe(&self, name: &str) -> Result<(), IdentityError> {
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = match openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(self.io(name, errno)),
        };
        let length = fstat(&fd).map_err(|errno| self.io(name, errno))?.st_size;
        let zeros = vec![0; usize::try_from(length).unwrap_or_default().min(LARGEST as usize)];
        let mut file = File::from(fd);
        let wiped = file.write_all(&zeros).and_then(|()| file.sync_all());
        wiped.map_err(|source| IdentityError::Io { path: self.path(name), source })?;
        unlinkat(&self.fd, name, AtFlags::empty()).map_err(|errno| self.io(name, errno))?;
        self.flush()
    }

    /// Removes what a crash may have left of files whose names start with `prefix`.
    pub(super) fn remove_temporary_files(&self, prefix: &str) -> Result<(), IdentityError> {
        let temporary = format!(".{prefix}");
        for name in self.names()?.iter().filter(|name| name.starts_with(&temporary)) {
            self.discard(name);
        }
        Ok(())
    }

    fn write_temporary(&self, name: &str, bytes: &[u8]) -> Result<String, IdentityError> {
        let mut random = [0u8; 8];
        getrandom::fill(&mut random)?;
        let temporary = format!(".{name}.{:016x}", u64::from_ne_bytes(random));
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(&self.fd, &temporary, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|errno| self.io(&temporary, errno))?;
        let mut file = File::from(fd);
        if let Err(source) = file.write_all(bytes).and_then(|()| file.sync_all()) {
            self.discard(&temporary);
            return Err(IdentityError::Io { path: self.path(name), source });
        }
        Ok(temporary)
    }

    /// Best effort: it may be gone, and a leftover is removed at the next start.
    fn discard(&self, name: &str) {
        let _ = unlinkat(&self.fd, name, AtFlags::empty());
    }

    fn flush(&self) -> Result<(), IdentityError> {
        rustix::fs::fsync(&self.fd).map_err(|errno| self.io("", errno))
    }

    fn io(&self, name: &str, errno: Errno) -> IdentityError {
        IdentityError::Io { path: self.path(name), source: errno.into() }
    }
}

/// What decides whether a file or directory is ours alone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    pub(super) kind: FileType,
    pub(super) owner: u32,
    pub(super) mode: u32,
}

impl Facts {
    fn of(stat: &Stat) -> Self {
        Self {
            kind: FileType::from_raw_mode(stat.st_mode),
            owner: stat.st_uid,
            mode: stat.st_mode & 0o7777,
        }
    }
}

pub(super) fn judge_directory(path: &str, facts: Facts, me: u32) -> Result<(), IdentityError> {
    let path = path.to_owned();
    if facts.kind != FileType::Directory {
        return Err(IdentityError::Kind { path, expected: "directory" });
    }
    if facts.owner != me {
        return Err(IdentityError::Owner { path, owner: facts.owner, expected: me });
    }
    if facts.mode & 0o077 != 0 {
        return Err(IdentityError::OpenDirectory { path, mode: facts.mode });
    }
    Ok(())
}

pub(super) fn judge_file(path: &str, facts: Facts, me: u32) -> Result<(), IdentityError> {
    let path = path.to_owned();
    if facts.kind != FileType::RegularFile {
        return Err(IdentityError::Kind { path, expected: "regular file" });
    }
    if facts.owner != me {
        return Err(IdentityError::Owner { path, owner: facts.owner, expected: me });
    }
    if facts.mode & 0o077 != 0 {
        return Err(IdentityError::OpenFile { path, mode: facts.mode });
    }
    Ok(())
}
