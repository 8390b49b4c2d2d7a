//! `STATE/devices/`: the devices on the node's side behind which another plugin's pods are, one
//! empty file each. The plugin leaves them for the agent, whose guard then takes them for pods'.
//!
//! Who adds or forgets holds the directory's lock: so a device that goes and comes back at once is
//! never forgotten after its record was made anew.

use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

const NAME: &str = "devices";
/// Linux: IFNAMSIZ less the closing zero.
const LONGEST: usize = 15;

/// The records, and perhaps the right to change them, given up when dropped.
#[derive(Debug)]
pub struct DeviceRecords {
    directory: PathBuf,
    lock: Option<File>,
}

impl DeviceRecords {
    /// Where they are.
    pub fn directory(state: &Path) -> PathBuf {
        state.join(NAME)
    }

    /// Makes the directory where it is not there; STATE itself must exist.
    pub fn create(state: &Path) -> io::Result<()> {
        match DirBuilder::new().mode(0o700).create(Self::directory(state)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Waits for whoever else changes them.
    pub fn open(state: &Path) -> io::Result<Self> {
        Self::create(state)?;
        let directory = Self::directory(state);
        let lock = File::open(&directory)?;
        lock.lock()?;
        Ok(Self { directory, lock: Some(lock) })
    }

    /// Waits for nobody: while somebody else changes them, nothing is forgotten. None where no
    /// plugin ever came before ours.
    pub fn look(state: &Path) -> io::Result<Option<Self>> {
        let directory = Self::directory(state);
        let lock = match File::open(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let lock = lock.try_lock().is_ok().then_some(lock);
        Ok(Some(Self { directory, lock }))
    }

    pub fn names(&self) -> io::Result<BTreeSet<String>> {
        let mut names = BTreeSet::new();
        for entry in fs::read_dir(&self.directory)? {
            names.extend(entry?.file_name().into_string().ok().filter(|name| is_device(name)));
        }
        Ok(names)
    }

    /// Only for a device that is there.
    pub fn add(&self, name: &str) -> io::Result<()> {
        if !is_device(name) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "no device has this name"));
        }
        let path = self.directory.join(name);
        let mut file = OpenOptions::new();
        file.write(true).create(true).truncate(false).mode(0o600).open(path).map(drop)
    }

    /// A device that is gone.
    pub fn forget(&self, name: &str) -> io::Result<()> {
        if self.lock.is_none() {
            return Ok(());
        }
        match fs::remove_file(self.directory.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// For a node that leaves the mesh while its agent goes on watching them.
    pub fn forget_all(state: &Path) -> io::Result<()> {
        let Some(records) = Self::look(state)? else {
            return Ok(());
        };
        records.names()?.iter().try_for_each(|name| records.forget(name))
    }

    /// For one without an agent.
    pub fn remove_all(state: &Path) -> io::Result<()> {
        match fs::remove_dir_all(Self::directory(state)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// A name that Linux gives a device (`dev_valid_name`), and that means nothing else in a ruleset.
fn is_device(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"/:*\"\\@%".contains(&byte);
    (1..=LONGEST).contains(&name.len()) && name != "." && name != ".." && name.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_recorded_once_and_forgotten_by_whoever_has_the_lock() {
        let state = tempfile::tempdir().unwrap();
        assert!(DeviceRecords::look(state.path()).unwrap().is_none());

        let writer = DeviceRecords::open(state.path()).unwrap();
        for name in ["cni0", "cni0", "veth1a2b"] {
            writer.add(name).unwrap();
        }
        let reader = DeviceRecords::look(state.path()).unwrap().unwrap();
        reader.forget("cni0").unwrap();
        assert_eq!(reader.names().unwrap().len(), 2, "the writer is not done");
        drop(writer);
        let reader = DeviceRecords::look(state.path()).unwrap().unwrap();
        reader.forget("cni0").unwrap();

        assert_eq!(reader.names().unwrap(), ["veth1a2b".to_owned()].into());
        DeviceRecords::remove_all(state.path()).unwrap();
        DeviceRecords::remove_all(state.path()).unwrap();
    }

    #[test]
    fn what_is_no_device_is_not_recorded() {
        let state = tempfile::tempdir().unwrap();
        let records = DeviceRecords::open(state.path()).unwrap();

        for name in ["", ".", "..", "a/b", "*", "hwp*", "@mesh4_a", "sixteen-letters.", "a b"] {
            assert!(records.add(name).is_err(), "{name}");
        }
        assert!(records.names().unwrap().is_empty());
    }
}
