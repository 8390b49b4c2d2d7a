//! Puts the guard back before anything else runs, as after a reboot: from what the last agent wrote
//! for the CNI plugin, without keys, tunnel or network.
//!
//! Pods wait for the guard, since ADD looks for it; programs of the node itself do not, so this is
//! run before the network comes up.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use cni::{NodeFile, NodeFileError};

use crate::{
    kernel::{Kernel, KernelError, sysctl},
    options::State,
    plan::{Family, Guard, Route, Target, barred},
    state,
};

pub async fn run(State { directory }: State) -> anyhow::Result<()> {
    let node = match NodeFile::read(&directory) {
        Err(NodeFileError::Missing(state)) => {
            tracing::info!(%state, "no mesh to guard");
            return Ok(());
        }
        other => other.context("reading what to guard")?,
    };
    let lock = state::lock(&directory).await;
    if let Err(state::LockError::Taken(_)) = lock {
        tracing::info!("an agent is running, and guards");
        return Ok(());
    }
    let _lock = lock?;
    let guard = guard(&node, state::device(&directory));
    let mut kernel = Kernel::open(&guard.tun)?;
    for prefix in &guard.ranges {
        let route = Route { prefix: *prefix, target: Target::Unreachable };
        kernel.add_route(&route).await.context("guarding by a route")?;
    }
    bar(&mut kernel, &guard).await.context("guarding by routing rules")?;
    kernel.replace_table(&guard).await.context("guarding by the table")?;
    tracing::info!(ranges = guard.ranges.len(), "guard in force");
    Ok(())
}

/// Against what comes in by the devices that are there by now; the table knows no exception.
async fn bar(kernel: &mut Kernel, guard: &Guard) -> Result<(), KernelError> {
    let rules = barred::of(guard, &kernel.foreign_devices().await?, sysctl::has_ipv6());
    for rule in &rules {
        kernel.bar(rule).await?;
    }
    let local = kernel.read(&BTreeMap::new()).await?.local;
    let families: BTreeSet<Family> = rules.iter().map(|rule| Family::of(&rule.source)).collect();
    for family in families.into_iter().filter(|family| !barred::stands(&local, *family)) {
        kernel.look_for_local_behind(family).await?;
    }
    Ok(())
}

fn guard(node: &NodeFile, tun: String) -> Guard {
    Guard {
        ranges: node.pools.iter().copied().collect(),
        tun,
        masquerade: node.subnets.iter().copied().collect(),
        // Nobody is reached before the agent runs.
        machines: BTreeSet::new(),
        devices: node.devices.clone(),
        behind: BTreeSet::new(),
        forwards: false,
        open: BTreeMap::new(),
    }
}
