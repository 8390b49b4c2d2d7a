//! A mesh in memory: N nodes, a virtual clock, links that lose, delay, reorder and translate.
