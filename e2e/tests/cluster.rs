//! Tests against a real Kubernetes API server: minutes, root, and the scripts that
//! `HAWSER_KUBE_SCRIPTS` names (else they say that they were skipped).

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

#[path = "cluster/controllers.rs"]
mod controllers;
#[path = "cluster/rights.rs"]
mod rights;
#[path = "cluster/three_nodes.rs"]
mod three_nodes;
