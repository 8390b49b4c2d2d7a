//! What is promised is broken once or never: a second try of a test does not mend it.

use std::{io::Write as _, path::Path};

/// Where `e2e/test` collects broken promises.
const FILE: &str = "HAWSER_BROKEN_PROMISES";

/// Panics with `what` where a promise does not hold, and writes it down for the whole run: a test
/// that waited too long on a busy machine may be tried again, a packet in clear may not.
pub fn promised(holds: bool, what: impl FnOnce() -> String) {
    if !holds {
        broken(std::env::var_os(FILE).as_deref().map(Path::new), &what());
    }
}

/// Panics with `what`, once it is on `record`.
fn broken(record: Option<&Path>, what: &str) -> ! {
    if let Some(path) = record {
        write_down(path, what).expect("it is written down");
    }
    panic!("{what}");
}

/// A line behind those of other tests.
fn write_down(path: &Path, what: &str) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path)?;
    let test = std::thread::current().name().unwrap_or_default().to_owned();
    writeln!(file, "{test}: {what}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_promise_ends_the_test_and_stays_on_record_beside_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("broken");

        promised(true, || unreachable!("it holds"));
        let ended = std::panic::catch_unwind(|| broken(Some(&path), "2 in clear"));
        let again = std::panic::catch_unwind(|| broken(Some(&path), "1 lost"));

        assert_eq!(ended.unwrap_err().downcast_ref::<String>().unwrap(), "2 in clear");
        assert!(again.is_err());
        let lines = std::fs::read_to_string(path).unwrap();
        assert_eq!(lines.lines().count(), 2, "{lines}");
        assert!(lines.contains("2 in clear") && lines.contains("1 lost"), "{lines}");
    }
}
