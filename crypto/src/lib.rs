//! Sessions of an encrypted mesh, sans I/O: bytes and the time in, bytes and events out.
//!
//! ```text
//!  IP packet ──▶ Mesh::seal ──▶ Routes: whose? ──▶ peer ──▶ engine ──▶ Outbox::send
//!  datagram  ──▶ Mesh::open ──▶ limiter ──▶ engine ──▶ "is this source theirs?" ──▶ Outbox::deliver
//!  time      ──▶ Mesh::tick ──▶ handshakes, rekeys, keepalives ──▶ Outbox::send
//! ```

#![forbid(unsafe_code)]

mod admission;
pub mod boringtun;
mod config;
mod discard;
mod limiter;
mod mesh;
mod outbox;
mod packet;
mod paths;
mod random;
mod routes;
mod source;

pub use admission::Problem;
pub use config::{PeerConfig, PeerStatus};
pub use discard::{Discard, Discards};
pub use mesh::{Mesh, Settings};
pub use outbox::{Event, Outbox};
pub use packet::{IpPacket, is_martian};
pub use paths::{HEADER, Inbox, Paths, Refused, TAG, Train};
pub use random::Random;
pub use routes::Routes;

/// True when the engine's clock is a virtual one: for the package `sim` alone. A program that
/// carries real packets asserts the contrary at compile time.
pub const SIMULATED: bool = cfg!(feature = "simulated");
