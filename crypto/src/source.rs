//! May this packet be from this peer? The question that boringtun does not ask.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::{Discard, IpPacket, Routes, is_martian};

/// Whose a prefix is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    Us,
    /// The place in the list of peers, or its id.
    Peer(u32),
}

/// Who hands us a packet.
#[derive(Clone, Copy)]
pub(crate) struct Sender<'a> {
    pub(crate) owner: Owner,
    /// Whose packets it may hand on; none: its own alone.
    pub(crate) forwards: Option<&'a Routes<()>>,
}

/// What `PeerConfig::forwards` comes to.
pub(crate) fn forwards(prefixes: &[IpNet]) -> Option<Routes<()>> {
    let mut routes = Routes::default();
    for prefix in prefixes {
        routes.insert(*prefix, ());
    }
    (!prefixes.is_empty()).then_some(routes)
}

/// The packet, if its sender may send it. The most specific owner of the source must be the
/// sender, or of somebody behind it: whoever owns a wide prefix cannot speak for somebody inside of
/// it. `known`: a source that was found to be theirs a moment ago, in the same routes.
pub(crate) fn theirs<'a>(
    packet: &'a [u8],
    sender: Sender<'_>,
    routes: &Routes<Owner>,
    known: Option<IpAddr>,
) -> Result<IpPacket<'a>, Discard> {
    let packet = IpPacket::parse(packet).ok_or(Discard::MalformedPacket)?;
    let known = known == Some(packet.source());
    if is_martian(packet.destination()) || (!known && is_martian(packet.source())) {
        return Err(Discard::Martian);
    }
    if known {
        return Ok(packet);
    }
    match routes.owner_of(packet.source()) {
        Some(Owner::Us) => Err(Discard::OwnSource),
        Some(owner) if owner == sender.owner => Ok(packet),
        Some(_) if sender.hands_on(packet.source()) => Ok(packet),
        Some(Owner::Peer(_)) | None => Err(Discard::NotTheirAddress),
    }
}

impl Sender<'_> {
    fn hands_on(self, source: IpAddr) -> bool {
        self.forwards.is_some_and(|routes| routes.owner_of(source).is_some())
    }
}
