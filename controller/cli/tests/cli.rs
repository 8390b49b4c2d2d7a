//! The program as an operator and a script see it: standard output, standard error, exit code.
//!
//! The API is the embedded server in this process; the agent is a socket that answers `/state`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

#[path = "cli/analyze.rs"]
mod analyze;
#[path = "cli/exit_codes.rs"]
mod exit_codes;
#[path = "cli/keys.rs"]
mod keys;
#[path = "cli/mesh.rs"]
mod mesh;
#[path = "cli/nodes.rs"]
mod nodes;
#[path = "cli/output.rs"]
mod output;
#[path = "cli/peers.rs"]
mod peers;
#[path = "cli/world.rs"]
mod world;
