//! Reads a preshared key file, and refuses one that others could have read.

use std::{
    fs::OpenOptions,
    io::{self, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
};

use keys::{KeyError, PresharedKey};
use rustix::{fs::OFlags, process::geteuid};
use zeroize::Zeroizing;

/// A key is 44 characters and a line end.
const LARGEST: u64 = 256;

#[derive(Debug, thiserror::Error)]
pub(super) enum PresharedKeyError {
    #[error("reading {path}: {source}")]
    Read { path: String, source: io::Error },
    #[error("{path} may be read by others (mode {mode:04o}): run chmod 0600 on it")]
    Loose { path: String, mode: u32 },
    #[error("{path} belongs to user {owner}")]
    Owner { path: String, owner: u32 },
    #[error("{path} is no plain file")]
    NoFile { path: String },
    #[error("{path} holds no key as `wg genpsk` prints it: {source}")]
    Malformed { path: String, source: KeyError },
}

pub(super) fn read(file: &Path) -> Result<PresharedKey, PresharedKeyError> {
    let path = file.display().to_string();
    let error = |source| PresharedKeyError::Read { path: path.clone(), source };
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).expect("open flags are small");
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(file).map_err(error)?;
    let metadata = opened.metadata().map_err(error)?;
    if !metadata.is_file() {
        return Err(PresharedKeyError::NoFile { path });
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(PresharedKeyError::Loose { path, mode: metadata.mode() & 0o7777 });
    }
    if metadata.uid() != geteuid().as_raw() {
        return Err(PresharedKeyError::Owner { path, owner: metadata.uid() });
    }
    let mut text = Zeroizing::new(String::new());
    opened.take(LARGEST).read_to_string(&mut text).map_err(error)?;
    PresharedKey::from_base64(text.trim_end())
        .map_err(|source| PresharedKeyError::Malformed { path, source })
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    const KEY: &str = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=\n";

    fn file(text: &str, mode: u32) -> (tempfile::TempDir, std::path::PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("psk");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        (directory, path)
    }

    #[test]
    fn a_private_file_is_read() {
        let (_directory, path) = file(KEY, 0o600);

        assert!(read(&path).is_ok());
    }

    #[test]
    fn loose_linked_and_malformed_files_are_refused() {
        let (_loose, path) = file(KEY, 0o640);
        assert!(matches!(read(&path), Err(PresharedKeyError::Loose { .. })));

        let (directory, path) = file(KEY, 0o600);
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(matches!(read(&link), Err(PresharedKeyError::Read { .. })));
        assert!(matches!(read(directory.path()), Err(PresharedKeyError::NoFile { .. })));

        let (_malformed, path) = file("secret", 0o600);
        let error = read(&path).unwrap_err();
        assert!(matches!(error, PresharedKeyError::Malformed { .. }));
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}
