//! `STATE/node.json`: all that the plugin must know of its node, so that it needs no running agent.
//!
//! The agent writes it only after the guard is in place, and removes it on uninstall: while it is
//! absent no pod gets an address.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Read},
    path::Path,
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::durable;

const NAME: &str = "node.json";
const LARGEST: u64 = 1 << 20;

/// What this node may give its pods.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeFile {
    /// The form of this file; see [`NodeFile::VERSION`].
    pub version: u32,
    pub node: String,
    /// Of one or both families; the first host address of each is the node's own.
    pub subnets: Vec<IpNet>,
    /// Of the pods' devices, in bytes.
    pub mtu: u16,
    /// The whole mesh: everything that the guard covers.
    pub pools: Vec<IpNet>,
    /// Of other plugins' pods: those that the guard takes for pods' devices, beside our own.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub devices: BTreeSet<String>,
}

/// Why the plugin can't learn about its node.
#[derive(Debug, thiserror::Error)]
pub enum NodeFileError {
    #[error("{0}/node.json is not there yet; is hawser-agent running with this state directory?")]
    Missing(String),
    #[error("reading {path}")]
    Read { path: String, source: io::Error },
    #[error("{path} is damaged ({source}); restart hawser-agent to have it written again")]
    Damaged { path: String, source: serde_json::Error },
    #[error(
        "{path} is of version {found}, this hawser-cni knows {}; upgrade it",
        NodeFile::VERSION
    )]
    Newer { path: String, found: u32 },
}

impl NodeFile {
    pub const VERSION: u32 = 1;

    pub fn read(state: &Path) -> Result<Self, NodeFileError> {
        #[derive(Deserialize)]
        struct Head {
            version: u32,
        }

        let path = state.join(NAME);
        let text = read_bounded(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => NodeFileError::Missing(state.display().to_string()),
            _ => NodeFileError::Read { path: path.display().to_string(), source },
        })?;
        let damaged = |source| NodeFileError::Damaged { path: path.display().to_string(), source };
        let head: Head = serde_json::from_slice(&text).map_err(damaged)?;
        if head.version > Self::VERSION {
            let path = path.display().to_string();
            return Err(NodeFileError::Newer { path, found: head.version });
        }
        serde_json::from_slice(&text).map_err(damaged)
    }

    /// Replaces the file atomically. Call it when the guard is in place, and not before.
    pub fn write(&self, state: &Path) -> io::Result<()> {
        durable::replace(state, NAME, &serde_json::to_vec(self)?)
    }

    /// Takes the file away: from here on no pod is added. Nothing to remove is no error.
    pub fn remove(state: &Path) -> io::Result<()> {
        match fs::remove_file(state.join(NAME)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)?.take(LARGEST).read_to_end(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> NodeFile {
        NodeFile {
            version: NodeFile::VERSION,
            node: "edge-1".into(),
            subnets: vec!["10.42.1.0/24".parse().unwrap(), "fd42:0:0:1::/64".parse().unwrap()],
            mtu: 1420,
            pools: vec!["10.42.0.0/16".parse().unwrap(), "fd42::/48".parse().unwrap()],
            devices: BTreeSet::new(),
        }
    }

    #[test]
    fn what_is_written_is_read_and_leaves_nothing_else() {
        let state = tempfile::tempdir().unwrap();

        sample().write(state.path()).unwrap();

        assert_eq!(NodeFile::read(state.path()).unwrap(), sample());
        assert_eq!(fs::read_dir(state.path()).unwrap().count(), 1);
        NodeFile::remove(state.path()).unwrap();
        NodeFile::remove(state.path()).unwrap();
        assert!(matches!(NodeFile::read(state.path()), Err(NodeFileError::Missing(_))));
    }

    #[test]
    fn a_damaged_file_and_a_newer_one_say_so() {
        let state = tempfile::tempdir().unwrap();
        let path = state.path().join(NAME);

        fs::write(&path, b"{\"version\":1,\"no").unwrap();
        assert!(matches!(NodeFile::read(state.path()), Err(NodeFileError::Damaged { .. })));

        fs::write(&path, b"{\"version\":2,\"else\":true}").unwrap();
        let error = NodeFile::read(state.path()).unwrap_err();
        assert!(matches!(error, NodeFileError::Newer { found: 2, .. }), "{error}");
    }

    #[test]
    fn a_field_of_a_later_patch_is_tolerated() {
        let state = tempfile::tempdir().unwrap();
        let mut value = serde_json::to_value(sample()).unwrap();
        value["added"] = 1.into();
        fs::write(state.path().join(NAME), value.to_string()).unwrap();

        assert_eq!(NodeFile::read(state.path()).unwrap(), sample());
    }
}
