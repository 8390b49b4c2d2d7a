//! PURE: resources and live state in, an [`Output`](crate::output::Output) out. No network, no
//! clock, no terminal; so what people see is tested as plain text.

pub mod analysis;
pub mod bundle;
pub mod graph;
pub mod keys;
pub mod mesh;
pub mod nodes;
pub mod path;
pub mod peers;
pub mod plain_peers;
pub mod preflight;
pub mod revoke;
pub mod rotation;
pub mod status;
pub mod surroundings;
pub mod tokens;
pub mod uninstall;

use crate::text;

/// A block of `Label  value` lines under an optional title.
pub(crate) fn fields(rows: &[(&str, String)]) -> String {
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|(label, value)| vec![(*label).to_owned(), text::printable(value)])
        .collect();
    crate::output::aligned(&rows)
}

pub(crate) fn or(value: Option<impl ToString>, instead: &str) -> String {
    value.map_or_else(|| instead.to_owned(), |value| value.to_string())
}
