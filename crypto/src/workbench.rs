//! Parts of the inside, opened for `benches/` and `fuzz/`: no program sees this module.
//!
//! What is here has no secrets worth keeping and no promises to anybody.

pub mod flood;
pub mod fuzz;
pub mod handshakes;
