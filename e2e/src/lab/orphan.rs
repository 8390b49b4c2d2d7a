//! A program started here dies with the thread that started it, even if we are killed.

#![allow(unsafe_code, reason = "pre_exec is the only way to set a child's parent-death signal")]

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::process::{Signal, set_parent_process_death_signal};

pub(super) fn die_with_parent(command: &mut Command) {
    // SAFETY: between fork and exec only async-signal-safe calls are allowed; this is one prctl,
    // it takes no lock and allocates nothing.
    unsafe {
        command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
    }
}
