//! Switches under /proc/sys of this network namespace.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use super::KernelError;
use crate::plan::Sysctls;

static ROOT: OnceLock<PathBuf> = OnceLock::new();

/// Where the switches are, if not under /proc/sys. Said once, before any is read.
pub fn are_below(root: &Path) {
    // A second word changes nothing: one process, one kernel.
    let _ = ROOT.set(root.to_owned());
}

fn root() -> &'static Path {
    ROOT.get().map_or(Path::new("/proc/sys"), PathBuf::as_path)
}

/// The present values of the wanted switches; those that don't exist are left out.
pub(super) fn read(wanted: &Sysctls) -> BTreeMap<&'static str, String> {
    let present = wanted.keys().filter_map(|path| Some((*path, get(path)?)));
    present.collect()
}

/// Sets a switch. Before IPv6 forwarding goes on, devices that learn their default route from
/// router advertisements are told to go on doing so: else the kernel stops listening
/// (Documentation/networking/ip-sysctl.rst, accept_ra).
pub fn set(path: &str, value: &str) -> Result<(), KernelError> {
    if path == "net/ipv6/conf/all/forwarding" {
        keep_router_advertisements();
    }
    put(path, value)
}

/// True on a kernel with IPv6.
pub fn has_ipv6() -> bool {
    root().join("net/ipv6").exists()
}

/// The tunnel gets no address but ours: no link-local one, nothing from advertisements. Where the
/// machine filters by the way back, the tunnel doesn't: another machine's own address comes out of
/// it while the way there leads past it, and who may send what is checked by key.
pub(super) fn prepare_tunnel(device: &str) -> Result<(), KernelError> {
    const LOOSE: &str = "2";
    let filter = format!("net/ipv4/conf/{device}/rp_filter");
    if get(&filter).as_deref() != Some(LOOSE) {
        put(&filter, LOOSE)?;
    }
    if !has_ipv6() {
        return Ok(());
    }
    for (switch, value) in [("disable_ipv6", "0"), ("addr_gen_mode", "1"), ("accept_ra", "0")] {
        let path = format!("net/ipv6/conf/{device}/{switch}");
        if get(&path).as_deref() != Some(value) {
            put(&path, value)?;
        }
    }
    Ok(())
}

fn keep_router_advertisements() {
    let Ok(devices) = fs::read_dir(root().join("net/ipv6/conf")) else {
        return;
    };
    for device in devices.flatten() {
        let path = format!("net/ipv6/conf/{}/accept_ra", device.file_name().to_string_lossy());
        if get(&path).as_deref() != Some("1") || path.contains("/all/") {
            continue;
        }
        if let Err(error) = put(&path, "2") {
            tracing::warn!(%error, "router advertisements will be ignored");
        }
    }
}

fn get(path: &str) -> Option<String> {
    let value = fs::read_to_string(root().join(path)).ok()?;
    Some(value.trim().to_owned())
}

fn put(path: &str, value: &str) -> Result<(), KernelError> {
    let error = |source| KernelError::Sysctl { path: path.to_owned(), source };
    fs::write(root().join(path), value).map_err(error)
}
