//! Allocation, from single promises to a hundred thousand small histories.

mod assigned;
mod history;
mod model;
mod returning;
mod single;
