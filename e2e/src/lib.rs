//! Lab (nodes in network namespaces), the tests by promise, the demo, the benchmark.
