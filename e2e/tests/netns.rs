//! Tests in network namespaces: real packets, real programs, seconds. They need root.
//!
//! One binary, one file an area in `netns/`. Hawser's programs come from `HAWSER_BIN_DIR` or the
//! release build.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

#[path = "netns/agent.rs"]
mod agent;
#[path = "netns/backends.rs"]
mod backends;
#[path = "netns/canary.rs"]
mod canary;
#[path = "netns/chained.rs"]
mod chained;
#[path = "netns/cli.rs"]
mod cli;
#[path = "netns/cni.rs"]
mod cni;
#[path = "netns/datapath.rs"]
mod datapath;
#[path = "netns/demo.rs"]
mod demo;
#[path = "netns/fallback.rs"]
mod fallback;
#[path = "netns/flood.rs"]
mod flood;
#[path = "netns/gateways.rs"]
mod gateways;
#[path = "netns/guard.rs"]
mod guard;
#[path = "netns/interop.rs"]
mod interop;
#[path = "netns/interop_native.rs"]
mod interop_native;
#[path = "netns/join.rs"]
mod join;
#[path = "netns/joins.rs"]
mod joins;
#[path = "netns/lab.rs"]
mod lab;
#[path = "netns/laptop.rs"]
mod laptop;
#[path = "netns/leaks.rs"]
mod leaks;
#[path = "netns/mesh.rs"]
mod mesh;
#[path = "netns/nat.rs"]
mod nat;
#[path = "netns/nat_idle.rs"]
mod nat_idle;
#[path = "netns/nat_lab.rs"]
mod nat_lab;
#[path = "netns/nat_met.rs"]
mod nat_met;
#[path = "netns/outage.rs"]
mod outage;
#[path = "netns/peer.rs"]
mod peer;
#[path = "netns/relay.rs"]
mod relay;
#[path = "netns/roam.rs"]
mod roam;
#[path = "netns/rotation.rs"]
mod rotation;
#[path = "netns/site_cut.rs"]
mod site_cut;
#[path = "netns/site_gateway.rs"]
mod site_gateway;
#[path = "netns/sites.rs"]
mod sites;
#[path = "netns/systemd.rs"]
mod systemd;
#[path = "netns/tls.rs"]
mod tls;
