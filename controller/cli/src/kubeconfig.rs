//! A node's kubeconfig: one server, its pinned authorities, one token; written whole or not at all.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::exit::Failure;

/// What a node needs to know of the API.
pub struct NodeAccess<'a> {
    pub node: &'a str,
    pub server: &'a str,
    pub server_name: Option<&'a str>,
    /// DER. Empty only for a server without TLS.
    pub authorities: &'a [Vec<u8>],
    pub token: &'a str,
}

impl NodeAccess<'_> {
    pub fn to_yaml(&self) -> String {
        let mut cluster = json!({"server": self.server});
        if !self.authorities.is_empty() {
            let pem: String = self.authorities.iter().map(|der| pem(der)).collect();
            cluster["certificate-authority-data"] = STANDARD.encode(pem).into();
        }
        if let Some(name) = self.server_name {
            cluster["tls-server-name"] = name.into();
        }
        let document = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "hawser", "cluster": cluster}],
            "users": [{"name": self.node, "user": {"token": self.token}}],
            "contexts": [{"name": "hawser", "context": {"cluster": "hawser", "user": self.node}}],
            "current-context": "hawser",
        });
        serde_saphyr::to_string::<Value>(&document).expect("plain data is YAML")
    }
}

fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines = text.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line).into_owned());
    let body: Vec<String> = lines.collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", body.join("\n"))
}

/// Whether to replace a file that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    Keep,
    Replace,
}

/// Writes a secret: mode 0600 from its first byte, on disk before it has its name.
pub fn write_secret(path: &Path, text: &str, existing: Existing) -> Result<(), Failure> {
    let temporary = beside(path);
    let written = write_new(&temporary, text).and_then(|()| match existing {
        Existing::Replace => fs::rename(&temporary, path),
        // Unlike a rename, a link never replaces anything, not even what came a moment ago.
        Existing::Keep => fs::hard_link(&temporary, path),
    });
    // After a rename it is gone already.
    let _ = fs::remove_file(&temporary);
    written.and_then(|()| sync_directory(path)).map_err(|error| {
        Failure::failed(format!("writing {}: {error}", path.display()))
            .check("may you write into that directory, and is there space?")
    })
}

fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}.tmp", std::process::id()))
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_kubeconfig_pins_the_authorities() {
        let access = NodeAccess {
            node: "edge-1",
            server: "https://10.0.0.1:7443",
            server_name: None,
            authorities: &[vec![7; 100]],
            token: "t0ken",
        };

        let config = kube::config::Kubeconfig::from_yaml(&access.to_yaml()).unwrap();

        let cluster = config.clusters[0].cluster.as_ref().unwrap();
        assert_eq!(cluster.server.as_deref(), Some("https://10.0.0.1:7443"));
        assert_eq!(cluster.insecure_skip_tls_verify, None);
        let data = cluster.certificate_authority_data.as_ref().unwrap();
        let pem = String::from_utf8(STANDARD.decode(data).unwrap()).unwrap();
        assert!(pem.starts_with("-----BEGIN CERTIFICATE-----\n"));
        assert!(pem.lines().all(|line| line.len() <= 64));
        assert_eq!(config.current_context.as_deref(), Some("hawser"));
    }

    #[test]
    fn a_secret_is_for_its_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("edge-1.kubeconfig");

        write_secret(&path, "secret", Existing::Keep).unwrap();

        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_to_string(&path).unwrap(), "secret");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_there_stays_unless_told_otherwise() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();

        assert!(write_secret(&path, "new", Existing::Keep).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");

        write_secret(&path, "new", Existing::Replace).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_link_is_replaced_and_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let (link, elsewhere) = (directory.path().join("link"), directory.path().join("elsewhere"));
        fs::write(&elsewhere, "mine").unwrap();
        std::os::unix::fs::symlink(&elsewhere, &link).unwrap();

        write_secret(&link, "secret", Existing::Replace).unwrap();

        assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "mine");
        assert!(fs::symlink_metadata(&link).unwrap().is_file());
    }
}
