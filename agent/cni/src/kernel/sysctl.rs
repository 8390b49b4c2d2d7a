//! Per-device settings under /proc/sys/net, of the calling thread's namespace.

use std::{fs, io, path::PathBuf};

/// Whether IPv6 exists in this kernel.
pub(super) fn has_ipv6() -> bool {
    fs::exists("/proc/sys/net/ipv6").unwrap_or(false)
}

/// Writes on difference alone, so a read-only /proc/sys that is already right does not matter.
pub(super) fn set(family: &str, device: &str, key: &str, value: &str) -> io::Result<()> {
    let path = PathBuf::from("/proc/sys/net").join(family).join("conf").join(device).join(key);
    if fs::read_to_string(&path).is_ok_and(|now| now.trim() == value) {
        return Ok(());
    }
    fs::write(&path, value).map_err(|error| {
        io::Error::new(error.kind(), format!("setting {} to {value}: {error}", path.display()))
    })
}
