//! What the demo found, and whether it held.

use std::time::Duration;

use e2e::lab::Seen;
use e2e::mesh::Reach;
use e2e::oracle::Verdict;
use serde_json::{Value, json};

pub(crate) struct Report {
    pub(crate) reach: Reach,
    pub(crate) verdict: Verdict,
    pub(crate) control: Seen,
    pub(crate) double_owners: Vec<String>,
    /// From the start of the first program until every pair had answered.
    pub(crate) ready: Duration,
}

impl Report {
    pub(crate) fn held(&self) -> bool {
        self.reach.ok() == self.reach.total()
            && self.reach.total() > 0
            && self.verdict.underlay.frames > 0
            && self.verdict.complaints.is_empty()
            && self.double_owners.is_empty()
    }

    pub(crate) fn json(&self, nodes: usize, pods: usize) -> Value {
        json!({
            "nodes": nodes,
            "pods": pods,
            "pairs_ok": self.reach.ok(),
            "pairs_total": self.reach.total(),
            "underlay_packets": self.verdict.underlay.frames,
            "clear_packets": self.verdict.clear,
            "control_saw_marker": self.verdict.control_saw_marker,
            "ready_seconds": (self.ready.as_secs_f64() * 100.0).round() / 100.0,
        })
    }
}
