//! The gateway in front of the embedded API: real TLS, real certificates, real conditional writes.
//! No root, loopback only. The whole with agents and packets is in `e2e/tests/netns/join.rs`.

#![allow(clippy::unwrap_used, reason = "the whole file is a test")]

#[path = "gateway/busy.rs"]
mod busy;
#[path = "gateway/crowd.rs"]
mod crowd;
#[path = "gateway/door.rs"]
mod door;
#[path = "gateway/entry.rs"]
mod entry;
#[path = "gateway/flood.rs"]
mod flood;
#[path = "gateway/many.rs"]
mod many;
#[path = "gateway/world.rs"]
mod world;
