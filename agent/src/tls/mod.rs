//! Sealed datagrams in TLS over TCP, for networks that let out nothing else: from a node that calls to
//! one that listens, and from there, as its relay, to all others.
//!
//! ```text
//!   data path ⇄ UDP on loopback ⇄ TLS ════ TCP 443 ════ TLS ⇄ UDP on loopback ⇄ data path
//!               └──── bridge of the caller ────┘  └─── bridge of the listener ───┘
//! ```
//! What crosses is sealed already, between nodes that have proven who they are: TLS is there to pass.
//! It is pinned all the same, to the certificate that the listener publishes. A bridge that cannot
//! write loses datagrams, as a full link would, and waits for nobody but its own stream.

mod bridge;
mod call;
mod certificate;
mod count;
mod dial;
pub mod frame;
mod guests;
mod listen;

pub use self::count::TlsState;
pub(crate) use self::{
    call::Caller,
    certificate::Certificate,
    count::Counts,
    listen::{Listen, Published},
};
