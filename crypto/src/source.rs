//! May this packet be from this peer? The question that boringtun does not ask.

use crate::{Discard, IpPacket, Routes, is_martian};

/// Whose a prefix is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    Us,
    /// The place in the list of peers.
    Peer(usize),
}

/// The packet, if its sender may send it. The most specific owner of the source must be the
/// sender: whoever owns a wide prefix cannot speak for somebody inside of it.
pub(crate) fn theirs<'a>(
    packet: &'a [u8],
    sender: Owner,
    routes: &Routes<Owner>,
) -> Result<IpPacket<'a>, Discard> {
    let packet = IpPacket::parse(packet).ok_or(Discard::MalformedPacket)?;
    if is_martian(packet.source()) || is_martian(packet.destination()) {
        return Err(Discard::Martian);
    }
    match routes.owner_of(packet.source()) {
        Some(Owner::Us) => Err(Discard::OwnSource),
        Some(owner) if owner == sender => Ok(packet),
        Some(Owner::Peer(_)) | None => Err(Discard::NotTheirAddress),
    }
}
