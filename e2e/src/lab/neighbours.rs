//! Room in the kernel's neighbour tables. All network namespaces share one table a family, and its
//! default limit of 1,024 entries is less than what 33 machines that all know each other need:
//! beyond it, packets are dropped ("neighbor table overflow").

use std::{fs, path::PathBuf};

use anyhow::Context;

/// The limits as they were; they come back when this is dropped.
pub struct NeighbourRoom(Vec<(PathBuf, String)>);

impl NeighbourRoom {
    /// Raises the limits, where they are too low, so that `machines` can all know each other.
    pub fn for_machines(machines: usize) -> anyhow::Result<Self> {
        let entries = machines * machines * 2;
        let mut room = Self(Vec::new());
        for family in ["ipv4", "ipv6"] {
            // Highest first: the kernel collects garbage above the second.
            for limit in ["gc_thresh3", "gc_thresh2", "gc_thresh1"] {
                room.raise(
                    format!("/proc/sys/net/{family}/neigh/default/{limit}").into(),
                    entries,
                )?;
            }
        }
        Ok(room)
    }

    fn raise(&mut self, path: PathBuf, entries: usize) -> anyhow::Result<()> {
        let named = || format!("raising {} to {entries}", path.display());
        let before = fs::read_to_string(&path).with_context(named)?;
        if before.trim().parse::<usize>().with_context(named)? >= entries {
            return Ok(());
        }
        fs::write(&path, entries.to_string()).with_context(named)?;
        self.0.push((path, before));
        Ok(())
    }
}

impl Drop for NeighbourRoom {
    fn drop(&mut self) {
        for (path, before) in self.0.drain(..).rev() {
            fs::write(path, before).ok();
        }
    }
}
