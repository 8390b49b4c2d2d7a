//! What a lab's running programs show and hold: command line, environment, descriptors, memory.
//!
//! A lab's programs are children of the test whose command line names the lab's directory.

use std::collections::BTreeMap;
use std::path::Path;

use super::Secrets;

/// Descriptors that connections of the moment may take: some, and some for each program that may
/// have come to talk to this one.
const SPARE_FILES: usize = 16;
const SPARE_FILES_EACH: usize = 8;
/// Memory that buffers of the moment may take.
const SPARE_KIB: u64 = 64 << 10;

/// What each program of a lab holds, by pid.
#[derive(Clone, Debug, Default)]
pub(super) struct Holdings(BTreeMap<u32, Holding>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Holding {
    pub(super) name: String,
    pub(super) files: usize,
    pub(super) rss_kib: u64,
}

impl Holdings {
    pub(super) fn of(lab: &Path) -> Self {
        let held = pids(lab).into_iter().filter_map(|pid| Some((pid, holding(pid)?)));
        Self(held.collect())
    }

    /// Programs that hold more than `self` and what passes by; those that came since are new here.
    pub(super) fn grown(&self, later: &Self) -> Vec<String> {
        let files = SPARE_FILES + SPARE_FILES_EACH * later.0.len();
        let both = self.0.iter().filter_map(|(pid, before)| Some((before, later.0.get(pid)?)));
        let grown = both.filter(|(before, after)| {
            after.files > before.files + files || after.rss_kib > before.rss_kib + SPARE_KIB
        });
        grown.map(|(before, after)| format!("a program grew: {before:?}, then {after:?}")).collect()
    }
}

/// Secrets in the command lines and environments of a lab's programs.
pub(super) fn telling(lab: &Path, secrets: &Secrets) -> Vec<String> {
    let mut found = Vec::new();
    for pid in pids(lab) {
        for place in ["cmdline", "environ"] {
            let text = std::fs::read(format!("/proc/{pid}/{place}")).unwrap_or_default();
            let names = secrets.found_in(&text);
            found.extend(names.iter().map(|secret| {
                format!("the secret of {secret} is in the {place} of {}", name(pid))
            }));
        }
    }
    found
}

/// The children of this process whose command line names the lab.
fn pids(lab: &Path) -> Vec<u32> {
    let stem = lab.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let ours = |pid: &u32| parent(*pid) == Some(std::process::id());
    let names_lab = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&format!("/{stem}/"))
    };
    pids.filter(ours).filter(names_lab).collect()
}

fn parent(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

fn name(pid: u32) -> String {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    format!("{} ({pid})", name.trim())
}

fn holding(pid: u32) -> Option<Holding> {
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let rss_kib = line.trim().split(' ').next()?.parse().ok()?;
    Some(Holding { name: name(pid), files, rss_kib })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holdings(files: usize, rss_kib: u64) -> Holdings {
        Holdings([(1, Holding { name: "agent (1)".into(), files, rss_kib })].into())
    }

    #[test]
    fn a_leak_of_descriptors_or_memory_is_seen_and_a_new_program_is_none() {
        let before = holdings(30, 20_000);

        assert!(before.grown(&holdings(40, 30_000)).is_empty());
        assert_eq!(before.grown(&holdings(80, 20_000)).len(), 1);
        assert_eq!(before.grown(&holdings(30, 90_000)).len(), 1);
        assert!(Holdings::default().grown(&before).is_empty());
    }

    #[test]
    fn a_secret_on_a_command_line_or_in_an_environment_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let mut secrets = Secrets::default();
        secrets.add("key", &[0x41; 32]);
        let log = dir.path().join("x").display().to_string();
        let start = |argument: &str, variable: &str| {
            let script = ["-c", "read line", &log, argument];
            std::process::Command::new("sh")
                .args(script)
                .env("TOLD", variable)
                .stdin(std::process::Stdio::piped())
                .spawn()
                .unwrap()
        };

        for (argument, variable, count) in
            [("x", "y", 0), (&"41".repeat(32), "y", 1), ("x", &"41".repeat(32), 1)]
        {
            let mut child = start(argument, variable);
            let found = telling(dir.path(), &secrets);
            child.kill().unwrap();
            child.wait().unwrap();
            assert_eq!(found.len(), count, "{found:?}");
        }
    }
}
