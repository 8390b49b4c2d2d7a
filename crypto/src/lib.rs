//! Sessions of an encrypted mesh, sans I/O: bytes and the time in, bytes and events out.
//!
//! ```text
//!  IP packet ──▶ Mesh::seal ──▶ Routes: whose? ──▶ peer ──▶ engine ──▶ Outbox::send
//!  datagram  ──▶ Mesh::open ──▶ limiter ──▶ engine ──▶ "is this source theirs?" ──▶ Outbox::deliver
//!  time      ──▶ Mesh::tick ──▶ handshakes, rekeys, keepalives ──▶ Outbox::send
//! ```

#![forbid(unsafe_code)]

mod admission;
#[allow(dead_code, reason = "the native engine is about to use it")]
mod blake2s;
mod config;
#[allow(dead_code, reason = "the native engine is about to use it")]
mod cookie;
mod discard;
#[allow(dead_code, reason = "the native engine is about to use it")]
mod doorman;
mod engine;
#[allow(dead_code, reason = "the native engine is about to use it")]
mod handshake;
mod limiter;
mod mesh;
#[allow(dead_code, reason = "the native engine is about to use it")]
mod message;
#[allow(dead_code, reason = "the native engine is about to use it")]
mod noise;
mod packet;
mod peer;
mod random;
mod routes;
mod source;
#[allow(dead_code, reason = "the native engine is about to use it")]
mod tai64n;
mod tunnel;

pub use config::{PeerConfig, PeerStatus};
pub use discard::{Discard, Discards};
pub use mesh::{Event, Mesh, Outbox, Problem};
pub use packet::{IpPacket, is_martian};
pub use random::Random;
pub use routes::Routes;

/// True when the engine's clock is a virtual one: for the package `sim` alone. A program that
/// carries real packets asserts the contrary at compile time.
pub const SIMULATED: bool = cfg!(feature = "simulated");
