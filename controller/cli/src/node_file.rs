//! The small files that an agent keeps beside its socket: this node's own part of the mesh, which
//! `/state` leaves to them.

use std::path::Path;

use ipnet::IpNet;
use serde::Deserialize;

const DEFAULT_TUNNEL: &str = "hawser0";

/// What the agent tells the CNI plugin; of it, what is needed here. Absent until the guard stands.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct NodeFile {
    pub subnets: Vec<IpNet>,
    pub pools: Vec<IpNet>,
}

impl NodeFile {
    /// Reads it from the socket's directory. One that is missing or newer says nothing.
    pub fn beside(socket: &Path) -> Self {
        let text = std::fs::read_to_string(socket.with_file_name("node.json")).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }
}

/// The name of the tunnel device that this agent made.
pub fn tunnel_of(socket: &Path) -> String {
    let name = std::fs::read_to_string(socket.with_file_name("device")).unwrap_or_default();
    if name.trim().is_empty() { DEFAULT_TUNNEL.to_owned() } else { name.trim().to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_or_broken_says_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("agent.sock");

        assert_eq!(NodeFile::beside(&socket), NodeFile::default());
        assert_eq!(tunnel_of(&socket), "hawser0");

        std::fs::write(directory.path().join("node.json"), "{").unwrap();
        std::fs::write(directory.path().join("device"), "mesh7\n").unwrap();
        assert_eq!(NodeFile::beside(&socket), NodeFile::default());
        assert_eq!(tunnel_of(&socket), "mesh7");
    }
}
