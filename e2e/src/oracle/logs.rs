//! No panic, and no ERROR that the test did not announce, in any log of a lab.

use std::ffi::OsStr;
use std::path::Path;

use super::files_below;

/// Lines that should not be there, with the name of their file.
pub fn complaints(dir: &Path, allowed: &[String]) -> Vec<String> {
    let logs =
        files_below(dir).into_iter().filter(|path| path.extension() == Some(OsStr::new("log")));
    logs.flat_map(|path| {
        let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap_or_default()).into_owned();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        bad_lines(&text, allowed)
            .into_iter()
            .map(|line| format!("{name}: {line}"))
            .collect::<Vec<_>>()
    })
    .collect()
}

pub(super) fn bad_lines(text: &str, allowed: &[String]) -> Vec<String> {
    let plain = without_colours(text);
    let bad = plain.lines().filter(|line| {
        let panicked = line.contains("panicked at");
        let error = line.split([' ', '"']).any(|word| word == "ERROR");
        panicked || (error && !allowed.iter().any(|allowed| line.contains(allowed.as_str())))
    });
    bad.map(str::to_owned).collect()
}

/// Drops escape sequences: a coloured ERROR is one as well.
fn without_colours(text: &str) -> String {
    let mut parts = text.split("\u{1b}[");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |plain, part| plain + part.split_once('m').map_or("", |(_, rest)| rest))
}
