//! Preshared keys from Secrets, kept as files in the state directory.
//!
//! ```text
//! MeshPeer.presharedKeySecretRef ─▶ path_of: the file that stands for it ─▶ view, facts, plan
//!                               └─▶ follow: reads exactly that Secret, writes the file
//! ```
//! The rest of the agent knows files only, so that a restart without an API has its keys. A file is
//! named after what it was read from: another reference is another file, and never an old key.

use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail};
use api::SecretKeyRef;
use k8s_openapi::api::core::v1::Secret;
use keys::PresharedKey;
use kube::{Api, Client};
use tokio::{sync::watch, time::timeout};
use zeroize::Zeroizing;

const DIRECTORY: &str = "preshared";
/// Between two looks at a Secret; a watch would need more rights than to read one by its name.
const LOOK: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_secs(5);

/// The Secrets that MeshPeers name.
pub(super) type References = BTreeSet<SecretKeyRef>;

/// The file that stands for a reference. Its words must be plain, since they become a file's name.
pub(super) fn path_of(state: &Path, reference: &SecretKeyRef) -> Result<PathBuf, String> {
    let SecretKeyRef { namespace, name, key } = reference;
    for (field, word) in [("namespace", namespace), ("name", name), ("key", key)] {
        let plain = |c: u8| c.is_ascii_alphanumeric() || b"-._".contains(&c);
        if word.is_empty() || !word.bytes().all(plain) {
            return Err(format!("presharedKeySecretRef.{field} is no {field} of Kubernetes"));
        }
    }
    Ok(state.join(DIRECTORY).join(format!("{namespace}:{name}:{key}")))
}

/// Keeps the files up to date, for ever. What can't be read leaves the last key in its file.
pub(super) async fn follow(
    client: Client,
    state: PathBuf,
    mut references: watch::Receiver<References>,
) {
    let mut complained = BTreeSet::new();
    loop {
        let wanted = references.borrow_and_update().clone();
        let mut complaints = BTreeSet::new();
        for reference in &wanted {
            if let Err(error) = keep(&client, &state, reference).await {
                complaints.insert((reference.name.clone(), format!("{error:#}")));
            }
        }
        for (secret, error) in complaints.difference(&complained) {
            tracing::warn!(?secret, ?error, "preshared key not read");
        }
        let pause = if complaints.is_empty() { LOOK } else { RETRY };
        complained = complaints;
        if let Ok(Err(_)) = timeout(super::status::jitter(pause), references.changed()).await {
            return;
        }
        // Without a reference there is nothing to look at.
        if references.wait_for(|wanted| !wanted.is_empty()).await.is_err() {
            return;
        }
    }
}

async fn keep(client: &Client, state: &Path, reference: &SecretKeyRef) -> anyhow::Result<()> {
    let SecretKeyRef { namespace, name, key } = reference;
    let own = client.default_namespace();
    if namespace != own {
        bail!("the namespace is {namespace}; agents read Secrets of {own} only");
    }
    let path = path_of(state, reference).map_err(anyhow::Error::msg)?;
    let api: Api<Secret> = Api::namespaced(client.clone(), own);
    let secret = api.get(name).await.context("may the agents read it?")?;
    let mut data = secret.data.unwrap_or_default();
    let bytes = data.remove(key).with_context(|| format!("it has no key {key}"))?;
    let bytes = Zeroizing::new(bytes.0);
    let text = std::str::from_utf8(&bytes).ok().map(str::trim).unwrap_or_default();
    PresharedKey::from_base64(text)
        .with_context(|| format!("{key} holds no key as `wg genpsk` prints it"))?;
    write(&path, text).with_context(|| format!("writing {}", path.display()))
}

/// Atomic, durable and private; nothing is written where nothing changes.
pub(super) fn write(path: &Path, text: &str) -> io::Result<()> {
    if fs::read(path).is_ok_and(|before| Zeroizing::new(before).as_slice() == text.as_bytes()) {
        return Ok(());
    }
    let directory = path.parent().unwrap_or(path);
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let temporary = directory.join(".new");
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn reference(namespace: &str, name: &str, key: &str) -> SecretKeyRef {
        let owned = |text: &str| text.to_owned();
        SecretKeyRef { namespace: owned(namespace), name: owned(name), key: owned(key) }
    }

    #[test]
    fn another_reference_is_another_file_and_none_leaves_its_directory() {
        let path = |reference: &SecretKeyRef| path_of(Path::new("/s"), reference);

        let laptop = path(&reference("hawser", "psk", "laptop")).unwrap();
        assert_eq!(laptop, Path::new("/s/preshared/hawser:psk:laptop"));
        assert_ne!(laptop, path(&reference("hawser", "psk", "router")).unwrap());
        assert_eq!(path(&reference("..", "..", "..")).unwrap().parent(), laptop.parent());
        for bad in ["", "../x", "a/b", "a:b", "a\0b"] {
            assert!(path(&reference("hawser", "psk", bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_key_is_written_for_this_user_alone() {
        let state = tempfile::tempdir().unwrap();
        let path = path_of(state.path(), &reference("a", "b", "c")).unwrap();

        for text in ["one", "two"] {
            write(&path, text).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }

        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let directory = fs::metadata(path.parent().unwrap()).unwrap();
        assert_eq!(directory.permissions().mode() & 0o777, 0o700);
    }
}
