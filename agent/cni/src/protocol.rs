//! The CNI protocol: what a runtime may send, and the form of every answer.
//!
//! Pure: bytes and variables in, typed values or a [`Failure`] with the specification's code out.

mod config;
mod environment;
mod failure;
mod result;
#[cfg(test)]
mod tests;
mod version;

pub(crate) use config::{LARGEST, NetworkConfig, PrevResult, version_of};
pub(crate) use environment::Call;
pub(crate) use failure::{Code, Failure};
pub(crate) use result::{AddResult, Dns, Route, versions};
pub(crate) use version::Version;
