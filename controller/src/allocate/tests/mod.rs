//! Allocation, from single promises to a hundred thousand small histories.

mod history;
mod model;
mod single;
