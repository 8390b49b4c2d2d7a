//! The nftables half of the guard: the table `inet hawser`, in place at every moment, also while
//! it changes.
//!
//! ```text
//! prerouting  raw      from a pod, with an address that is not the pod's  ─▶ counted, dropped
//!                      from or to the mesh, on a device that is not ours  ─▶ counted, dropped
//! prerouting  -50      pod ─▶ another machine's own address           ─▶ marked, for the tunnel
//! postrouting srcnat   pod ─▶ outside the mesh                            ─▶ masqueraded
//! postrouting srcnat+  from or to the mesh or marked, on a device that is not ours ─▶ same
//! ```
//! nft prints a table differently from how it takes it in, and differently by version. So what the
//! kernel should hold is what it listed right after we installed it.

mod ruleset;

use nftables::{
    helper::{self, NftablesError},
    schema::Nftables,
};
use serde_json::Value;
use tokio::task;

use super::KernelError;
use crate::plan::{Guard, SideTable};

const TABLE: &str = "hawser";
/// The bit that marks pods' packets to other machines. Kubernetes uses 0x4000 and 0x8000, and other
/// networks the upper half.
pub(super) const MARK: u32 = SideTable::Machines.mark().0;

/// Packets that the guard dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Blocked {
    /// On their way out of this node.
    pub out: u64,
    /// On their way in.
    pub into: u64,
    /// From a pod, with an address that is not the pod's: never in clear, and not meant well.
    pub forged: u64,
}

/// The table, and what we know of it.
#[derive(Default)]
pub(super) struct Table {
    installed: Option<(Guard, Value)>,
    blocked: Blocked,
}

impl Table {
    /// The guard that is in force: what we installed, if it is there unchanged.
    pub(super) async fn read(&mut self) -> Result<Option<Guard>, KernelError> {
        let Some(mut listing) = list().await? else {
            return Ok(None);
        };
        self.blocked = take_counters(&mut listing).unwrap_or(self.blocked);
        let unchanged =
            self.installed.as_ref().filter(|(_, as_installed)| *as_installed == listing);
        Ok(unchanged.map(|(guard, _)| guard.clone()))
    }

    /// What was last seen or put in force.
    pub(super) fn installed(&self) -> Option<Guard> {
        self.installed.as_ref().map(|(guard, _)| guard.clone())
    }

    /// In steps, each of which guards: sets, rules, and then the old sets go. A table that somebody
    /// made something else of is made anew.
    pub(super) async fn replace(&mut self, guard: &Guard) -> Result<(), KernelError> {
        self.installed = None;
        if let Some(mut listing) = list().await? {
            self.blocked = take_counters(&mut listing).unwrap_or(self.blocked);
            match self.renew(guard, names(&listing)).await {
                Ok(()) => return Ok(()),
                Err(error) => tracing::debug!(%error, "the table is made anew"),
            }
        }
        apply(ruleset::install(guard, self.blocked)).await?;
        self.check(guard, ruleset::Turn::A).await
    }

    async fn renew(&mut self, guard: &Guard, mut old: Vec<String>) -> Result<(), KernelError> {
        let turn = ruleset::Turn::after(&old);
        let new = ruleset::set_names(guard, turn);
        old.retain(|name| !new.contains(name));
        apply(ruleset::prepare(guard, turn)).await?;
        apply(ruleset::switch(guard, turn)).await?;
        if !old.is_empty() {
            apply(ruleset::forget(old)).await?;
        }
        self.check(guard, turn).await
    }

    async fn check(&mut self, guard: &Guard, turn: ruleset::Turn) -> Result<(), KernelError> {
        let mut listing = list().await?.unwrap_or_default();
        take_counters(&mut listing);
        let found = ["rule", "chain", "set"].map(|kind| objects(&listing, kind).count());
        let wanted = ruleset::size(guard, turn);
        if found != wanted {
            return Err(KernelError::Nft(format!(
                "{found:?} rules, chains and sets are in force after installing the guard, and not \
                 {wanted:?}"
            )));
        }
        self.installed = Some((guard.clone(), listing));
        Ok(())
    }

    pub(super) async fn remove(&mut self) -> Result<(), KernelError> {
        self.installed = None;
        apply(ruleset::remove()).await
    }

    pub(super) fn blocked(&self) -> Blocked {
        self.blocked
    }
}

/// The table as nft lists it, without handles. None if there is no such table.
async fn list() -> Result<Option<Value>, KernelError> {
    let args = ["list", "table", "inet", TABLE];
    let listing =
        blocking(move || helper::get_current_ruleset_raw(helper::DEFAULT_NFT, args)).await;
    let text = match listing {
        Err(NftablesError::NftFailed { stderr, .. }) if stderr.contains("No such file") => {
            return Ok(None);
        }
        other => other.map_err(error)?,
    };
    let mut listing: Value =
        serde_json::from_str(&text).map_err(|e| KernelError::Nft(e.to_string()))?;
    strip(&mut listing, "handle");
    Ok(Some(listing))
}

async fn apply(ruleset: Nftables<'static>) -> Result<(), KernelError> {
    blocking(move || helper::apply_ruleset(&ruleset)).await.map_err(error)
}

async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> Result<T, NftablesError> + Send + 'static,
) -> Result<T, NftablesError> {
    task::spawn_blocking(call).await.expect("nft's wrapper does not panic")
}

fn error(error: NftablesError) -> KernelError {
    match error {
        NftablesError::NftFailed { stderr, hint, .. } => {
            KernelError::Nft(format!("{hint}: {}", stderr.lines().next().unwrap_or_default()))
        }
        other => KernelError::Nft(other.to_string()),
    }
}

fn strip(value: &mut Value, key: &str) {
    match value {
        Value::Object(map) => {
            map.remove(key);
            map.values_mut().for_each(|inner| strip(inner, key));
        }
        Value::Array(list) => list.iter_mut().for_each(|inner| strip(inner, key)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn objects<'a>(listing: &'a Value, kind: &'a str) -> impl Iterator<Item = &'a Value> {
    let all = listing["nftables"].as_array().into_iter().flatten();
    all.filter_map(move |object| object.get(kind))
}

/// Of the sets in the table.
fn names(listing: &Value) -> Vec<String> {
    let names = objects(listing, "set").filter_map(|set| set["name"].as_str());
    names.map(str::to_owned).collect()
}

/// Reads the named counters and takes their values out of the listing, which change all the time.
fn take_counters(listing: &mut Value) -> Option<Blocked> {
    let count = |name: &str| {
        let mut counters = objects(listing, "counter");
        counters.find(|counter| counter["name"] == name)?["packets"].as_u64()
    };
    let blocked = Blocked {
        out: count(ruleset::OUT)?,
        into: count(ruleset::INTO)?,
        // A table of an older version has none.
        forged: count(ruleset::FORGED).unwrap_or_default(),
    };
    for object in listing["nftables"].as_array_mut()? {
        if let Some(counter) = object.get_mut("counter") {
            strip(counter, "packets");
            strip(counter, "bytes");
        }
    }
    Some(blocked)
}

#[cfg(test)]
mod tests;
