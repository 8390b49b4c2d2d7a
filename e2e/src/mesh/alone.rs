//! A mesh without a controller: agents in file mode, one view for all of them.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context as _;
use api::{Mesh, MeshNode, MeshNodeSpec, MeshNodeStatus, MeshPeer, MeshSpec, PublishedKey};

use super::{Member, controller, wait_until_ready};
use crate::lab::Lab;

const PORT: u16 = 51820;

/// Agents that know each other from a file.
pub struct Alone {
    pub members: Vec<Member>,
    pub lab: Lab,
    view: PathBuf,
    mesh: Mesh,
    nodes: Vec<MeshNode>,
}

impl Alone {
    /// `nodes` machines with keys and a view of each other; the agents are not started yet.
    pub fn prepare(prefix: &str, nodes: usize) -> anyhow::Result<Self> {
        let lab = Lab::new(prefix)?;
        let view = lab.dir().join("view.yaml");
        let mut alone =
            Self { members: Vec::new(), lab, view, mesh: controller::mesh(), nodes: Vec::new() };
        for number in 1..=nodes {
            alone.add_node(number)?;
        }
        alone.write(&[])?;
        Ok(alone)
    }

    /// The same, with every agent started and ready.
    pub fn start(prefix: &str, nodes: usize) -> anyhow::Result<Self> {
        let mut alone = Self::prepare(prefix, nodes)?;
        for member in &mut alone.members {
            member.start_agent()?;
        }
        wait_until_ready(&mut alone.members)?;
        Ok(alone)
    }

    /// Writes the view again, with plain WireGuard peers beside the nodes.
    pub fn write(&self, peers: &[MeshPeer]) -> anyhow::Result<()> {
        let mut documents = vec![serde_json::to_string(&self.mesh)?];
        for node in &self.nodes {
            documents.push(serde_json::to_string(node)?);
        }
        for peer in peers {
            documents.push(serde_json::to_string(peer)?);
        }
        let fresh = self.view.with_extension("new");
        std::fs::write(&fresh, documents.join("\n---\n")).context("writing the view")?;
        std::fs::rename(&fresh, &self.view).context("replacing the view")
    }

    /// Changes the Mesh, and where each node says that it is reached, and writes the view again.
    pub fn arrange(
        &mut self,
        mesh: impl FnOnce(&mut MeshSpec),
        endpoints: impl Fn(&Member) -> Vec<SocketAddr>,
    ) -> anyhow::Result<()> {
        mesh(&mut self.mesh.spec);
        for (node, member) in self.nodes.iter_mut().zip(&self.members) {
            let endpoints = endpoints(member).iter().map(ToString::to_string).collect();
            node.status.get_or_insert_default().endpoints = endpoints;
        }
        self.write(&[])
    }

    fn add_node(&mut self, number: usize) -> anyhow::Result<()> {
        let name = format!("node-{number}");
        let node = self.lab.node(&name)?;
        let keygen = node.command("hawser-agent").args(["keygen", "--state"]);
        let public = keygen.arg(node.state()).stdout()?.trim().to_owned();
        let subnets = vec![format!("10.42.{number}.0/24"), format!("fd42:0:0:{number:x}::/64")];
        let spec = MeshNodeSpec { subnets, key_epoch: 1, ..MeshNodeSpec::default() };
        let mut resource = MeshNode::new(&name, spec);
        resource.status = Some(MeshNodeStatus {
            public_keys: vec![PublishedKey { epoch: 1, public_key: public }],
            endpoints: vec![SocketAddr::new(node.address().v4.into(), PORT).to_string()],
            ..MeshNodeStatus::default()
        });
        self.nodes.push(resource);
        self.members.push(Member::new(node, format!("file:{}", self.view.display())));
        Ok(())
    }
}
