//! The view from a file of resources, read again when it changes.
//!
//! Polled: a look at the file's identity every quarter second sees a write, a rename over it and a
//! mounted ConfigMap's link alike, and a file that is missing for a moment is no news.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;

use super::Publisher;
use crate::view::{Resources, View};

const POLL: Duration = Duration::from_millis(250);
/// Ten thousand nodes are about 5 MB.
const LARGEST: u64 = 64 << 20;

#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("reading {path}: {source}")]
    Read { path: String, source: io::Error },
    #[error("{path} is larger than {LARGEST} bytes")]
    TooLarge { path: String },
    #[error("{path}: {problem}")]
    Malformed { path: String, problem: String },
    #[error("{path}: {overlaps}; the last good view stays")]
    Overlap { path: String, overlaps: String },
    #[error("{path}: there is no usable Mesh named default")]
    NoMesh { path: String },
}

/// What changes when a file's content may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

/// Follows the file for ever.
pub async fn follow(path: PathBuf, mut publisher: Publisher) {
    let mut seen = None;
    let mut missing = false;
    loop {
        let now = stamp(&path);
        if now.is_none() && !missing {
            tracing::error!(path = %path.display(), "the view's file is missing");
        }
        missing = now.is_none();
        if now.is_some() && now != seen {
            match load(&path, &mut publisher) {
                Ok(view) => publisher.publish(view),
                Err(error) => tracing::error!(%error, "view not read"),
            }
            seen = now;
        }
        tokio::time::sleep(POLL).await;
    }
}

fn load(path: &Path, publisher: &mut Publisher) -> Result<View, FileError> {
    let name = path.display().to_string();
    let objects = parse(&read(path)?)
        .map_err(|problem| FileError::Malformed { path: name.clone(), problem })?;
    let (mut resources, malformed) = Resources::decode(objects);
    let refused = resources.route_prefixes();
    let judgement = publisher.judge(&resources);
    publisher.complain(malformed.into_iter().chain(refused).chain(judgement.complaints));
    if !judgement.overlaps.is_empty() {
        let overlaps: Vec<_> = judgement.overlaps.iter().map(ToString::to_string).collect();
        return Err(FileError::Overlap { path: name, overlaps: overlaps.join("; ") });
    }
    judgement.view.ok_or(FileError::NoMesh { path: name })
}

fn read(path: &Path) -> Result<String, FileError> {
    let name = path.display().to_string();
    let error = |source| FileError::Read { path: name.clone(), source };
    if fs::metadata(path).map_err(error)?.len() > LARGEST {
        return Err(FileError::TooLarge { path: name });
    }
    fs::read_to_string(path).map_err(error)
}

/// The documents of a multi-document file; empty ones count as absent.
fn parse(text: &str) -> Result<Vec<Value>, String> {
    // The library's own bounds end at 1,024 documents; the file's size bounds these.
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_documents: 100_000,
            max_nodes: 8_000_000,
            max_events: 16_000_000,
        },
    };
    let documents: Vec<Value> =
        serde_saphyr::from_multiple_with_options(text, options).map_err(|e| e.to_string())?;
    Ok(documents.into_iter().filter(|document| !document.is_null()).collect())
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(path).ok()?;
    Some(Stamp {
        device: metadata.dev(),
        inode: metadata.ino(),
        size: metadata.len(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
    })
}

#[cfg(test)]
mod tests;
