//! Sessions of an encrypted mesh, sans I/O: bytes and the time in, bytes and events out.
//!
//! ```text
//!  IP packet ──▶ Paths::train ──▶ Routes: whose? ──▶ session ──▶ Train::seal, in place
//!  datagrams ──▶ Paths::open ──▶ session by index, in place ──▶ "is this source theirs?"
//!                    │ no session, handshakes
//!                    ▼
//!                  Mesh ──▶ doorman ──▶ handshake ──▶ a session for Paths
//!  time      ──▶ Mesh::tick ──▶ retries, rekeys, keepalives ──▶ Outbox::send
//! ```

#![forbid(unsafe_code)]

mod admission;
mod arrivals;
mod blake2s;
pub mod boringtun;
mod bridges;
mod calls;
mod chain;
mod config;
mod cookie;
mod core;
mod discard;
mod doorman;
mod export;
mod handshake;
mod keyring;
mod limiter;
mod marks;
mod mesh;
mod message;
mod moment;
mod noise;
mod outbox;
mod packet;
mod path;
mod paths;
mod peer;
mod random;
pub mod relay;
mod roster;
mod routes;
mod seek;
mod session;
mod shake;
mod slots;
mod source;
mod tai64n;
mod timers;
mod train;
mod window;
#[cfg(any(test, feature = "workbench"))]
#[doc(hidden)]
pub mod workbench;

pub use admission::Problem;
pub use chain::Place;
pub use config::{PeerConfig, PeerStatus};
pub use discard::{Discard, Discards};
pub use export::{ImportError, SessionState};
pub use mesh::{Mesh, Settings};
pub use outbox::{Event, Outbox};
pub use packet::{IpPacket, is_martian};
pub use paths::{Inbox, Paths, Refused, Signs};
pub use random::Random;
pub use routes::Routes;
pub use train::{HEADER, TAG, Train};

/// True when the engine's clock is a virtual one: for the package `sim` alone. A program that
/// carries real packets asserts the contrary at compile time.
pub const SIMULATED: bool = cfg!(feature = "simulated");
