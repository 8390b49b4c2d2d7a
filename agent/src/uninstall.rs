//! Takes the node out of the mesh for good: the only way that the guard ever leaves.

use std::{fs, io, path::Path};

use anyhow::Context;
use cni::{DeviceRecords, NodeFile, Reservations};

use crate::{
    install,
    kernel::Kernel,
    options::{State, Uninstall},
    state,
};

pub async fn run(options: Uninstall) -> anyhow::Result<()> {
    let Uninstall { state: State { directory }, purge, plugin } = options;
    let lock = if directory.exists() { Some(state::lock(&directory).await?) } else { None };
    install::remove(&plugin)?;
    // From here on no pod is added.
    NodeFile::remove(&directory).context("removing node.json")?;
    let mut kernel = Kernel::open(&state::device(&directory))?;
    kernel.remove_everything().await.context("removing device, routes and guard")?;
    Reservations::remove_all(&directory).context("removing the pods' reservations")?;
    DeviceRecords::remove_all(&directory).context("removing the records of devices")?;
    state::forget(&directory).context("removing the agent's socket")?;
    if purge {
        remove_all(&directory).context("removing the state directory")?;
    }
    drop(lock);
    Ok(())
}

fn remove_all(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}
