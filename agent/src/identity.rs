//! The node's private keys: born here, kept in `STATE/key-EPOCH` (mode 0600), never overwritten.
//!
//! Everything is opened relative to the state directory's own descriptor and without following
//! links; a key that others could have read, or have put there, is refused with a text that says
//! what to do. Beside the keys lies `timestamp`: the floor under this node's handshake timestamps,
//! so that a machine which boots in 1970 is still heard by peers that remember a later one.

mod file;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, io, path::Path, time::Duration};

use keys::{KeyEpoch, KeyError, PrivateKey, PublicKey};
use zeroize::Zeroizing;

use file::StateDir;

const TIMESTAMP: &str = "timestamp";
const NEWEST: &str = "newest-epoch";
const KEY_PREFIX: &str = "key-";

/// Why the node has no identity. Never holds a byte of a key.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("{path} may be used by others (mode {mode:04o}); run `chmod 0700 {path}`")]
    OpenDirectory { path: String, mode: u32 },
    #[error(
        "{path} may be read by others (mode {mode:04o}): take the key for known to them. Remove \
         the file to have a new key made; if it surely was not read, run `chmod 0600 {path}`"
    )]
    OpenFile { path: String, mode: u32 },
    #[error(
        "{path} belongs to user {owner}, this program runs as user {expected}; run it as that \
         user, or make the file its own with `chown`"
    )]
    Owner { path: String, owner: u32, expected: u32 },
    #[error("{path} is a symbolic link; put the real thing in its place")]
    SymbolicLink { path: String },
    #[error("{path} is not a {expected}; move it away")]
    Kind { path: String, expected: &'static str },
    #[error("{path} holds no private key; restore it, or remove it to have a new one made")]
    Malformed { path: String, source: KeyError },
    #[error("no key yet in {path}; `hawser-agent keygen` makes one")]
    NoKey { path: String },
    #[error("the system's random numbers are not available")]
    Random(#[from] getrandom::Error),
    #[error("using {path}")]
    Io { path: String, source: io::Error },
}

/// The private keys that this node holds, one an epoch.
#[derive(Debug)]
pub struct Identity {
    /// With their public halves, which cost a multiplication each.
    keys: BTreeMap<KeyEpoch, (PrivateKey, PublicKey)>,
    newest: KeyEpoch,
    timestamp_floor: Option<Duration>,
}

impl Identity {
    /// Loads the keys in `state`, making the directory and the first key where there is none.
    /// Of two processes at once, both get the key that came first.
    pub fn load_or_create(state: &Path) -> Result<Self, IdentityError> {
        let directory = StateDir::open_or_create(state)?;
        if epochs(&directory)?.is_empty() {
            create(&directory, KeyEpoch::FIRST)?;
        }
        let this = Self::load_from(&directory)?;
        directory.remove_temporary_files(KEY_PREFIX)?;
        Ok(this)
    }

    /// True if there is a key in `state`; makes the directory if there is none.
    pub fn is_there(state: &Path) -> Result<bool, IdentityError> {
        Ok(!epochs(&StateDir::open_or_create(state)?)?.is_empty())
    }

    /// Makes the first key in `state`, of that epoch.
    pub fn create(state: &Path, first: KeyEpoch) -> Result<Self, IdentityError> {
        let directory = StateDir::open_or_create(state)?;
        create(&directory, first)?;
        Self::load_from(&directory)
    }

    /// Loads the keys in `state` and makes nothing.
    pub fn load(state: &Path) -> Result<Self, IdentityError> {
        Self::load_from(&StateDir::open(state)?)
    }

    pub fn private_key(&self, epoch: KeyEpoch) -> Option<&PrivateKey> {
        self.keys.get(&epoch).map(|(private, _)| private)
    }

    /// Every epoch's public half, the oldest first.
    pub fn public_keys(&self) -> Vec<(KeyEpoch, PublicKey)> {
        self.keys.iter().map(|(epoch, (_, public))| (*epoch, *public)).collect()
    }

    /// The newest epoch that this node has a key of.
    pub fn current_epoch(&self) -> KeyEpoch {
        *self.keys.last_key_value().expect("an identity is never built without a key").0
    }

    /// All private keys, the oldest first.
    pub fn private_keys(&self) -> Vec<(KeyEpoch, PrivateKey)> {
        self.keys.iter().map(|(epoch, (private, _))| (*epoch, private.clone())).collect()
    }

    /// The newest epoch that this node ever had a key of, wiped ones included.
    pub fn newest(&self) -> KeyEpoch {
        self.newest
    }

    /// Makes the key of `epoch`: on disk and durable before this returns.
    pub fn make(&mut self, state: &Path, epoch: KeyEpoch) -> Result<(), IdentityError> {
        let directory = StateDir::open(state)?;
        create(&directory, epoch)?;
        self.keys.insert(epoch, read_key(&directory, epoch)?);
        self.newest = self.newest.max(epoch);
        Ok(())
    }

    /// Wipes the key of `epoch`, here and on disk. That it was there is remembered first, so that
    /// its number is never used again. The last key stays.
    pub fn wipe(&mut self, state: &Path, epoch: KeyEpoch) -> Result<(), IdentityError> {
        if self.keys.len() < 2 || !self.keys.contains_key(&epoch) {
            return Ok(());
        }
        let directory = StateDir::open(state)?;
        directory.replace(NEWEST, format!("{}\n", self.newest).as_bytes())?;
        self.keys.remove(&epoch);
        directory.wipe(&key_name(epoch))
    }

    /// What [`raise_timestamp_floor`] kept before this identity was loaded, since the Unix epoch.
    pub fn timestamp_floor(&self) -> Option<Duration> {
        self.timestamp_floor
    }

    fn load_from(directory: &StateDir) -> Result<Self, IdentityError> {
        let mut keys = BTreeMap::new();
        for epoch in epochs(directory)? {
            keys.insert(epoch, read_key(directory, epoch)?);
        }
        if keys.is_empty() {
            return Err(IdentityError::NoKey { path: directory.path("") });
        }
        let held = *keys.last_key_value().expect("there is a key").0;
        let newest = read_newest(directory)?.map_or(held, |newest| newest.max(held));
        Ok(Self { keys, newest, timestamp_floor: read_floor(directory)? })
    }
}

/// Keeps `to` (since the Unix epoch) as the floor under handshake timestamps, unless a higher one
/// is kept already. Gives the floor that holds from now on.
pub fn raise_timestamp_floor(state: &Path, to: Duration) -> Result<Duration, IdentityError> {
    let directory = StateDir::open(state)?;
    if let Some(kept) = read_floor(&directory)?
        && kept >= to
    {
        return Ok(kept);
    }
    let text = format!("{}.{:09}\n", to.as_secs(), to.subsec_nanos());
    directory.replace(TIMESTAMP, text.as_bytes())?;
    Ok(to)
}

/// Makes the key of `epoch`, unless somebody was faster.
fn create(directory: &StateDir, epoch: KeyEpoch) -> Result<(), IdentityError> {
    let mut text = PrivateKey::generate()?.to_base64();
    text.push('\n');
    directory.create_once(&key_name(epoch), text.as_bytes())
}

fn read_key(
    directory: &StateDir,
    epoch: KeyEpoch,
) -> Result<(PrivateKey, PublicKey), IdentityError> {
    let name = key_name(epoch);
    let bytes = directory.read_secret(&name)?;
    let malformed = |source| IdentityError::Malformed { path: directory.path(&name), source };
    let text = std::str::from_utf8(&bytes).map_err(|_| malformed(KeyError::NotBase64))?;
    let private = PrivateKey::from_base64(text).map_err(malformed)?;
    let public = private.public();
    Ok((private, public))
}

/// A damaged floor is as good as none: it matters only while the clock is wrong too.
fn read_floor(directory: &StateDir) -> Result<Option<Duration>, IdentityError> {
    let Some(bytes) = directory.read_if_there(TIMESTAMP)? else {
        return Ok(None);
    };
    let floor = parse_floor(&bytes);
    if floor.is_none() {
        tracing::warn!(file = directory.path(TIMESTAMP), "damaged, going on without it");
    }
    Ok(floor)
}

/// A damaged one counts as none: the API remembers too.
fn read_newest(directory: &StateDir) -> Result<Option<KeyEpoch>, IdentityError> {
    let bytes = directory.read_if_there(NEWEST)?;
    let text = bytes.as_ref().and_then(|bytes| std::str::from_utf8(bytes).ok());
    Ok(text.and_then(|text| text.trim_end().parse().ok()).map(KeyEpoch))
}

fn parse_floor(bytes: &Zeroizing<Vec<u8>>) -> Option<Duration> {
    let (seconds, nanos) = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?.split_once('.')?;
    let nanos = Some(nanos).filter(|n| n.len() == 9)?.parse().ok()?;
    Some(Duration::new(seconds.parse().ok()?, nanos))
}

fn epochs(directory: &StateDir) -> Result<Vec<KeyEpoch>, IdentityError> {
    let mut epochs: Vec<KeyEpoch> =
        directory.names()?.iter().filter_map(|name| epoch_of(name)).collect();
    epochs.sort();
    Ok(epochs)
}

fn key_name(epoch: KeyEpoch) -> String {
    format!("{KEY_PREFIX}{epoch}")
}

/// `key-3` is epoch 3; `key-03`, `key-0` and `key-3.bak` are nothing of ours.
fn epoch_of(name: &str) -> Option<KeyEpoch> {
    let epoch = KeyEpoch(name.strip_prefix(KEY_PREFIX)?.parse().ok()?);
    (epoch >= KeyEpoch::FIRST && key_name(epoch) == name).then_some(epoch)
}
