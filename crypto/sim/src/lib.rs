//! A mesh in memory: N nodes, a virtual clock, links that lose, delay, reorder and translate.
//!
//! ```text
//!   World ── clock ─▶ Node 1 ─┐                   ┌─▶ Node 2
//!     │                Mesh   └─ Link: lost? when? ┘    Mesh
//!     └── seed ─▶ every decision of every link
//! ```
//! Hours pass in milliseconds, and the same seed is the same story (boringtun draws keys of its
//! own, so with it the bytes differ).
//!
//! boringtun's clock is a virtual one in this package (see `crypto`'s feature `simulated`), so it
//! is tested by a command of its own: `cargo test -p sim`.

#![forbid(unsafe_code)]

mod engine;
mod link;
mod nat;
mod node;
mod packet;
mod random;
mod world;

pub use engine::{Engine, Engines, Mesh};
pub use link::Link;
pub use nat::{Mapping, Nat};
pub use node::{Node, Told};
pub use packet::{Content, packet};
pub use random::Random;
pub use world::{Flight, World};
