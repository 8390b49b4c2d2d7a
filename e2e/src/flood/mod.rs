//! A flood of handshakes that look right from outside, and a member who wants in meanwhile.
//!
//! ```text
//!   stranger ── 200,000 initiations/s, valid mac1, every source forged ──┐
//!   member   ── one handshake after the other, timed ────────────────────┼─▶ hawser-agent
//!   peer     ── a session with traffic on it ────────────────────────────┘
//! ```

mod forged;
mod generator;
mod member;
mod replies;

pub use generator::{Flood, FloodReport};
pub use member::{Attempts, HandshakeTimes, Member};
pub use replies::CookieReplies;
