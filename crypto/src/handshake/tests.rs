//! Both ends of ours, and ours against snow and boringtun.

mod boringtun;
mod ours;
mod secrets;
mod snow;

use super::*;
use crate::{
    blake2s,
    message::{INITIATION, Message, RESPONSE},
    random::Sequence,
};

/// One node and its randomness.
struct Node {
    identity: Identity,
    random: Sequence,
}

impl Node {
    fn new(seed: u64) -> Self {
        Self {
            identity: Identity::new(KeyEpoch::FIRST, &private(seed)),
            random: Sequence::new(seed),
        }
    }

    fn knows(&self, other: &Node) -> Remote {
        Remote::new(&self.identity, other.identity.public()).unwrap_or_else(|_| panic!("no key"))
    }
}

fn private(seed: u64) -> PrivateKey {
    PrivateKey::from_bytes(blake2s::hash(&[b"private", &seed.to_le_bytes()]))
}

fn stamp(n: u8) -> Timestamp {
    Timestamp::from_bytes([0x40, 0, 0, 0, 0, 0, 0, n, 0, 0, 0, 0])
}

fn index(index: u32) -> Ours {
    Ours { index, cookie: None }
}

fn initiation(datagram: &[u8]) -> InitiationMessage<'_> {
    let Ok(Message::Initiation(message)) = Message::parse(datagram) else {
        panic!("no initiation")
    };
    message
}

fn response(datagram: &[u8]) -> ResponseMessage<'_> {
    let Ok(Message::Response(message)) = Message::parse(datagram) else { panic!("no response") };
    message
}

/// The one way in which a discard can be compared with a result whose good side prints nothing.
fn fate<T>(result: Result<T, Discard>) -> Option<Discard> {
    result.err()
}
