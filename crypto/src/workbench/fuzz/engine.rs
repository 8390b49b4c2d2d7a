//! Our reading of the wire format against boringtun's.

use std::sync::LazyLock;

use boringtun::noise::{Packet, Tunn};
use keys::{KeyEpoch, PrivateKey};

use super::input::Input;
use crate::{
    boringtun::engine,
    handshake::{Identity, receive},
    message::{Maced, Message},
    workbench::handshakes::Pair,
};

/// Type and receiver of a datagram, by us and by boringtun.
pub(super) fn message(data: &[u8]) {
    let ours = Message::parse(data).ok().map(|message| match message {
        Message::Initiation(_) => (1, None),
        Message::Response(message) => (2, Some(message.receiver())),
        Message::Cookie(message) => (3, Some(message.receiver())),
        Message::Data { receiver, .. } => (4, Some(receiver)),
    });
    let its = Tunn::parse_incoming_packet(data).ok().map(|packet| match packet {
        Packet::HandshakeInit(_) => (1, None),
        Packet::HandshakeResponse(message) => (2, Some(message.receiver_idx)),
        Packet::PacketCookieReply(message) => (3, Some(message.receiver_idx)),
        Packet::PacketData(message) => (4, Some(message.receiver_idx)),
    });
    assert_eq!(ours, its);
    let handshake = ours.is_some_and(|(kind, _)| kind <= 2);
    assert_eq!(Maced::parse(data).is_some(), handshake);
}

struct Stage {
    ours: Identity,
    its: engine::Identity,
    genuine: [u8; 148],
}

static STAGE: LazyLock<Stage> = LazyLock::new(|| {
    let private = PrivateKey::from_bytes([2; 32]);
    Stage {
        ours: Identity::new(KeyEpoch::FIRST, &private),
        its: engine::Identity::new(&private),
        genuine: Pair::new(false).initiate().1,
    }
});

/// mac1 and the claimed sender of an initiation, by us and through the seam to boringtun.
pub(super) fn seam(data: &[u8]) {
    let Stage { ours, its, genuine } = &*STAGE;
    let mut input = Input::new(data);
    let raw = input.byte() % 2 == 1;
    let datagram = if raw { input.rest().to_vec() } else { input.touched(genuine) };

    let parsed = Message::parse(&datagram);
    assert_eq!(engine::Message::parse(&datagram).is_ok(), parsed.is_ok());
    if Maced::parse(&datagram).is_some() {
        assert_eq!(ours.made_for_us(&datagram), its.made_for_us(&datagram));
    }
    if let Ok(Message::Initiation(message)) = parsed {
        let sender = receive(ours, message).ok().map(|claim| claim.sender());
        assert_eq!(sender, its.claimed_sender(&datagram));
    }
}
