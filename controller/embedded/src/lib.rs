//! The mesh's resources over the Kubernetes REST protocol, from one redb file.
//!
//! The modules below are pure: values in, values out. No socket, no clock, no file.

#![forbid(unsafe_code)]

pub mod jsonpath;
pub mod openapi;
pub mod patch;
pub mod schema;
pub mod selector;
pub mod table;
