//! Containers on a machine that has joined: the plugin and its configuration, as a cluster's nodes
//! have them from the DaemonSet.
//!
//! Where containers have another network already, nobody takes it from them unasked.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde::{Deserialize, Serialize};

use super::machine;
use crate::exit::Failure;

/// Where containerd and CRI-O listen.
const RUNTIMES: [&str; 2] = ["/run/containerd/containerd.sock", "/run/crio/crio.sock"];
/// In the state directory: where the plugin was put, for when the machine leaves.
const RECORD: &str = "cni.json";
/// What the plugin's configurations are called.
const OURS: &str = "hawser.conflist";

/// When containers are given addresses of the mesh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum When {
    /// With a container runtime that has no other network
    #[default]
    Auto,
    Always,
    Never,
}

/// Where a container runtime looks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Dirs {
    pub bin: PathBuf,
    pub conf: PathBuf,
}

/// What there is on this machine.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The runtime's socket.
    pub runtime: Option<&'static str>,
    /// The configuration of another network, if there is one.
    pub other: Option<String>,
    /// The node has subnets to give out of.
    pub subnets: bool,
}

/// Whether to install, or why not: nothing where there is nothing to say. Pure.
pub fn judge(when: When, found: &Found) -> Result<(), Option<String>> {
    let Found { runtime, other, subnets } = found;
    match (when, runtime, other) {
        (When::Never, _, _) | (When::Auto, None, _) => Err(None),
        (When::Always | When::Auto, _, _) if !subnets => {
            Err(Some("containers get no addresses: this node has no subnet".to_owned()))
        }
        (When::Auto, Some(_), Some(other)) => Err(Some(format!(
            "containers keep the network of {other}; --cni puts them on the mesh instead"
        ))),
        (When::Auto, Some(_), None) | (When::Always, _, _) => Ok(()),
    }
}

/// Looks, except for the subnets.
pub fn look(dirs: &Dirs) -> Found {
    let names = fs::read_dir(&dirs.conf).into_iter().flatten().flatten();
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    let mut others = names.filter(|name| {
        let known = [".conf", ".conflist", ".json"].iter().any(|end| name.ends_with(end));
        known && !name.starts_with('.') && !name.ends_with(OURS)
    });
    Found {
        runtime: RUNTIMES.into_iter().find(|socket| Path::new(socket).exists()),
        other: others.next(),
        subnets: false,
    }
}

/// Puts the plugin and its configuration there; first a record of where.
pub fn install(state: &Path, dirs: &Dirs) -> Result<(), Failure> {
    let failed = |what: &Path, error: &std::io::Error| {
        Failure::failed(format!("writing {}: {error}", what.display()))
    };
    for dir in [&dirs.bin, &dirs.conf] {
        fs::create_dir_all(dir).map_err(|error| failed(dir, &error))?;
    }
    let record = state.join(RECORD);
    let text = serde_json::to_vec(dirs).unwrap_or_default();
    fs::write(&record, text).map_err(|error| failed(&record, &error))?;
    let mut command = Command::new(machine::agent_program());
    command.arg("install-cni").arg("--plugin").arg(machine::program("hawser-cni"));
    command.arg("--state").arg(state).arg("--bin-dir").arg(&dirs.bin);
    machine::run(command.arg("--conf-dir").arg(&dirs.conf), "installing the CNI plugin").map(drop)
}

/// Where it was put by this machine's join, if it was.
pub fn installed(state: &Path) -> Option<Dirs> {
    serde_json::from_slice(&fs::read(state.join(RECORD)).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_put_on_the_mesh_where_nobody_else_has_them() {
        let bare = Found { subnets: true, ..Found::default() };
        let runtime = Found { runtime: Some(RUNTIMES[0]), ..bare.clone() };
        let taken = Found { other: Some("87-podman.conflist".to_owned()), ..runtime.clone() };

        assert_eq!(judge(When::Auto, &runtime), Ok(()));
        assert_eq!(judge(When::Always, &bare), Ok(()));
        assert_eq!(judge(When::Always, &taken), Ok(()));
        assert_eq!(judge(When::Auto, &bare), Err(None));
        assert_eq!(judge(When::Never, &runtime), Err(None));
        let said = judge(When::Auto, &taken).unwrap_err().unwrap();
        assert!(said.contains("87-podman.conflist") && said.contains("--cni"), "{said}");
        for when in [When::Auto, When::Always] {
            let without = Found { subnets: false, ..runtime.clone() };
            assert!(judge(when, &without).unwrap_err().unwrap().contains("no subnet"));
        }
    }

    #[test]
    fn our_own_configuration_is_nobody_elses() {
        let directory = tempfile::tempdir().unwrap();
        let conf = directory.path().to_owned();
        let dirs = Dirs { bin: conf.clone(), conf };
        for name in ["10-hawser.conflist", "00-hawser.conflist", ".new.conf", "README"] {
            fs::write(dirs.conf.join(name), "").unwrap();
        }

        assert_eq!(look(&dirs).other, None);
        fs::write(dirs.conf.join("10-bridge.conf"), "").unwrap();
        assert_eq!(look(&dirs).other.as_deref(), Some("10-bridge.conf"));
    }
}
