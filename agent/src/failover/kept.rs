//! What a run used last to each node that it did not reach by the best way, on disk: the next run
//! begins so, and not with what was found to be blocked.

use std::{collections::BTreeMap, fs, io, path::Path};

use serde::{Deserialize, Serialize};

use super::Chosen;
use crate::{plan::Way, view::Backend};

const FILE: &str = "carriers.json";
const TEMPORARY: &str = "carriers.json.new";

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Kept {
    backend: Backend,
    #[serde(default)]
    shaped: bool,
    #[serde(default)]
    relay: Option<u8>,
    #[serde(default)]
    tls: bool,
}

/// What [`save`] wrote last. It only orders what the Mesh permits, so one that cannot be read counts
/// as none.
pub(crate) fn load(state: &Path) -> Chosen {
    let read = fs::read(state.join(FILE)).ok();
    let kept: BTreeMap<String, Kept> =
        read.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
    let way = |Kept { backend, shaped, relay, tls }| Way { backend, shaped, relay, tls };
    kept.into_iter().map(|(peer, kept)| (peer, way(kept))).collect()
}

/// In the place of what was there. Not forced to the disk: after a crash of the machine the network
/// may be another too.
pub(crate) fn save(state: &Path, chosen: &Chosen) -> io::Result<()> {
    let kept: BTreeMap<&String, Kept> = chosen
        .iter()
        .map(|(peer, &Way { backend, shaped, relay, tls })| {
            (peer, Kept { backend, shaped, relay, tls })
        })
        .collect();
    fs::write(state.join(TEMPORARY), serde_json::to_vec(&kept)?)?;
    fs::rename(state.join(TEMPORARY), state.join(FILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_is_read_again_and_nonsense_is_nothing() {
        let state = tempfile::tempdir().unwrap();
        assert_eq!(load(state.path()), Chosen::new());
        let shaped = Way { shaped: true, ..Backend::Wireguard.into() };
        let relayed = Way { relay: Some(1), ..Backend::Wireguard.into() };
        let tls = Way { tls: true, ..Backend::Wireguard.into() };
        let chosen: Chosen =
            [("a", Backend::Udp.into()), ("b", shaped), ("c", relayed), ("d", tls)]
                .map(|(name, way)| (name.to_owned(), way))
                .into();

        save(state.path(), &chosen).unwrap();

        assert_eq!(load(state.path()), chosen);
        fs::write(state.path().join(FILE), "{\"a\": {\"backend\": \"pigeon\"}}").unwrap();
        assert_eq!(load(state.path()), Chosen::new());
    }
}
