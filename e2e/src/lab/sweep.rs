//! Removes what a killed run left behind: namespaces, their processes and directories whose pid
//! is no longer alive.

use std::path::Path;
use std::sync::Once;

use rustix::process::{Pid, Signal, kill_process};

use super::mounts;

/// Sweeps once a process.
pub(super) fn once() {
    static ONCE: Once = Once::new();
    ONCE.call_once(sweep);
}

/// Removes the namespaces, processes and directories of runs that are gone.
pub fn sweep() {
    for name in mounts::names().iter().filter(|name| is_orphan(name)) {
        end(name);
    }
    remove_dirs();
}

/// Ends a namespace with everything in it, also what a program there started and left behind.
pub(super) fn end(name: &str) {
    kill_inhabitants(&mounts::path(name));
    mounts::unpin(name);
}

/// `hw-<pid>-…` with a pid that is not running.
fn is_orphan(name: &str) -> bool {
    owner(name).is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists())
}

pub(super) fn owner(name: &str) -> Option<u32> {
    name.strip_prefix("hw-")?.split('-').next()?.parse().ok()
}

fn kill_inhabitants(namespace: &Path) {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(target) = std::fs::metadata(namespace).map(|meta| (meta.dev(), meta.ino())) else {
        return;
    };
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return;
    };
    for entry in processes.flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok());
        let Some(pid) = pid.and_then(Pid::from_raw) else {
            continue;
        };
        let inside = std::fs::metadata(entry.path().join("ns/net"))
            .is_ok_and(|meta| (meta.dev(), meta.ino()) == target);
        if inside {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

fn remove_dirs() {
    let Ok(entries) = std::fs::read_dir(std::env::temp_dir()) else {
        return;
    };
    for entry in entries.flatten() {
        if entry.file_name().to_str().is_some_and(is_orphan) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}
