//! What becomes of an object: create, update, patch, delete.
//!
//! ```text
//! decode → (writer: current → preconditions → patch → strategy → schema and rules → same?) → store
//! ```

mod delete;
mod metadata;
mod strategy;
#[cfg(test)]
mod tests;
mod write;

pub(crate) use delete::{DeleteOptions, delete};
pub(crate) use write::{Edit, Outcome, Write, create, edit};
