//! How `hawser graph` draws.

use clap::ValueEnum;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Drawing {
    /// Lines for a terminal
    Text,
    /// For Graphviz
    Dot,
    /// A picture for a browser
    Svg,
}
