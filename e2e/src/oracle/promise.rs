//! What is promised is broken once or never: a second try of a test does not mend it.

use std::io::Write as _;

/// Where `e2e/test` collects broken promises.
const FILE: &str = "HAWSER_BROKEN_PROMISES";

/// Panics with `what` where a promise does not hold, and writes it down for the whole run: a test
/// that waited too long on a busy machine may be tried again, a packet in clear may not.
pub fn promised(holds: bool, what: impl FnOnce() -> String) {
    if holds {
        return;
    }
    let what = what();
    if let Some(path) = std::env::var_os(FILE) {
        let file = std::fs::OpenOptions::new().append(true).create(true).open(path);
        let test = std::thread::current().name().unwrap_or_default().to_owned();
        file.and_then(|mut file| writeln!(file, "{test}: {what}")).expect("it is written down");
    }
    panic!("{what}");
}
