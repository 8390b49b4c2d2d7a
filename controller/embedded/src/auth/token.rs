//! Bearer tokens: 256 random bits each, of which only the SHA-256 is stored.
//!
//! A token is an object of the store that no path leads to; so a backup has it and a commit
//! guards it. A node's token works as long as the very MeshNode it was made for is there and is
//! not revoked.

use super::{GROUP, Identity};
use crate::status::Status;
use crate::store::{Decision, Key, Object, Store};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// The kind of a token in the store.
pub(crate) const KIND: &str = "tokens";

/// An identity together with the token that proved it, so that it can be asked again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) identity: Identity,
    key: Key,
}

/// The tokens in a store.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tokens<'a>(pub(crate) &'a Store);

impl Tokens<'_> {
    /// Makes a token. The answer is the only place where it is ever whole.
    pub(crate) async fn issue(
        self,
        identity: &Identity,
        expires: Option<Timestamp>,
    ) -> Result<String, Status> {
        let token = random().map_err(|_| Status::unavailable("the system has no randomness"))?;
        let key = key_of(&token);
        let mut value = json!({"metadata": {"name": key.name()}, "identity": encode(identity)});
        if let Some(expires) = expires {
            value["expires"] = expires.to_string().into();
        }
        self.0.submit(key, move |_, _| Ok(Decision::Put(value))).await?;
        Ok(token)
    }

    /// Whose token is in this `Authorization` header?
    pub(crate) fn authenticate(
        self,
        header: Option<&str>,
        now: Timestamp,
    ) -> Result<Session, Status> {
        let token = header.and_then(bearer).ok_or_else(Status::unauthorized)?;
        self.session(key_of(token), now)
    }

    /// Is the session still good? Asked again and again by long watches.
    pub(crate) fn renew(self, session: &Session, now: Timestamp) -> Result<(), Status> {
        self.session(session.key.clone(), now).map(|_| ())
    }

    /// The hash of a secret is looked up, not the secret: what the time of a failing look-up
    /// tells is of no use without a preimage.
    fn session(self, key: Key, now: Timestamp) -> Result<Session, Status> {
        let stored = self.0.get(&key).ok_or_else(Status::unauthorized)?;
        if expired(&stored.value, now) {
            return Err(Status::unauthorized());
        }
        let identity = decode(&stored.value).ok_or_else(Status::unauthorized)?;
        if let Identity::Node { name, uid } = &identity {
            let node = Key::new(&format!("meshnodes.{GROUP}"), "", name);
            let node = self.0.get(&node).filter(|node| node.uid() == uid);
            let node = node.ok_or_else(Status::unauthorized)?;
            if is_revoked(&node) {
                return Err(Status::forbidden(format!("the node {name:?} is revoked")));
            }
        }
        Ok(Session { identity, key })
    }

    /// The tokens that nobody can use any more.
    pub(crate) fn dead(self, now: Timestamp) -> Vec<Key> {
        let tokens = self.0.list(KIND, "").objects;
        let keys = tokens.iter().filter_map(|token| {
            let key = Key::new(KIND, "", token.value["metadata"]["name"].as_str()?);
            match self.session(key.clone(), now) {
                Err(status) if status.code == 401 => Some(key),
                Ok(_) | Err(_) => None,
            }
        });
        keys.collect()
    }
}

fn is_revoked(node: &Object) -> bool {
    node.value["spec"]["revoked"] == true
}

fn expired(stored: &Value, now: Timestamp) -> bool {
    let Some(expires) = stored["expires"].as_str() else {
        return false;
    };
    expires.parse::<Timestamp>().map_or(true, |expires| expires <= now)
}

fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token.trim())
}

fn key_of(token: &str) -> Key {
    let hash = Sha256::digest(token.as_bytes());
    Key::new(KIND, "", &hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

fn random() -> Result<String, getrandom::Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    Ok(BASE64_URL_SAFE_NO_PAD.encode(bytes))
}

fn encode(identity: &Identity) -> Value {
    match identity {
        Identity::Admin => json!({"admin": true}),
        Identity::Node { name, uid } => json!({"node": name, "uid": uid}),
    }
}

fn decode(stored: &Value) -> Option<Identity> {
    let identity = &stored["identity"];
    if identity["admin"] == true {
        return Some(Identity::Admin);
    }
    let name = identity["node"].as_str()?.to_owned();
    let uid = identity["uid"].as_str()?.to_owned();
    Some(Identity::Node { name, uid })
}
