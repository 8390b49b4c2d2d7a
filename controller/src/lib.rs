//! Gives each node its subnets and judges what nodes publish.
//!
//! Decisions are pure functions ([`allocate`], [`admit`]); [`reconcile`] reads the API, asks them,
//! and writes. Start with [`allocate`]: it says why a subnet has one owner.

#![forbid(unsafe_code)]

pub mod admin;
pub mod admit;
pub mod allocate;
pub mod args;
pub mod embed;
pub mod gateway;
pub mod lease;
pub mod metrics;
pub mod reconcile;
pub mod rotate;
pub mod run;
