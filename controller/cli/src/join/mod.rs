//! `hawser join` and `hawser leave`: a bare machine takes part in the mesh, and goes again.
//!
//! ```text
//! preflight ─▶ identity (hawser-agent keygen) ─▶ gateway: POST /join ─▶ STATE/gateway.kubeconfig
//!     ─▶ agent: in the foreground, or a systemd unit ─▶ ready ─▶ first ping ─▶ CNI plugin
//! ```
//! Until the gateway has let the machine in, nothing on it is changed but the state directory, and
//! the same command may be run again: it asks with the same key.

pub mod cni;
pub mod entrance;
pub mod gateway;
pub mod machine;
pub mod patience;
pub mod ping;
pub mod preflight;
pub mod ssh;
pub mod unit;

use std::path::{Path, PathBuf};

/// The machine's access through the gateway, in the state directory.
pub fn access_file(state: &Path) -> PathBuf {
    state.join("gateway.kubeconfig")
}

/// The key that it asks with, until it is in.
pub fn key_file(state: &Path) -> PathBuf {
    state.join("joining.key")
}
