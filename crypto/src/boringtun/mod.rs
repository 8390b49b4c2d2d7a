//! The other engine: cloudflare's boringtun behind the same words as [`crate::Mesh`].
//!
//! It stays selectable, and it is the oracle that our own sessions are tested against.

pub(crate) mod engine;
mod mesh;
mod peer;
mod tunnel;

pub use mesh::Mesh;
