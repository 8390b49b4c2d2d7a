//! The CNI plugin: called by the container runtime for each pod.

fn main() {}
