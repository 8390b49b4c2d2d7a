//! Lab (nodes in network namespaces), the oracles, the flood, and what the demo and the benchmark share.
//!
//! The tests by promise are in `tests/`; the programs `hawser-demo` and `hawser-bench` in `src/bin/`.

pub mod client;
pub mod cluster;
pub mod flood;
pub mod lab;
pub mod mesh;
pub mod oracle;
