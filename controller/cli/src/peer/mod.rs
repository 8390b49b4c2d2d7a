//! What `hawser peer create` decides: which address, through which nodes, and what the file says.
//! All of it pure; the requests and the terminal are the command's.

pub mod addresses;
pub mod config;
pub mod entries;
