//! A whole mesh in a lab: the controller with its embedded API, agents, pods; real programs only.
//!
//! ```text
//!   Mesh ── Controller   hawser-controller --embedded, `hawser nodes add`
//!        └─ Member …     hawser-agent run --source kube:FILE
//!            └─ Pod …    hawser-cni ADD
//! ```

mod alone;
mod controller;
pub mod local_api;
mod member;
mod pod;
mod reach;

use std::time::Duration;

pub use alone::Alone;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

pub use controller::{Controller, create_mesh};
pub use member::Member;
pub use pod::Pod;
pub use reach::{Reach, every_pair};

use crate::lab::{Lab, NeighbourRoom};

/// How long the first convergence may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Mesh {
    // programs end before the namespaces they live in
    pub members: Vec<Member>,
    pub controller: Controller,
    pub lab: Lab,
    _room: NeighbourRoom,
}

impl Mesh {
    /// A controller and `nodes` agents, started and ready to take pods.
    pub fn start(prefix: &str, nodes: usize) -> anyhow::Result<Self> {
        let mut mesh = Self::prepare(prefix, nodes, &mut |_| {})?;
        for member in &mut mesh.members {
            member.start_agent()?;
        }
        mesh.wait_until_ready()?;
        Ok(mesh)
    }

    /// Everything but the agents; `say` hears what is being done.
    pub fn prepare(prefix: &str, nodes: usize, say: &mut dyn FnMut(&str)) -> anyhow::Result<Self> {
        let room = NeighbourRoom::for_machines(nodes)?;
        let lab = Lab::new(prefix)?;
        say("starting the controller with its embedded API");
        let mut controller = Controller::new(&lab)?;
        controller.start()?;
        controller.create_mesh()?;
        say(&format!("adding {nodes} nodes"));
        let members = (1..=nodes)
            .map(|number| {
                let name = format!("node-{number}");
                let kubeconfig = controller.add_node(&name)?;
                Ok(Member::new(lab.node(&name)?, kubeconfig))
            })
            .collect::<anyhow::Result<_>>()?;
        Ok(Self { members, controller, lab, _room: room })
    }

    /// Changes these fields of the Mesh's spec.
    pub fn ask_for(&self, spec: Value) -> anyhow::Result<()> {
        self.controller.api(async move |client| {
            let meshes = Api::<api::Mesh>::all(client);
            let patch = Patch::Merge(json!({ "spec": spec }));
            meshes.patch(api::MESH, &PatchParams::default(), &patch).await?;
            Ok(())
        })
    }

    /// Puts nodes into sites: pairs of a node and its site.
    pub fn stand(&self, places: &[(&'static str, &'static str)]) -> anyhow::Result<()> {
        for &(node, site) in places {
            self.controller.api(async move |client| {
                let nodes = Api::<api::MeshNode>::all(client);
                let patch = Patch::Merge(json!({"spec": {"site": site}}));
                nodes.patch(node, &PatchParams::default(), &patch).await?;
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Waits until every agent has told its CNI plugin what it may give out.
    pub fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        wait_until_ready(&mut self.members)
    }

    /// `count` pods on each node.
    pub fn add_pods(&mut self, count: usize) -> anyhow::Result<()> {
        add_pods(&self.lab, &mut self.members, count)
    }

    pub fn pods(&self) -> Vec<&Pod> {
        pods(&self.members)
    }

    /// Echo requests with `marker` between every ordered pair of pods, each family.
    pub fn reach(&self, marker: &[u8], limit: Duration) -> Reach {
        every_pair(&self.pods(), marker, limit)
    }
}

pub fn wait_until_ready(members: &mut [Member]) -> anyhow::Result<()> {
    for member in members {
        member.wait_until_ready(PATIENCE)?;
    }
    Ok(())
}

/// Pods `a`, `b`, … on each of these machines.
pub fn add_pods(lab: &Lab, members: &mut [Member], count: usize) -> anyhow::Result<()> {
    for member in members {
        for letter in ('a'..='z').take(count) {
            member.add_pod(lab, &letter.to_string())?;
        }
    }
    Ok(())
}

pub fn pods(members: &[Member]) -> Vec<&Pod> {
    members.iter().flat_map(|member| &member.pods).collect()
}
