//! Gives each node its subnets, judges what nodes publish, runs key rotations.
//!
//! Decisions are pure functions ([`allocate`]); the rest reads the API, asks them, and writes.

#![forbid(unsafe_code)]

pub mod admit;
pub mod allocate;
