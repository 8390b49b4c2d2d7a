//! What a joining machine and the gateway say to each other, and the text of a join token.
//!
//! ```text
//! machine                                              gateway (TLS 1.3, pinned by the token)
//!   GET  /join  ──▶ JoinChallenge {challenge}, for one request on this connection
//!   POST /join  JoinRequest {token, name, csr, key, proof} ──▶ admits: consumes a use, makes the
//!                                                              MeshNode
//!               JoinAnswer {node, certificate} ◀──────
//!               JoinWaits {node} ◀──────  instead, until somebody approves it: ask again
//!   POST /renew RenewRequest {csr}, with the certificate, at two thirds of its life
//!   POST /leave, with the certificate: the MeshNode goes
//!   GET, PATCH /apis/hawser.dev/…   what a node may, with the certificate
//! ```

use std::fmt;

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The name that the gateway's certificate is made for, whatever address leads to it.
pub const SERVER_NAME: &str = "hawser-gateway";
/// Where a machine asks to be let in.
pub const JOIN_PATH: &str = "/join";
/// Where it gets its next certificate.
pub const RENEW_PATH: &str = "/renew";
/// Where it says that it goes.
pub const LEAVE_PATH: &str = "/leave";
/// What every token begins with.
const FORM: &str = "hawser1";
/// No token is longer: a name has at most 253 characters.
const LONGEST: usize = 512;

/// A join token as people pass it on: `hawser1:NAME:SECRET:AUTHORITY:CHECK`.
///
/// NAME is its JoinToken's, SECRET 256 random bits, AUTHORITY the SHA-256 of the gateway's
/// authority, CHECK finds a copy that is not whole before anybody is asked.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    pub name: String,
    pub secret: [u8; 32],
    pub authority: [u8; 32],
}

/// Why a text is no token. Never holds a part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadToken {
    #[error("the token is longer than any token")]
    TooLong,
    #[error("this is no token: one begins with hawser1: and has five parts")]
    Form,
    #[error("the token is damaged: was it copied whole?")]
    Damaged,
}

impl Token {
    /// Spaces and line ends around it are ignored.
    pub fn parse(text: &str) -> Result<Token, BadToken> {
        if text.len() > LONGEST {
            return Err(BadToken::TooLong);
        }
        let text = text.trim();
        let parts: Vec<&str> = text.split(':').collect();
        let [FORM, name, secret, authority, check] = parts[..] else {
            return Err(BadToken::Form);
        };
        let covered = &text[..text.len() - check.len() - 1];
        if check_of(covered) != check || name.is_empty() {
            return Err(BadToken::Damaged);
        }
        let bytes = |text: &str| {
            let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok();
            bytes.and_then(|bytes| bytes.try_into().ok()).ok_or(BadToken::Damaged)
        };
        Ok(Token { name: name.to_owned(), secret: bytes(secret)?, authority: bytes(authority)? })
    }

    /// The text to pass on. It is the secret: keep it out of arguments and logs.
    pub fn to_text(&self) -> String {
        let [secret, authority] =
            [self.secret, self.authority].map(|bytes| BASE64_URL_SAFE_NO_PAD.encode(bytes));
        let covered = format!("{FORM}:{}:{secret}:{authority}", self.name);
        let check = check_of(&covered);
        format!("{covered}:{check}")
    }

    /// What a JoinToken holds of it.
    pub fn hash(&self) -> String {
        hex(&Sha256::digest(self.secret))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("name", &self.name).finish_non_exhaustive()
    }
}

fn check_of(text: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(&Sha256::digest(text)[..6])
}

/// SHA-256 of a certificate in DER: what a token pins.
pub fn pin(certificate: &[u8]) -> [u8; 32] {
    Sha256::digest(certificate).into()
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a machine has to answer with its WireGuard key, once, on the connection that it came by.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JoinChallenge {
    /// A fresh public key ([`keys::Challenge`]).
    pub challenge: String,
}

/// A machine asks to be let in. Without Debug, because it holds a token.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JoinRequest {
    /// A [`Token`] as text.
    pub token: String,
    /// The name it wants; the token's prefix is put before it where it lacks it.
    pub name: String,
    /// PKCS #10 in DER, base64: signed by the key that the certificate is for.
    pub csr: String,
    /// The node's WireGuard key, as its agent prints it.
    pub public_key: String,
    /// That it holds the private half: a [`keys::Proof`] for [`JoinRequest::covered`].
    pub proof: String,
    /// Prefixes behind it that it wants to announce; no more than the token permits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prefixes: Vec<String>,
}

impl JoinRequest {
    /// What the proof is for: this name and this certificate, for nobody else to use. SHA-256 of
    /// each, one after the other, in hexadecimal; nothing secret is in it.
    pub fn covered(&self) -> String {
        [&self.name, &self.csr].map(|text| hex(&Sha256::digest(text))).concat()
    }
}

/// It is in.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JoinAnswer {
    /// Its name from now on.
    pub node: String,
    /// PEM, for a client.
    pub certificate: String,
    /// PEM: the authority that signed it, and the gateway's own certificate.
    pub authority: String,
}

/// It is not in yet: somebody has to approve it. It asks again, with the same key.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JoinWaits {
    /// The name that it will have.
    pub node: String,
    /// Of its WireGuard key, as those who approve see it.
    pub fingerprint: String,
}

/// A machine that is in asks for its next certificate.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RenewRequest {
    /// PKCS #10 in DER, base64.
    pub csr: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RenewAnswer {
    /// PEM, for a client.
    pub certificate: String,
}

/// A machine's access to the gateway as a kubeconfig: what `hawser join` writes and the agent
/// keeps up to date.
pub struct Access<'a> {
    pub node: &'a str,
    /// `https://HOST:PORT`.
    pub server: &'a str,
    /// PEM.
    pub authority: &'a str,
    /// PEM.
    pub certificate: &'a str,
    /// PEM.
    pub key: &'a str,
}

impl Access<'_> {
    /// Holds a private key: for a file of mode 0600.
    pub fn to_kubeconfig(&self) -> String {
        let [authority, certificate, key] =
            [self.authority, self.certificate, self.key].map(|pem| BASE64_STANDARD.encode(pem));
        let document = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "hawser", "cluster": {
                "server": self.server,
                "tls-server-name": SERVER_NAME,
                "certificate-authority-data": authority,
            }}],
            "users": [{"name": self.node, "user": {
                "client-certificate-data": certificate,
                "client-key-data": key,
            }}],
            "contexts": [{"name": "hawser", "context": {"cluster": "hawser", "user": self.node}}],
            "current-context": "hawser",
        });
        // JSON is YAML; the text is read by programs.
        format!("{document:#}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> Token {
        Token { name: "aws-7x".to_owned(), secret: [7; 32], authority: [9; 32] }
    }

    #[test]
    fn a_token_survives_being_passed_on() {
        let text = token().to_text();

        assert_eq!(Token::parse(&format!(" {text}\n")), Ok(token()));
        assert!(text.starts_with("hawser1:aws-7x:"));
    }

    #[test]
    fn a_damaged_token_is_found_before_anybody_is_asked() {
        let text = token().to_text();

        for at in 0..text.len() {
            let cut = Token::parse(&text[..at]);
            assert!(cut.is_err(), "cut at {at}");
            let mut flipped = text.clone().into_bytes();
            flipped[at] ^= 1;
            let flipped = String::from_utf8(flipped).unwrap();
            assert!(Token::parse(&flipped).is_err(), "flipped at {at}: {flipped}");
        }
        assert_eq!(Token::parse(&"x".repeat(1 << 20)), Err(BadToken::TooLong));
        assert_eq!(Token::parse(""), Err(BadToken::Form));
    }

    #[test]
    fn a_token_is_not_printed_by_accident() {
        let shown = format!("{:?}", token());

        assert_eq!(shown, r#"Token { name: "aws-7x", .. }"#);
    }
}
