//! The handshake: two messages that leave two ends with the same two keys.
//!
//! ```text
//!   initiator                                   responder
//!   initiate ── ephemeral, static, timestamp ─▶ receive: who says so?     (unproven)
//!      │                                           verify: it is them     (proven; the caller asks
//!      │                                              │                    if the time is new)
//!   finish  ◀── ephemeral, nothing ──────────────  answer ─▶ Keys
//!      └──▶ Keys
//! ```
//!
//! Noise IKpsk2 of the WireGuard paper, section 5.4. The shared secret of the two static keys is
//! computed once a peer ([`Remote`]), so each side pays three multiplications of a point and one
//! of the base point. `finish` borrows what is in flight: a forged response leaves it as it was.

use keys::{KeyEpoch, PresharedKey, PrivateKey, PublicKey, scrub_stack};
use x25519_dalek::StaticSecret;
use zeroize::Zeroizing;

#[cfg(any(test, feature = "workbench"))]
use crate::message::Maced;
use crate::{
    Discard, Random,
    blake2s::{MAC, Secret},
    cookie::{Cookie, Door},
    message::{INITIATION, InitiationMessage, RESPONSE, ResponseMessage, initiation, response},
    noise::{NotAuthentic, Symmetric},
    tai64n::Timestamp,
};

/// One local static key, and what can be judged with it alone.
pub(crate) struct Identity {
    epoch: KeyEpoch,
    /// In one place, however often the list of identities moves.
    private: Box<StaticSecret>,
    public: PublicKey,
    door: Door,
}

impl Identity {
    pub(crate) fn new(epoch: KeyEpoch, private: &PrivateKey) -> Self {
        let public = private.public();
        let private = Box::new(StaticSecret::from(*private.as_bytes()));
        scrub_stack();
        Self { epoch, private, public, door: Door::new(public.as_bytes()) }
    }

    pub(crate) fn epoch(&self) -> KeyEpoch {
        self.epoch
    }

    pub(crate) fn public(&self) -> PublicKey {
        self.public
    }

    /// For mac1 of what is sent to us, and for our cookie replies.
    pub(crate) fn door(&self) -> &Door {
        &self.door
    }

    /// True when a handshake message was made for this key (mac1).
    #[cfg(any(test, feature = "workbench"))]
    pub(crate) fn made_for_us(&self, message: &[u8]) -> bool {
        Maced::parse(message).is_some_and(|message| self.door.opens_to(message))
    }
}

/// One static key of a peer, as one [`Identity`] sees it.
pub(crate) struct Remote {
    public: PublicKey,
    shared: Secret,
    door: Door,
}

impl Remote {
    /// Costs one multiplication (60 µs): make it when a handshake needs it. A key of low order
    /// belongs to nobody and is refused.
    pub(crate) fn new(identity: &Identity, key: PublicKey) -> Result<Self, Discard> {
        let shared = agree(&identity.private, key.as_bytes())?;
        Ok(Self { public: key, shared, door: Door::new(key.as_bytes()) })
    }

    #[cfg(any(test, feature = "workbench"))]
    pub(crate) fn public(&self) -> PublicKey {
        self.public
    }

    /// For mac1 of what we send to it, and for its cookie replies.
    pub(crate) fn door(&self) -> &Door {
        &self.door
    }
}

/// Who speaks with whom, and with which preshared key.
#[derive(Clone, Copy)]
pub(crate) struct Ends<'a> {
    pub(crate) identity: &'a Identity,
    pub(crate) remote: &'a Remote,
    pub(crate) preshared: Option<&'a PresharedKey>,
}

/// What we put into a message of ours.
pub(crate) struct Ours {
    /// Our receiver index: what the peer will call the session.
    pub(crate) index: u32,
    /// The peer's cookie, if it lately gave us one.
    pub(crate) cookie: Option<Cookie>,
}

/// The keys of a session, and what both ends call it.
pub(crate) struct Keys {
    pub(crate) send: Secret,
    pub(crate) receive: Secret,
    pub(crate) ours: u32,
    pub(crate) theirs: u32,
}

/// A handshake that we began. Wiped when dropped.
pub(crate) struct Initiation {
    index: u32,
    mac1: [u8; MAC],
    ephemeral: StaticSecret,
    state: Symmetric,
}

/// Writes message 1 and keeps what its answer needs. The preshared key is not used yet.
pub(crate) fn initiate(
    ends: &Ends<'_>,
    ours: &Ours,
    at: Timestamp,
    random: &mut dyn Random,
    out: &mut [u8; INITIATION],
) -> Initiation {
    let Ends { identity, remote, .. } = ends;
    out.fill(0);
    out[0] = 1;
    out[initiation::SENDER..][..4].copy_from_slice(&ours.index.to_le_bytes());
    let mut state = Symmetric::new(remote.public.as_bytes());

    let ephemeral = new_ephemeral(random);
    let public = x25519_dalek::PublicKey::from(&ephemeral).to_bytes();
    out[initiation::EPHEMERAL].copy_from_slice(&public);
    state.mix_hash(&public);
    state.mix_key(&public);

    let key = state.mix_key_for_field(shared(&ephemeral, remote.public.as_bytes()).as_slice());
    out[initiation::STATIC][..32].copy_from_slice(identity.public.as_bytes());
    state.seal(&key, &mut out[initiation::STATIC]);

    let key = state.mix_key_for_field(remote.shared.as_slice());
    out[initiation::TIMESTAMP][..Timestamp::LENGTH].copy_from_slice(at.as_bytes());
    state.seal(&key, &mut out[initiation::TIMESTAMP]);

    let mac1 = remote.door.stamp(out, ours.cookie.as_ref());
    Initiation { index: ours.index, mac1, ephemeral, state }
}

impl Initiation {
    /// Our receiver index in it.
    pub(crate) fn index(&self) -> u32 {
        self.index
    }

    /// What a cookie reply to it is bound to.
    pub(crate) fn mac1(&self) -> &[u8; MAC] {
        &self.mac1
    }

    /// Takes the response. An error leaves the initiation as it was: the true one may yet come.
    pub(crate) fn finish(
        &self,
        ends: &Ends<'_>,
        response: ResponseMessage<'_>,
    ) -> Result<Keys, Discard> {
        if response.receiver() != self.index {
            return Err(Discard::UnexpectedHandshake);
        }
        let mut state = self.state.clone();
        let theirs = response.ephemeral();
        state.mix_hash(&theirs);
        state.mix_key(&theirs);
        state.mix_key(agree(&self.ephemeral, &theirs)?.as_slice());
        state.mix_key(agree(&ends.identity.private, &theirs)?.as_slice());
        let key = state.mix_preshared(preshared(ends.preshared));
        state.open::<0>(&key, response.sealed_nothing())?;

        let (send, receive) = state.split();
        Ok(Keys { send, receive, ours: self.index, theirs: response.sender() })
    }
}

/// Message 1 with its sender in the open, but not proven: anybody can name anybody.
pub(crate) struct Claim<'a> {
    message: InitiationMessage<'a>,
    sender: PublicKey,
    state: Symmetric,
}

/// The responder's first step: who says so? Costs one multiplication.
pub(crate) fn receive<'a>(
    identity: &Identity,
    message: InitiationMessage<'a>,
) -> Result<Claim<'a>, Discard> {
    let mut state = Symmetric::new(identity.public.as_bytes());
    let ephemeral = message.ephemeral();
    state.mix_hash(&ephemeral);
    state.mix_key(&ephemeral);
    let key = state.mix_key_for_field(agree(&identity.private, &ephemeral)?.as_slice());
    let sender = PublicKey::from_bytes(state.open(&key, message.sealed_static())?);
    Ok(Claim { message, sender, state })
}

impl Claim<'_> {
    pub(crate) fn sender(&self) -> PublicKey {
        self.sender
    }

    /// Proves the sender. Whether the timestamp is newer than the last one is the caller's to ask.
    pub(crate) fn verify(mut self, remote: &Remote) -> Result<Verified, Discard> {
        if self.sender != remote.public {
            return Err(Discard::UnknownPeer);
        }
        let key = self.state.mix_key_for_field(remote.shared.as_slice());
        let timestamp = self.state.open(&key, self.message.sealed_timestamp())?;
        Ok(Verified {
            timestamp: Timestamp::from_bytes(timestamp),
            index: self.message.sender(),
            ephemeral: self.message.ephemeral(),
            state: self.state,
        })
    }
}

/// Message 1, proven. Wiped when dropped.
pub(crate) struct Verified {
    timestamp: Timestamp,
    index: u32,
    ephemeral: [u8; 32],
    state: Symmetric,
}

impl Verified {
    pub(crate) fn timestamp(&self) -> Timestamp {
        self.timestamp
    }

    /// Writes message 2.
    pub(crate) fn answer(
        self,
        ends: &Ends<'_>,
        ours: &Ours,
        random: &mut dyn Random,
        out: &mut [u8; RESPONSE],
    ) -> Keys {
        let mut state = self.state;
        out.fill(0);
        out[0] = 2;
        out[response::SENDER..][..4].copy_from_slice(&ours.index.to_le_bytes());
        out[response::RECEIVER..][..4].copy_from_slice(&self.index.to_le_bytes());

        let ephemeral = new_ephemeral(random);
        let public = x25519_dalek::PublicKey::from(&ephemeral).to_bytes();
        out[response::EPHEMERAL].copy_from_slice(&public);
        state.mix_hash(&public);
        state.mix_key(&public);
        state.mix_key(shared(&ephemeral, &self.ephemeral).as_slice());
        state.mix_key(shared(&ephemeral, ends.remote.public.as_bytes()).as_slice());
        let key = state.mix_preshared(preshared(ends.preshared));
        state.seal(&key, &mut out[response::NOTHING]);
        ends.remote.door.stamp(out, ours.cookie.as_ref());

        let (receive, send) = state.split();
        Keys { send, receive, ours: ours.index, theirs: self.index }
    }
}

impl From<NotAuthentic> for Discard {
    fn from(NotAuthentic: NotAuthentic) -> Self {
        Self::NotAuthentic
    }
}

fn new_ephemeral(random: &mut dyn Random) -> StaticSecret {
    let mut bytes = Zeroizing::new([0; 32]);
    random.fill(bytes.as_mut_slice());
    StaticSecret::from(*bytes)
}

/// The shared secret with a key that somebody sent. All zero says that the point is of low order
/// (RFC 7748, section 6.1), with whatever private key.
fn agree(private: &StaticSecret, public: &[u8; 32]) -> Result<Secret, Discard> {
    let shared = private.diffie_hellman(&x25519_dalek::PublicKey::from(*public));
    scrub_stack();
    if shared.was_contributory() {
        Ok(Zeroizing::new(shared.to_bytes()))
    } else {
        Err(Discard::LowOrderKey)
    }
}

/// The shared secret with a key that [`agree`] has taken before.
fn shared(private: &StaticSecret, public: &[u8; 32]) -> Secret {
    Zeroizing::new(private.diffie_hellman(&x25519_dalek::PublicKey::from(*public)).to_bytes())
}

/// No preshared key is one of zeros.
fn preshared(key: Option<&PresharedKey>) -> &[u8; 32] {
    key.map_or(&[0; 32], PresharedKey::as_bytes)
}

#[cfg(test)]
mod tests;
