//! Why this node carries no traffic, or less than the view says: a condition's reason and message.

use super::Facts;
use crate::view::{Backend, Encryption, View};

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("no MeshNode {0}: add it with `hawser nodes add {0}`, or check --node")]
    NotInTheMesh(String),
    #[error("this node is revoked")]
    Revoked,
    #[error(
        "backend {0} sends in clear and encryption is Required: set backend: wireguard, or \
         encryption: None if the network may read everything"
    )]
    Plain(Backend),
    #[error("backend {0} is not available in this version: use wireguard")]
    Backend(Backend),
    #[error("MeshPeer {0} has a preshared key that could not be read, and gets no tunnel")]
    NoPresharedKey(String),
}

impl Refusal {
    /// The condition's reason.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotInTheMesh(_) => "NotInTheMesh",
            Self::Revoked => "Revoked",
            Self::Plain(_) => "EncryptionRequired",
            Self::Backend(_) => "BackendUnavailable",
            Self::NoPresharedKey(_) => "PresharedKeyMissing",
        }
    }
}

pub(super) fn judge(view: &View, facts: &Facts) -> Vec<Refusal> {
    let backend = backend(view.encryption, facts.backend.unwrap_or(view.backend)).err();
    let place = match view.nodes.get(&facts.node) {
        None => Some(Refusal::NotInTheMesh(facts.node.clone())),
        Some(node) if node.revoked => Some(Refusal::Revoked),
        Some(_) => None,
    };
    place.into_iter().chain(backend).collect()
}

fn backend(encryption: Encryption, backend: Backend) -> Result<(), Refusal> {
    match (backend, encryption) {
        (Backend::Wireguard, _) => Ok(()),
        (Backend::Udp | Backend::Vxlan | Backend::Direct, Encryption::Required) => {
            Err(Refusal::Plain(backend))
        }
        (Backend::Esp | Backend::Udp | Backend::Vxlan | Backend::Direct, _) => {
            Err(Refusal::Backend(backend))
        }
    }
}
