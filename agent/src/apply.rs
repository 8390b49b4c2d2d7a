//! Does a plan's changes, in their order. The one place that knows both kernel and data path.

use crate::{
    datapath::{Datapath, DatapathError},
    kernel::{Kernel, KernelError, sysctl},
    plan::{Change, Peers, Target},
};

#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error(transparent)]
    Kernel(#[from] KernelError),
    #[error(transparent)]
    Datapath(#[from] DatapathError),
}

/// What came of the changes.
#[derive(Debug, Default)]
pub struct Outcome {
    pub done: usize,
    pub errors: Vec<ApplyError>,
}

/// Stops at the first step of the guard that fails, for nothing may run without it; any other
/// failure costs only itself, and what builds on it.
pub async fn apply(changes: Vec<Change>, kernel: &mut Kernel, datapath: &Datapath) -> Outcome {
    let mut outcome = Outcome::default();
    for change in changes {
        let essential = is_guard(&change);
        tracing::debug!(?change, "applying");
        match step(change, kernel, datapath).await {
            Ok(()) => outcome.done += 1,
            Err(error) => {
                outcome.errors.push(error);
                if essential {
                    break;
                }
            }
        }
    }
    outcome
}

fn is_guard(change: &Change) -> bool {
    match change {
        Change::Table(_) | Change::Bar(_) | Change::Unbar(_) | Change::LocalBehind(_) => true,
        Change::AddRoute(route) | Change::RemoveRoute(route) => route.target == Target::Unreachable,
        Change::Sysctl { .. }
        | Change::AddRule(_)
        | Change::RemoveRule(_)
        | Change::Attach
        | Change::Mtu(_)
        | Change::Up
        | Change::AddAddress(_)
        | Change::RemoveAddress(_)
        | Change::Vxlan(_)
        | Change::Peers(_) => false,
    }
}

async fn step(change: Change, kernel: &mut Kernel, datapath: &Datapath) -> Result<(), ApplyError> {
    match change {
        Change::Table(guard) => kernel.replace_table(&guard).await?,
        Change::Bar(rule) => kernel.bar(&rule).await?,
        Change::Unbar(rule) => kernel.unbar(&rule).await?,
        Change::LocalBehind(family) => kernel.look_for_local_behind(family).await?,
        Change::AddRoute(route) => kernel.add_route(&route).await?,
        Change::RemoveRoute(route) => kernel.remove_route(&route).await?,
        Change::AddRule(rule) => kernel.add_rule(rule).await?,
        Change::RemoveRule(rule) => kernel.remove_rule(rule).await?,
        Change::Sysctl { path, value } => sysctl::set(path, value)?,
        Change::Attach => drop(datapath.attach_tun()?),
        Change::Mtu(mtu) => kernel.set_mtu(mtu).await?,
        Change::Up => kernel.set_up().await?,
        Change::AddAddress(address) => kernel.add_address(address).await?,
        Change::RemoveAddress(address) => kernel.remove_address(address).await?,
        Change::Vxlan(Some(vxlan)) => kernel.put_vxlan(&vxlan).await?,
        Change::Vxlan(None) => kernel.remove_vxlan().await?,
        Change::Peers(Peers { own, others, clear, shaped, relays }) => {
            datapath.set_shaped(shaped);
            datapath.set_clear(&clear);
            datapath.set_own_prefixes(own);
            datapath.set_peers(others);
            datapath.set_relays(relays);
        }
    }
    Ok(())
}
