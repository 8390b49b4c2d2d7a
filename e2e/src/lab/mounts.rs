//! The names of namespaces: files in /run/netns with a namespace mounted on each.
//!
//! The same place and form as `ip netns`, so that its `ip -n NAME …` works on a lab.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rustix::fs::{FlockOperation, flock};
use rustix::mount::{
    MountPropagationFlags, UnmountFlags, mount_bind, mount_bind_recursive, mount_change, unmount,
};

const DIR: &str = "/run/netns";

pub(super) fn path(name: &str) -> PathBuf {
    Path::new(DIR).join(name)
}

/// Gives the calling thread's namespace a name.
pub(super) fn pin(name: &str) -> anyhow::Result<()> {
    share_dir().with_context(|| format!("preparing {DIR}"))?;
    let path = path(name);
    super::interrupt::remember_namespace(name);
    File::create_new(&path).with_context(|| format!("creating {}", path.display()))?;
    mount_bind("/proc/thread-self/ns/net", &path)
        .with_context(|| format!("mounting {}", path.display()))
}

/// Takes the name away; the namespace ends with its last process.
pub(super) fn unpin(name: &str) {
    let path = path(name);
    let _ = unmount(&path, UnmountFlags::DETACH);
    let _ = std::fs::remove_file(&path);
    super::interrupt::forget_namespace(name);
}

pub(super) fn names() -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(DIR) else {
        return Vec::new();
    };
    entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// Makes the directory a shared mount as `ip netns add` does: whoever comes second would otherwise
/// mount the directory over our mounts and keep hidden copies of them.
fn share_dir() -> io::Result<()> {
    std::fs::create_dir_all(DIR)?;
    let dir = File::open(DIR)?;
    flock(&dir, FlockOperation::LockExclusive)?;
    let mounted = std::fs::read_to_string("/proc/self/mountinfo")?
        .lines()
        .any(|line| line.split(' ').nth(4) == Some(DIR));
    if !mounted {
        mount_bind_recursive(DIR, DIR)?;
    }
    mount_change(DIR, MountPropagationFlags::SHARED | MountPropagationFlags::REC)?;
    Ok(())
}
