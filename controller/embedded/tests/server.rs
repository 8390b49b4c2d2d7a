//! The server as its clients see it: over TLS, on a directory of its own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

#[path = "server/backup.rs"]
mod backup;
#[path = "server/crash.rs"]
mod crash;
#[path = "server/harness.rs"]
mod harness;
#[path = "server/rights.rs"]
mod rights;
#[path = "server/verbs.rs"]
mod verbs;
#[path = "server/watch.rs"]
mod watch;
