//! A mesh in memory: N nodes, a virtual clock, links that lose, delay, reorder and translate.
//!
//! ```text
//!   World ── clock ─▶ Node 1 ─┐                   ┌─▶ Node 2
//!     │                Mesh   └─ Link: lost? when? ┘    Mesh
//!     └── seed ─▶ every decision of every link
//! ```
//! Hours pass in milliseconds, and the same seed is the same story, but for the keys' bytes: the
//! engine draws its own.
//!
//! The engine's clock is a virtual one in this package (see `crypto`'s feature `simulated`), so it
//! is tested by a command of its own: `cargo test -p sim`.

#![forbid(unsafe_code)]

mod link;
mod node;
mod packet;
mod random;
mod world;

pub use link::Link;
pub use node::{Node, Told};
pub use packet::{Content, packet};
pub use random::Random;
pub use world::{Flight, World};
