//! A pod: a namespace that the CNI plugin has put on its node's subnets.

use std::net::IpAddr;

use crate::lab::{Cni, Lab, Namespace, Node};

pub struct Pod {
    pub name: String,
    pub container: String,
    pub namespace: Namespace,
    /// One of each family.
    pub addresses: Vec<IpAddr>,
}

impl Pod {
    pub(super) fn add(lab: &Lab, node: &Node, name: &str) -> anyhow::Result<Self> {
        let namespace = lab.pod(node, name)?;
        let container = namespace.name().to_owned();
        let added = Cni::new(node).add(&container, &namespace)?;
        anyhow::ensure!(added.ok, "ADD was refused: {}", added.json);
        let addresses = added.addresses();
        let families = addresses.iter().map(IpAddr::is_ipv4).collect::<Vec<_>>();
        anyhow::ensure!(
            families.contains(&true) && families.contains(&false),
            "ADD gave no address of each family: {}",
            added.json
        );
        Ok(Self { name: format!("{}/{name}", node.name()), container, namespace, addresses })
    }

    pub fn address(&self, v4: bool) -> Option<IpAddr> {
        self.addresses.iter().copied().find(|address| address.is_ipv4() == v4)
    }
}
