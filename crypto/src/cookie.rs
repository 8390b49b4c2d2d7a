//! mac1, mac2 and cookies: what a handshake message must show before it costs anything
//! (WireGuard paper, sections 5.3 and 5.4.4).
//!
//! ```text
//!  mac1    made with the receiver's public key: "I know whom I talk to"
//!  cookie  MAC(our secret of these two minutes, address, port), sealed for who sent that mac1
//!  mac2    made with the cookie: "I receive what is sent to my address"
//! ```

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use chacha20::{
    cipher::{consts::U10, generic_array::GenericArray},
    hchacha,
};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::{
    Discard, Random,
    blake2s::{Hash, Keyed, MAC, hash},
    message::{self, CookieMessage, Maced},
};

const LABEL_MAC1: &[u8] = b"mac1----";
const LABEL_COOKIE: &[u8] = b"cookie--";
/// How long a secret of ours makes cookies, and how long a cookie may be used.
const SECRET: Duration = Duration::from_secs(120);
/// A cookie of ours is taken for one more period, so that none dies on its way. Whoever got one
/// stops using it a little before its maker stops making them (the kernel's figure).
const LATENCY: Duration = Duration::from_secs(5);

/// What can be computed with a public key alone: mac1 of messages to it, cookies sealed by it.
#[derive(Clone)]
pub(crate) struct Door {
    mac1: Keyed,
    cookie_key: Hash,
}

impl Door {
    pub(crate) fn new(public: &[u8; 32]) -> Self {
        Self {
            mac1: Keyed::new(&hash(&[LABEL_MAC1, public])),
            cookie_key: hash(&[LABEL_COOKIE, public]),
        }
    }

    /// True when the message was made for this key.
    pub(crate) fn opens_to(&self, message: Maced<'_>) -> bool {
        self.mac1.mac(message.before_mac1()).ct_eq(&message.mac1()).into()
    }

    /// Writes both MACs into the last 32 bytes of a message; mac2 is zero without a cookie.
    pub(crate) fn stamp(&self, message: &mut [u8], cookie: Option<&Cookie>) -> [u8; MAC] {
        let (before, macs) = message.split_at_mut(message.len() - 2 * MAC);
        let mac1 = self.mac1.mac(before);
        macs[..MAC].copy_from_slice(&mac1);
        macs[MAC..].fill(0);
        if let Some(cookie) = cookie {
            let at = message.len() - MAC;
            let mac2 = cookie.mac2(&message[..at]);
            message[at..].copy_from_slice(&mac2);
        }
        mac1
    }

    /// The reply that gives `cookie` to whoever sent `demanded`.
    pub(crate) fn reply(
        &self,
        demanded: Maced<'_>,
        cookie: &Cookie,
        random: &mut dyn Random,
    ) -> [u8; message::COOKIE] {
        let mut reply = [0; message::COOKIE];
        reply[0] = 3;
        reply[message::cookie::RECEIVER..][..4].copy_from_slice(&demanded.sender().to_le_bytes());
        let mut nonce = [0; 24];
        random.fill(&mut nonce);
        reply[message::cookie::NONCE].copy_from_slice(&nonce);
        let (sealed, tag) = reply[message::cookie::SEALED].split_at_mut(MAC);
        sealed.copy_from_slice(&cookie.0);
        let (cipher, nonce) = xchacha(&self.cookie_key, &nonce);
        let made = cipher
            .seal_in_place_separate_tag(nonce, Aad::from(demanded.mac1()), sealed)
            .expect("a cookie is short");
        tag.copy_from_slice(made.as_ref());
        reply
    }

    /// The cookie in a reply by the owner of this key to our message with `mac1`.
    pub(crate) fn open(
        &self,
        reply: CookieMessage<'_>,
        mac1: &[u8; MAC],
    ) -> Result<Cookie, Discard> {
        let (cipher, nonce) = xchacha(&self.cookie_key, &reply.nonce());
        let mut sealed = Zeroizing::new([0; 2 * MAC]);
        sealed.copy_from_slice(reply.sealed_cookie());
        let open = cipher
            .open_in_place(nonce, Aad::from(mac1), sealed.as_mut_slice())
            .map_err(|_| Discard::NotAuthentic)?;
        let mut cookie = Cookie([0; MAC]);
        cookie.0.copy_from_slice(open);
        Ok(cookie)
    }
}

/// XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha): HChaCha20 of the first 16 bytes of the nonce
/// gives a key for ring's ChaCha20-Poly1305, ten times as fast as the crate made for it.
fn xchacha(key: &Hash, nonce: &[u8; 24]) -> (LessSafeKey, Nonce) {
    let mut sub =
        hchacha::<U10>(GenericArray::from_slice(key), GenericArray::from_slice(&nonce[..16]));
    let unbound = UnboundKey::new(&CHACHA20_POLY1305, &sub).expect("a key has 32 bytes");
    sub.as_mut_slice().zeroize();
    let mut short = [0; 12];
    short[4..].copy_from_slice(&nonce[16..]);
    (LessSafeKey::new(unbound), Nonce::assume_unique_for_key(short))
}

/// Proof of an address, made by the one to whom it is shown.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub(crate) struct Cookie([u8; MAC]);

impl Cookie {
    #[cfg(any(test, feature = "workbench"))]
    pub(crate) fn for_tests(bytes: [u8; MAC]) -> Self {
        Self(bytes)
    }

    fn mac2(&self, before: &[u8]) -> [u8; MAC] {
        Keyed::new(&self.0).mac(before)
    }
}

/// A cookie that somebody gave us, while it is good.
#[derive(Clone)]
pub(crate) struct StoredCookie {
    cookie: Cookie,
    received: Instant,
}

impl StoredCookie {
    pub(crate) fn new(cookie: Cookie, now: Instant) -> Self {
        Self { cookie, received: now }
    }

    pub(crate) fn get(&self, now: Instant) -> Option<Cookie> {
        let age = now.saturating_duration_since(self.received);
        (age < SECRET.saturating_sub(LATENCY)).then(|| self.cookie.clone())
    }
}

/// Our own secret and the one before.
pub(crate) struct Secrets {
    current: Option<Made>,
    previous: Option<Made>,
}

struct Made {
    key: Keyed,
    at: Instant,
}

impl Secrets {
    pub(crate) fn new() -> Self {
        Self { current: None, previous: None }
    }

    /// The cookie for an address, with a fresh secret if it is time for one.
    pub(crate) fn cookie(
        &mut self,
        from: SocketAddr,
        now: Instant,
        random: &mut dyn Random,
    ) -> Cookie {
        self.rotate(now, random);
        let made = self.current.as_ref().expect("rotating makes a secret");
        Cookie(made.key.mac(Place::of(from).bytes()))
    }

    /// True when mac2 was made with a cookie of ours for that address and port.
    pub(crate) fn proves(&self, message: Maced<'_>, from: SocketAddr, now: Instant) -> bool {
        let mac2 = message.mac2();
        if mac2 == [0; MAC] {
            return false;
        }
        let place = Place::of(from);
        [&self.current, &self.previous].into_iter().flatten().any(|made| {
            let good = now.saturating_duration_since(made.at) < 2 * SECRET;
            let cookie = Cookie(made.key.mac(place.bytes()));
            good && bool::from(cookie.mac2(message.before_mac2()).ct_eq(&mac2))
        })
    }

    fn rotate(&mut self, now: Instant, random: &mut dyn Random) {
        let fresh = |made: &Made| now.saturating_duration_since(made.at) < SECRET;
        if self.current.as_ref().is_some_and(fresh) {
            return;
        }
        let mut secret = Zeroizing::new([0; 32]);
        random.fill(secret.as_mut_slice());
        self.previous = self.current.replace(Made { key: Keyed::new(secret.as_slice()), at: now });
    }
}

/// Address and port as bytes. The length tells the families apart.
struct Place {
    bytes: [u8; 18],
    length: usize,
}

impl Place {
    fn of(from: SocketAddr) -> Self {
        let mut bytes = [0; 18];
        bytes[..2].copy_from_slice(&from.port().to_be_bytes());
        let length = match from.ip().to_canonical() {
            IpAddr::V4(v4) => {
                bytes[2..6].copy_from_slice(&v4.octets());
                6
            }
            IpAddr::V6(v6) => {
                bytes[2..].copy_from_slice(&v6.octets());
                18
            }
        };
        Self { bytes, length }
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

#[cfg(test)]
mod tests;
