//! Tests in network namespaces: real packets, real programs, seconds. They need root.
//!
//! One binary, one file an area in `netns/`. Hawser's programs come from `HAWSER_BIN_DIR` or the
//! release build.

#[path = "netns/lab.rs"]
mod lab;
