//! Our own engine keeps the promises.

#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers as well")]

mod promises;

const ENGINES: sim::Engines = sim::Engines::Native;
