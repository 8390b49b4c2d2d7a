//! Wakes the agent when a directory's files change: another plugin's configuration, a device that
//! the plugin has found pods behind.

use std::{io, mem::MaybeUninit, os::fd::OwnedFd, path::PathBuf, thread};

use anyhow::Context;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::sync::mpsc;

/// Room for some events; more are read the next time.
const BUFFER: usize = 4096;

/// Sends a word on every change. One waiting word is enough.
pub(crate) fn watch(directories: &[PathBuf], changed: mpsc::Sender<()>) -> anyhow::Result<()> {
    let queue = inotify::init(CreateFlags::CLOEXEC).context("watching files")?;
    let changes = WatchFlags::CLOSE_WRITE
        | WatchFlags::CREATE
        | WatchFlags::DELETE
        | WatchFlags::MOVED_FROM
        | WatchFlags::MOVED_TO;
    for directory in directories {
        inotify::add_watch(&queue, directory, changes)
            .with_context(|| format!("watching {}", directory.display()))?;
    }
    let follow = move || follow(&queue, &changed);
    thread::Builder::new().name("files".to_owned()).spawn(follow).context("watching files")?;
    Ok(())
}

/// A thread of its own: it sleeps in the kernel, and ends with the agent.
fn follow(queue: &OwnedFd, changed: &mpsc::Sender<()>) {
    let mut buffer = [MaybeUninit::uninit(); BUFFER];
    while !changed.is_closed() {
        match inotify::Reader::new(queue, &mut buffer).next() {
            // What else came with it is the same news.
            Ok(_) => drop(changed.try_send(())),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => {
                let error = io::Error::from(error);
                tracing::warn!(%error, "files are not watched any more, and looked at now and then");
                return;
            }
        }
    }
}
