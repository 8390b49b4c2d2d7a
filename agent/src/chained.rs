//! Chained mode: the configuration that the container runtime finds first, made of another plugin's,
//! with ours as its last plugin.
//!
//! ```text
//! 10-bridge.conflist (theirs, never written) ─▶ configuration ─▶ 00-hawser.conflist: bridge, …, hawser-cni
//! ```
//! Pure. Their plugins give the pods addresses and devices, as before; ours lets a pod start only
//! behind the guard. Their file stays as it is, and is in force again as soon as ours is gone.

mod directory;
mod watch;

use std::{cmp::Ordering, collections::BTreeMap, fmt::Write as _, path::Path};

use serde_json::{Map, Value, json};

pub(crate) use self::{directory::Directory, watch::watch};

/// Sorts before what others call theirs.
pub(crate) const CONFIGURATION: &str = "00-hawser.conflist";
/// What comes with the main mode.
pub(crate) const MAIN: &str = "05-hawser.conflist";
pub(crate) const PLUGIN: &str = "hawser-cni";
/// What hawser-cni speaks, and a list may be written in.
const VERSIONS: [&str; 4] = ["0.3.1", "0.4.0", "1.0.0", "1.1.0"];
/// Plugins that give pods a device, and take its MTU.
const DEVICE_MAKERS: [&str; 2] = ["bridge", "ptp"];

/// What ours adds to theirs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ours<'a> {
    /// Where hawser-cni finds its node.
    pub(crate) state: &'a Path,
    /// Of pods' devices.
    pub(crate) mtu: u16,
}

/// What is to be in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chain {
    /// The name of the file that it is made of.
    pub(crate) theirs: String,
    pub(crate) text: String,
}

/// Why no pod can be put behind another plugin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unchained {
    #[error(
        "chained to no plugin: no configuration of another one is there{}; install it, or set \
         cni.mode: Main where Hawser is to be the network",
        but(.0)
    )]
    Nobody(Vec<String>),
    #[error(
        "chained to no plugin: the runtime would take {0:?} before {CONFIGURATION}; give it a name \
         that sorts after that, such as 10-{0}"
    )]
    SortsBefore(String),
    #[error(
        "chained to no plugin: {file:?} is of cniVersion {version:?}; {PLUGIN} can follow from 0.3.1 \
         to 1.1.0"
    )]
    Version { file: String, version: String },
}

fn but(skipped: &[String]) -> String {
    if skipped.is_empty() { String::new() } else { format!(" but {}", skipped.join("; ")) }
}

/// The first by name that a runtime can read and that is not ours, as the runtimes choose.
pub(crate) fn configuration(
    files: &BTreeMap<String, Vec<u8>>,
    ours: Ours<'_>,
) -> Result<Chain, Unchained> {
    let mut skipped = Vec::new();
    for (name, text) in files {
        if name == CONFIGURATION || name == MAIN {
            continue;
        }
        match read(name, text) {
            Ok(list) if is_ours(&list) => {
                skipped.push(format!("{name:?}, which names {PLUGIN} already"));
            }
            Ok(list) => return join(name, list, ours),
            Err(why) => skipped.push(format!("{name:?}, which {why}")),
        }
    }
    Err(Unchained::Nobody(skipped))
}

/// What runtimes look at in their directory.
pub(crate) fn is_read(name: &str) -> bool {
    [".conflist", ".conf", ".json"].iter().any(|ending| name.ends_with(ending))
}

/// A file as a list of plugins: one that holds a single plugin is a list of it.
fn read(name: &str, text: &[u8]) -> Result<Map<String, Value>, &'static str> {
    let Ok(Value::Object(mut list)) = serde_json::from_slice(text) else {
        return Err("is no JSON object");
    };
    if list.get("name").and_then(Value::as_str).is_none_or(str::is_empty) {
        return Err("has no name");
    }
    if !name.ends_with(".conflist") {
        let mut plugin = std::mem::take(&mut list);
        for head in ["name", "cniVersion"] {
            list.extend(plugin.remove(head).map(|value| (head.to_owned(), value)));
        }
        list.insert("plugins".to_owned(), json!([plugin]));
    }
    let plugins = list.get("plugins").and_then(Value::as_array);
    let named = |plugin: &Value| plugin["type"].as_str().is_some_and(|kind| !kind.is_empty());
    match plugins {
        Some(plugins) if !plugins.is_empty() && plugins.iter().all(named) => Ok(list),
        Some(_) | None => Err("names no plugin"),
    }
}

fn is_ours(list: &Map<String, Value>) -> bool {
    list["plugins"].as_array().is_some_and(|all| all.iter().any(|one| one["type"] == PLUGIN))
}

/// Name and version stay, so the pods that are there are deleted as they were added.
fn join(
    file: &str,
    mut list: Map<String, Value>,
    Ours { state, mtu }: Ours<'_>,
) -> Result<Chain, Unchained> {
    let file = file.to_owned();
    if file.as_str().cmp(CONFIGURATION) == Ordering::Less {
        return Err(Unchained::SortsBefore(file));
    }
    // The first specification's text has none.
    let version = list.get("cniVersion").and_then(Value::as_str).unwrap_or("0.1.0");
    if !VERSIONS.contains(&version) {
        return Err(Unchained::Version { file, version: version.to_owned() });
    }
    if let Some(plugins) = list.get_mut("plugins").and_then(Value::as_array_mut) {
        for plugin in plugins.iter_mut() {
            suit(plugin, mtu);
        }
        plugins.push(json!({"type": PLUGIN, "chained": true, "state": state}));
    }
    let mut text = String::new();
    writeln!(text, "{:#}", Value::Object(list)).expect("a String takes all");
    Ok(Chain { theirs: file, text })
}

/// Pods keep their addresses wherever the mesh carries them: what leaves the mesh is masqueraded by
/// the guard. Their packets fit the tunnel, where nobody has said otherwise.
fn suit(plugin: &mut Value, mtu: u16) {
    if plugin.get("ipMasq") == Some(&Value::Bool(true)) {
        plugin["ipMasq"] = Value::Bool(false);
    }
    let makes_device = DEVICE_MAKERS.iter().any(|kind| plugin["type"] == *kind);
    let unsaid = plugin.get("mtu").is_none_or(|said| said.is_null() || *said == 0);
    if makes_device && unsaid {
        plugin["mtu"] = mtu.into();
    }
}

#[cfg(test)]
mod tests;
