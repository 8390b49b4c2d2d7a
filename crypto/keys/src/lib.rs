//! The keys of a mesh: private, public and preshared keys, their epochs and fingerprints.
//!
//! A [`PrivateKey`] can be made, stored and used, but neither printed nor serialised, so the code
//! that writes logs, resources and bundles has no way to hold one. Everything public has one text
//! form: 44 characters of base64, as `wg` prints it.

#![forbid(unsafe_code)]

mod encoding;
mod epoch;
mod preshared;
mod private;
mod proof;
mod public;

pub use encoding::KeyError;
pub use epoch::KeyEpoch;
pub use preshared::PresharedKey;
pub use private::{PrivateKey, scrub_stack};
pub use proof::{Challenge, Proof};
pub use public::{Fingerprint, PublicKey};

#[cfg(test)]
mod tests;
