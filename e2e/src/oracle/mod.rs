//! What must hold in every namespace test, whatever the test is about.
//!
//! ```text
//!   let oracles = Oracles::watch(&lab, MARKER)?;     a capture on the underlay
//!   …                                                the test
//!   oracles.judge(&control)?;                        nothing in clear, logs clean, no secret out,
//!                                                    no descriptor or memory kept
//! ```
//!
//! `control` is a capture of a place where the marker must be visible (a tunnel device, or the
//! underlay in a run without encryption): without it "nothing seen" would prove nothing.

mod baseline;
mod logs;
mod owners;
mod programs;
mod promise;
mod secrets;

use std::path::{Path, PathBuf};

use anyhow::ensure;
use ipnet::IpNet;
use programs::Holdings;

pub use baseline::Baseline;
pub use logs::complaints;
pub use owners::double_owners;
pub use promise::promised;
pub use secrets::Secrets;

use crate::lab::{Capture, Lab, Seen};

/// The pools that CONTRACT.md's examples, the demo and most tests use.
pub const POOLS: [&str; 2] = ["10.42.0.0/16", "fd42::/48"];

/// Bytes that occur nowhere else, to send and to search for.
pub fn marker() -> Vec<u8> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let nanos = now.unwrap_or_default().as_nanos();
    format!("hawser-marker-{}-{nanos:024x}", std::process::id()).into_bytes()
}

/// The watch over one lab, from `watch` to `judge`.
pub struct Oracles {
    dir: PathBuf,
    underlay: Capture,
    pools: Vec<IpNet>,
    allowed: Vec<String>,
    holdings: Holdings,
}

/// What the watch saw.
#[derive(Clone, Debug)]
pub struct Verdict {
    pub underlay: Seen,
    /// Frames on the underlay with the marker or with an address of the mesh.
    pub clear: u64,
    pub control_saw_marker: bool,
    /// Everything that was wrong, in words.
    pub complaints: Vec<String>,
}

impl Oracles {
    /// Watches the first switch of a lab.
    pub fn watch(lab: &Lab, marker: &[u8]) -> anyhow::Result<Self> {
        let pools = POOLS.iter().map(|pool| pool.parse().expect("a prefix")).collect();
        let underlay = lab.switch()?.capture(&[marker])?;
        let dir = lab.dir().to_owned();
        let holdings = Holdings::of(&dir);
        Ok(Self { dir, underlay, pools, allowed: Vec::new(), holdings })
    }

    /// Permits log lines with `text` at level ERROR: a test that provokes one says so here.
    pub fn allow_error(mut self, text: &str) -> Self {
        self.allowed.push(text.to_owned());
        self
    }

    /// The capture of the underlay, for questions of the test's own.
    pub fn underlay(&self) -> Seen {
        self.underlay.seen()
    }

    /// Looks at everything once and lists what was wrong.
    pub fn verdict(&self, control: &Seen) -> Verdict {
        let underlay = self.underlay.seen();
        let inner = underlay.inside(&self.pools);
        let mut complaints = complaints(&self.dir, &self.allowed);
        let secrets = Secrets::below(&self.dir);
        complaints.extend(secrets.found_in_files(&self.dir));
        complaints.extend(programs::telling(&self.dir, &secrets));
        complaints.extend(self.holdings.grown(&Holdings::of(&self.dir)));
        if underlay.marked() > 0 {
            complaints.push(format!("{} frames in clear on the underlay", underlay.marked()));
        }
        if !inner.is_empty() {
            complaints.push(format!("addresses of the mesh on the underlay: {inner:?}"));
        }
        let clear = underlay.marked() + inner.len() as u64;
        let control_saw_marker = control.marked() > 0;
        if !control_saw_marker {
            complaints.push("the control never saw the marker: this run proves nothing".into());
        }
        Verdict { underlay, clear, control_saw_marker, complaints }
    }

    /// The verdict as a result, for tests; what was in clear is a broken promise.
    pub fn judge(&self, control: &Seen) -> anyhow::Result<Verdict> {
        let verdict = self.verdict(control);
        promised(verdict.clear == 0, || verdict.complaints.join("; "));
        ensure!(verdict.complaints.is_empty(), "{}", verdict.complaints.join("\n"));
        Ok(verdict)
    }
}

/// Files below `dir`, at any depth; links are not followed.
pub fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => open.push(entry.path()),
                Ok(kind) if kind.is_file() => found.push(entry.path()),
                _ => {}
            }
        }
    }
    found.sort();
    found
}

#[cfg(test)]
mod tests;
