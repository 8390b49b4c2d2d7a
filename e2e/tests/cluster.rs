//! Tests against a real Kubernetes API server: minutes, root, and the scripts that
//! `HAWSER_KUBE_SCRIPTS` names (else they say that they were skipped).

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

#[path = "cluster/chained.rs"]
mod chained;
#[path = "cluster/controllers.rs"]
mod controllers;
#[path = "cluster/figures.rs"]
mod figures;
#[path = "cluster/gateway.rs"]
mod gateway;
#[path = "cluster/keys.rs"]
mod keys;
#[path = "cluster/life.rs"]
mod life;
#[path = "cluster/nodes.rs"]
mod nodes;
#[path = "cluster/release.rs"]
mod release;
#[path = "cluster/removal.rs"]
mod removal;
#[path = "cluster/restore.rs"]
mod restore;
#[path = "cluster/rights.rs"]
mod rights;
#[path = "cluster/services.rs"]
mod services;
#[path = "cluster/three_nodes.rs"]
mod three_nodes;
#[path = "cluster/web.rs"]
mod web;
