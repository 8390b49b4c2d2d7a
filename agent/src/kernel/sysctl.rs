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

/// A device of ours gets no address but ours: no link-local one, nothing from advertisements. Where
/// the machine filters by the way back, our devices do not: another machine's own address comes out
/// of the tunnel while the way there leads past it, and where two carriers take turns, an answer may
/// come by one and go by the other. On a device without an IPv4 address Linux takes a loose filter
/// for a strict one (`fib_validate_source`), so that gets none. Who may come in is checked by key and
/// by the guard.
pub(super) fn prepare_device(device: &str, has_address: bool) -> Result<(), KernelError> {
    const IPV6: [(&str, &str); 3] =
        [("disable_ipv6", "0"), ("addr_gen_mode", "1"), ("accept_ra", "0")];
    let v4 = [(format!("net/ipv4/conf/{device}/rp_filter"), if has_address { "2" } else { "0" })];
    let v6 = IPV6.map(|(switch, value)| (format!("net/ipv6/conf/{device}/{switch}"), value));
    let present = v6.into_iter().filter(|_| has_ipv6());
    for (path, value) in v4.into_iter().chain(present) {
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
