//! The mesh's resources over the Kubernetes REST protocol, from one redb file.
//!
//! On machines without Kubernetes this is the API that the controller, the agents, the CLI and
//! `kubectl` meet in. It speaks what those clients send and no more.
//!
//! ```text
//! TLS → http: route → auth: who, may they → verbs: what becomes of the object → store: commit
//!                                            ↑ schema, patch: is it well formed   ↓
//!                       watch ← ring of committed events ←────────────────────────┘
//! ```
//!
//! `schema`, `patch`, `selector`, `table`, `jsonpath`, `openapi` and `verbs::strategy` are pure:
//! values in, values out. No socket, no clock, no file.

#![forbid(unsafe_code)]

mod auth;
mod backup;
mod builtin;
mod client;
mod housekeeping;
mod http;
pub mod jsonpath;
mod kind;
mod kubeconfig;
pub mod openapi;
pub mod patch;
pub mod schema;
pub mod selector;
mod server;
mod status;
mod store;
pub mod table;
mod tls;
mod verbs;

pub use auth::{Identity, Request as AccessRequest, Verdict, allow};
pub use backup::{BackupError, RestoreReport, backup, restore};
pub use client::{Answer, Client, ClientError, Connection};
pub use kind::KindError;
pub use server::{GATEWAY, OpenError, Options, ServeError, Server};
pub use store::DiskError;
pub use tls::{Authority, TlsError};

/// On the Mesh after a restore that could not see the claims made after the backup: while it
/// stands, nothing may be allocated (see [`restore`]).
pub const RESTORED_AT: &str = "hawser.dev/restored-at";
