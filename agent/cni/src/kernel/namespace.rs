//! A pod's network namespace, proven to be one before anything is opened or changed.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{Mode, OFlags, fstat, fstatfs, open},
    io::Errno,
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

/// The magic number of nsfs (linux/magic.h).
const NSFS: i128 = 0x6e73_6673;

#[derive(Debug, thiserror::Error)]
pub(crate) enum NamespaceError {
    #[error("does not exist")]
    Missing,
    #[error("is not a network namespace")]
    NotANamespace,
    #[error("is the node's own network namespace")]
    TheNodes,
    #[error("cannot be opened")]
    Open(#[source] io::Error),
}

pub(crate) struct Namespace(OwnedFd);

impl Namespace {
    /// A device or a pipe is never opened: what `path` names is looked at first.
    pub(crate) fn open(path: &Path) -> Result<Self, NamespaceError> {
        let seen =
            open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(
                |errno| match errno {
                    Errno::NOENT | Errno::NOTDIR => NamespaceError::Missing,
                    other => NamespaceError::Open(other.into()),
                },
            )?;
        let kind = fstatfs(&seen).map_err(|errno| NamespaceError::Open(errno.into()))?;
        if i128::from(kind.f_type) != NSFS {
            return Err(NamespaceError::NotANamespace);
        }
        let again = format!("/proc/self/fd/{}", seen.as_raw_fd());
        let fd = open(again, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| NamespaceError::Open(errno.into()))?;
        let this = Self(fd);
        if this.is_current().map_err(NamespaceError::Open)? {
            return Err(NamespaceError::TheNodes);
        }
        this.run(|| Ok(())).map_err(|error| match error.raw_os_error() {
            Some(code) if code == Errno::INVAL.raw_os_error() => NamespaceError::NotANamespace,
            _ => NamespaceError::Open(error),
        })?;
        Ok(this)
    }

    pub(super) fn raw(&self) -> i32 {
        self.0.as_raw_fd()
    }

    /// Runs `work` on a thread of its own inside the namespace: there is no way back to forget.
    pub(super) fn run<T: Send>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send,
    ) -> io::Result<T> {
        let inside = || {
            move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network))?;
            work()
        };
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().spawn_scoped(scope, inside)?;
            thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread panicked")))
        })
    }

    fn is_current(&self) -> io::Result<bool> {
        let own = rustix::fs::stat("/proc/thread-self/ns/net")?;
        let pod = fstat(&self.0)?;
        Ok((own.st_dev, own.st_ino) == (pod.st_dev, pod.st_ino))
    }
}
