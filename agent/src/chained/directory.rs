//! The runtime's directory of configurations: reads theirs, writes and removes ours.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use anyhow::Context;

use super::{CONFIGURATION, Chain, MAIN, Ours, configuration, is_read};
use crate::install;

/// What is longer is no configuration.
const LARGEST: u64 = 1 << 20;

pub(crate) struct Directory {
    path: PathBuf,
    /// The file that ours was last made of.
    theirs: Option<String>,
}

impl Directory {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, theirs: None }
    }

    /// Makes ours what theirs says now; without theirs there is none of ours. Call it when the guard
    /// is in force, and not before.
    pub(crate) fn follow(&mut self, ours: Ours<'_>) -> anyhow::Result<()> {
        match configuration(&self.read()?, ours) {
            Ok(Chain { theirs, text }) => {
                install::place(&self.path, CONFIGURATION, text.as_bytes(), 0o644)?;
                // Only now: between the two modes there is always one of ours.
                install::take_away(&self.path, MAIN)?;
                if self.theirs.as_ref() != Some(&theirs) {
                    tracing::info!(file = ?theirs, "chained to another plugin");
                }
                self.theirs = Some(theirs);
                Ok(())
            }
            Err(why) => {
                install::take_away(&self.path, CONFIGURATION)?;
                self.theirs = None;
                Err(why).with_context(|| self.path.display().to_string())
            }
        }
    }

    fn read(&self) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
        let reading = || format!("reading {}; is it the runtime's directory?", self.path.display());
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(&self.path).with_context(reading)? {
            let entry = entry.with_context(reading)?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            if !is_read(&name) {
                continue;
            }
            if let Some(text) = read(&entry.path()) {
                files.insert(name, text);
            }
        }
        Ok(files)
    }
}

/// None of what is no file, such as a pipe, or went away meanwhile. What can't be read or is too long
/// is no configuration either.
fn read(path: &Path) -> Option<Vec<u8>> {
    if !fs::metadata(path).ok()?.is_file() {
        return None;
    }
    let mut text = Vec::new();
    let read = File::open(path).and_then(|file| file.take(LARGEST).read_to_end(&mut text));
    match read {
        Ok(_) => Some(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(_) => Some(Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THEIRS: &str = r#"{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"bridge"}]}"#;

    fn names(path: &Path) -> Vec<String> {
        let entries = fs::read_dir(path).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn ours_follows_theirs_goes_with_it_and_theirs_is_never_written() {
        let node = tempfile::tempdir().unwrap();
        let path = node.path();
        let mut directory = Directory::new(path.to_owned());
        let ours = Ours { state: Path::new("/s"), mtu: 1420 };
        let text = || fs::read_to_string(path.join(CONFIGURATION)).unwrap();
        fs::write(path.join("10-theirs.conflist"), THEIRS).unwrap();
        fs::write(path.join(MAIN), "of the other mode").unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, path.join("09.conf"), 0o600.into()).unwrap();

        directory.follow(ours).unwrap();
        assert!(text().contains("bridge") && text().contains("hawser-cni"), "{}", text());
        assert_eq!(names(path), [CONFIGURATION, "09.conf", "10-theirs.conflist"]);
        assert_eq!(fs::read_to_string(path.join("10-theirs.conflist")).unwrap(), THEIRS);

        fs::rename(path.join("10-theirs.conflist"), path.join("12-other.conflist")).unwrap();
        fs::write(path.join("11-first.conf"), THEIRS.replace("bridge", "ptp")).unwrap();
        let why = directory.follow(ours);
        assert!(why.is_ok(), "a list in a file of one plugin is passed over: {why:?}");
        assert!(text().contains("bridge"));

        fs::remove_file(path.join("12-other.conflist")).unwrap();
        let why = format!("{:#}", directory.follow(ours).unwrap_err());
        assert!(why.contains("11-first.conf") && why.contains("cni.mode"), "{why}");
        assert_eq!(names(path), ["09.conf", "11-first.conf"]);
    }

    #[test]
    fn no_directory_is_told() {
        let mut directory = Directory::new("/nowhere/net.d".into());

        let why = directory.follow(Ours { state: Path::new("/s"), mtu: 1420 }).unwrap_err();

        assert!(why.to_string().contains("/nowhere/net.d"), "{why}");
    }
}
