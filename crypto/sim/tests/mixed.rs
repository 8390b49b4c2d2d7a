//! Nodes of both engines keep the promises to each other.

#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers as well")]

mod promises;

const ENGINES: sim::Engines = sim::Engines::Mixed;
