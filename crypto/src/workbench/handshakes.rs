//! Two nodes that do handshakes, one step at a time.

use std::time::{Duration, UNIX_EPOCH};

use keys::{KeyEpoch, PresharedKey, PrivateKey};

use crate::{
    cookie::Cookie,
    handshake::{Ends, Identity, Initiation, Ours, Remote, initiate, receive},
    message::{COOKIE, INITIATION, Maced, Message, RESPONSE},
    random::Sequence,
    tai64n::Timestamp,
};

/// One end, and what it knows of the other.
struct End {
    identity: Identity,
    remote: Remote,
    random: Sequence,
}

/// Two nodes that know each other.
pub struct Pair {
    alice: End,
    bob: End,
    preshared: Option<PresharedKey>,
    begun: u64,
}

/// A handshake between its first message and its second.
pub struct InFlight(Initiation);

impl Pair {
    pub fn new(preshared: bool) -> Self {
        let end = |ours: u8, theirs: u8| {
            let identity = Identity::new(KeyEpoch::FIRST, &private(ours));
            let remote = Remote::new(&identity, private(theirs).public())
                .unwrap_or_else(|_| unreachable!("a real key"));
            End { identity, remote, random: Sequence::new(u64::from(ours)) }
        };
        let preshared = preshared.then(|| PresharedKey::from_bytes([5; 32]));
        Self { alice: end(1, 2), bob: end(2, 1), preshared, begun: 0 }
    }

    /// Message 1 by the initiator.
    pub fn initiate(&mut self) -> (InFlight, [u8; INITIATION]) {
        self.begun += 1;
        let at = Timestamp::at(UNIX_EPOCH + Duration::from_secs(self.begun));
        let mut out = [0; INITIATION];
        let preshared = self.preshared.as_ref();
        let End { identity, remote, random } = &mut self.alice;
        let ends = Ends { identity, remote, preshared };
        let flight = initiate(&ends, &Ours { index: 1, cookie: None }, at, random, &mut out);
        (InFlight(flight), out)
    }

    /// What the responder does with it: both of its steps and message 2.
    pub fn answer(&mut self, first: &[u8]) -> Option<[u8; RESPONSE]> {
        let Ok(Message::Initiation(message)) = Message::parse(first) else {
            return None;
        };
        let mut out = [0; RESPONSE];
        let preshared = self.preshared.as_ref();
        let End { identity, remote, random } = &mut self.bob;
        let verified = receive(identity, message).ok()?.verify(remote).ok()?;
        let ends = Ends { identity, remote, preshared };
        verified.answer(&ends, &Ours { index: 2, cookie: None }, random, &mut out);
        Some(out)
    }

    /// What the initiator does with message 2. True when it has keys.
    pub fn finish(&self, flight: &InFlight, second: &[u8]) -> bool {
        let Ok(Message::Response(message)) = Message::parse(second) else {
            return false;
        };
        let End { identity, remote, .. } = &self.alice;
        let ends = Ends { identity, remote, preshared: self.preshared.as_ref() };
        flight.0.finish(&ends, message).is_ok()
    }

    /// The responder's demand for a cookie, instead of an answer.
    pub fn demand(&self, first: &[u8]) -> Option<[u8; COOKIE]> {
        let message = Maced::parse(first)?;
        let door = self.bob.identity.door();
        let mut random = Sequence::new(3);
        Some(door.reply(message, &Cookie::for_tests([3; 16]), &mut random))
    }

    /// True if the responder takes the initiation for genuine.
    pub fn verifies(&self, first: &[u8]) -> bool {
        let Ok(Message::Initiation(message)) = Message::parse(first) else {
            return false;
        };
        receive(&self.bob.identity, message)
            .and_then(|claim| claim.verify(&self.bob.remote))
            .is_ok()
    }

    /// True if the initiator takes the cookie in a reply.
    pub fn takes_cookie(&self, flight: &InFlight, reply: &[u8]) -> bool {
        let Ok(Message::Cookie(message)) = Message::parse(reply) else {
            return false;
        };
        self.alice.remote.door().open(message, flight.0.mac1()).is_ok()
    }

    /// What a peer costs before its first handshake.
    pub fn meet(&self) -> bool {
        Remote::new(&self.alice.identity, self.alice.remote.public()).is_ok()
    }
}

fn private(n: u8) -> PrivateKey {
    PrivateKey::from_bytes([n; 32])
}
