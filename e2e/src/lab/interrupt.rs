//! Ctrl-C and SIGTERM clean up as a drop would, then the program ends with 130.
//!
//! Drops do not run on a signal, so the names of namespaces and directories are kept here as
//! well. Programs inside need no list: they die with the thread that started them.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use tokio::signal::unix::{SignalKind, signal};

#[derive(Default)]
struct Made {
    namespaces: Vec<String>,
    dirs: Vec<PathBuf>,
}

static MADE: Mutex<Made> = Mutex::new(Made { namespaces: Vec::new(), dirs: Vec::new() });
static CODE: AtomicI32 = AtomicI32::new(130);

fn made() -> MutexGuard<'static, Made> {
    MADE.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn remember_namespace(name: &str) {
    made().namespaces.push(name.to_owned());
}

pub(super) fn forget_namespace(name: &str) {
    made().namespaces.retain(|known| known != name);
}

pub(super) fn remember_dir(dir: &Path) {
    made().dirs.push(dir.to_owned());
}

pub(super) fn forget_dir(dir: &Path) {
    made().dirs.retain(|known| known != dir);
}

/// Says with which code the process ends when it is interrupted from here on.
pub fn exit_code_on_interrupt(code: i32) {
    CODE.store(code, Ordering::Relaxed);
}

/// Waits until somebody presses Ctrl-C; the clean-up is done by the handler.
pub fn wait_for_interrupt() -> ! {
    loop {
        std::thread::park();
    }
}

/// Starts the thread that waits for the signals, once a process.
pub(super) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let thread = std::thread::Builder::new().name("interrupt".into()).spawn(wait_and_clean);
        drop(thread.expect("a thread can be started"));
    });
}

fn wait_and_clean() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime for signals can be started");
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).expect("SIGTERM can be caught");
        let mut interrupt = signal(SignalKind::interrupt()).expect("SIGINT can be caught");
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    });
    clean();
    std::process::exit(CODE.load(Ordering::Relaxed));
}

fn clean() {
    let (namespaces, dirs) = {
        let mut made = made();
        (std::mem::take(&mut made.namespaces), std::mem::take(&mut made.dirs))
    };
    for name in namespaces {
        super::mounts::unpin(&name);
    }
    for dir in dirs {
        let _ = std::fs::remove_dir_all(dir);
    }
}
