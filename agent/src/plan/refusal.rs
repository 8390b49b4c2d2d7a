//! Why this node carries no traffic, or less than the view says: a condition's reason and message.

use std::{net::IpAddr, time::Duration};

use ipnet::IpNet;

use super::{Facts, Heard, carrier};
use crate::view::{Backend, View};

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("no MeshNode {0}: add it with `hawser nodes add {0}`, or check --node")]
    NotInTheMesh(String),
    #[error("this node is revoked")]
    Revoked,
    #[error(
        "backend {0} sends in clear and encryption is Required: set backend: wireguard, or \
         encryption: None if the network may read everything, or name in siteEncryption between \
         which sites it may"
    )]
    Plain(Backend),
    #[error("backend {0} is not available in this version: use wireguard, udp, vxlan or direct")]
    Backend(Backend),
    #[error(
        "backend direct cannot reach {prefix} of {peer}: no endpoint of its family is on a link \
         of this node; use vxlan, or wireguard"
    )]
    NotOnLink { peer: String, prefix: IpNet },
    #[error(
        "backend vxlan cannot reach {0}: it has published no endpoint of the family of this \
         node's address (IPv4 if it has one); give both one with --endpoint, or use wireguard"
    )]
    NoCommonFamily(String),
    #[error("backend udp cannot reach {0}: it has published no endpoint; use wireguard")]
    NoEndpoint(String),
    #[error(
        "the API was not heard for longer than Mesh.spec.maxViewAge ({0}): nothing is carried until \
         it answers; is it reached from here?"
    )]
    ViewTooOld(String),
    #[error(
        "{prefix}, which {peer} announces, holds this node's own address {address}, so it is not \
         used here: move this machine to other addresses, or have {peer} announce less"
    )]
    StandsThere { peer: String, prefix: IpNet, address: IpAddr },
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
            Self::ViewTooOld(_) => "ViewTooOld",
            Self::NotOnLink { .. } => "NotOnLink",
            Self::NoCommonFamily(_) => "NoCommonFamily",
            Self::NoEndpoint(_) => "NoEndpoint",
            Self::StandsThere { .. } => "PrefixOverlap",
            Self::NoPresharedKey(_) => "PresharedKeyMissing",
        }
    }
}

pub(super) fn judge(view: &View, facts: &Facts) -> Vec<Refusal> {
    let mut carriers = carrier::listed(view, facts).into_iter();
    let backend = carriers.find_map(|listed| backend(view, listed).err());
    let place = match view.nodes.get(&facts.node) {
        None => Some(Refusal::NotInTheMesh(facts.node.clone())),
        Some(node) if node.revoked => Some(Refusal::Revoked),
        Some(_) => None,
    };
    place.into_iter().chain(backend).chain(age(view.max_age, facts.heard)).collect()
}

/// A view that is too old may still name somebody who was revoked.
fn age(most: Option<Duration>, heard: Heard) -> Option<Refusal> {
    let most = most?;
    let fresh = match heard {
        Heard::Now | Heard::Asking => true,
        Heard::Ago(age) => age <= most,
        Heard::Unknown => false,
    };
    let minutes = most.as_secs() / 60;
    let text = if minutes % 60 == 0 { format!("{}h", minutes / 60) } else { format!("{minutes}m") };
    (!fresh).then_some(Refusal::ViewTooOld(text))
}

/// One that is plain is for the pairs that may be in clear; if there can be none, it is a mistake.
fn backend(view: &View, backend: Backend) -> Result<(), Refusal> {
    if !view.permits_clear() && !backend.encrypts() {
        return Err(Refusal::Plain(backend));
    }
    if carrier::is_available(backend) { Ok(()) } else { Err(Refusal::Backend(backend)) }
}
