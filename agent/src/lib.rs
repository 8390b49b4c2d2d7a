//! The node's part: keys, sessions, TUN, routes, guard.

pub mod identity;
