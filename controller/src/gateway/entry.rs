//! `/join`, `/renew` and `/leave`: from a request to a certificate.
//!
//! ```text
//! request ─▶ bounds ─▶ signature ─▶ token: secret ─▶ key: proof ─▶ judge ─▶ consume one use ─▶ MeshNode ─▶ sign
//!                 └──────────┴────────────┴─────────────┴───────────┴─▶ audit, and one answer at one time
//! ```
//! A use is consumed by one conditional write, before anything is made: whoever loses the race
//! reads again and is judged again, at whatever replica.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::announced;
use api::join::{
    JoinAnswer, JoinChallenge, JoinRequest, JoinWaits, RenewAnswer, RenewRequest, Token,
};
use api::{JoinToken, JoinTokenStatus, Mesh, MeshNode, MeshNodeSpec, MeshPeer};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use embedded::Authority;
use http::StatusCode;
use hyper::body::Incoming;
use jiff::Timestamp;
use keys::{Challenge, PublicKey};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::warn;

use super::admission::{self, Admission, Candidate, Known, Refusal};
use super::answer::{self, Answer, BadBody};
use super::audit::Audit;
use super::door::bad_body;
use super::follow::{Feeds, Kind};
use super::limits::{Buckets, Rate, source};
use super::tls::{Member, Presented, Request};

/// No request to join is longer.
const LARGEST: usize = 16 << 10;
/// As many as a MeshNode takes.
const PREFIXES: usize = 16;
/// Attempts of one source.
const OF_ONE: Rate = Rate { burst: 120, each: Duration::from_secs(1) };
/// Attempts of all, beyond what each source may.
const OF_ALL: Rate = Rate { burst: 500, each: Duration::from_millis(20) };
/// A refusal comes at a multiple of this, so that the time does not tell how far it got.
const REFUSED_EACH: Duration = Duration::from_millis(250);
/// A node that was just made comes back in the watch within this.
const KNOWN_SOON: Duration = Duration::from_secs(2);
/// So often is a lost race for a use tried again.
const TRIES: usize = 50;

/// The challenge of a connection, until an attempt has used it up.
pub(super) type Open = Mutex<Option<Challenge>>;

/// Why there is no certificate.
#[derive(Debug)]
enum Failure {
    Refused(Refusal),
    /// Something of ours does not work: the machine may try again.
    Broken(anyhow::Error),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Failure {
        Failure::Refused(refusal)
    }
}

impl From<kube::Error> for Failure {
    fn from(error: kube::Error) -> Failure {
        Failure::Broken(error.into())
    }
}

/// What a machine that is not refused gets.
enum Entered {
    In(JoinAnswer),
    Waits(JoinWaits),
}

/// Lets machines in.
pub(super) struct Entry {
    pub(super) client: Client,
    pub(super) feeds: Arc<Feeds>,
    pub(super) authority: Arc<Authority>,
    /// How long a certificate lives.
    pub(super) life: Duration,
    pub(super) audit: Audit,
    sources: Mutex<Buckets<IpAddr>>,
    all: Mutex<Buckets<()>>,
    /// One use is consumed at a time here: losers of a race would only ask again.
    consuming: tokio::sync::Mutex<()>,
}

impl Entry {
    pub(super) fn new(
        client: Client,
        feeds: Arc<Feeds>,
        (authority, life): (Arc<Authority>, Duration),
        audit: Audit,
    ) -> Entry {
        Entry {
            client,
            feeds,
            authority,
            life,
            audit,
            sources: Mutex::new(Buckets::new(OF_ONE)),
            all: Mutex::new(Buckets::new(OF_ALL)),
            consuming: tokio::sync::Mutex::default(),
        }
    }

    /// The connection's challenge: asking again gives the same one, so a stranger costs one key.
    pub(super) fn challenge(open: &Open) -> Answer {
        let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
        let public = match &*open {
            Some(challenge) => challenge.public(),
            None => match Challenge::generate() {
                Ok(challenge) => open.insert(challenge).public(),
                Err(error) => {
                    warn!(%error, "the system has no randomness");
                    return answer::status(
                        503,
                        "ServiceUnavailable",
                        "the gateway cannot answer now",
                    );
                }
            },
        };
        answer::json(StatusCode::OK, &JoinChallenge { challenge: public.to_string() })
    }

    pub(super) async fn join(&self, body: Incoming, from: IpAddr, open: &Open) -> Answer {
        let begun = Instant::now();
        let challenge = open.lock().unwrap_or_else(PoisonError::into_inner).take();
        if !self.may_try(from, begun) {
            return answer::status(429, "TooManyRequests", "too many attempts; try again later");
        }
        let mut named = None;
        let admitted = match answer::read(body, LARGEST).await {
            Ok(body) => self.admit(&body, from, (challenge, &mut named)).await,
            Err(BadBody::TooLarge | BadBody::TooSlow | BadBody::Broken) => {
                Err(Refusal::Malformed.into())
            }
        };
        match admitted {
            Ok(Entered::In(admitted)) => answer::json(StatusCode::CREATED, &admitted),
            Ok(Entered::Waits(waits)) => answer::json(StatusCode::ACCEPTED, &waits),
            Err(Failure::Refused(refusal)) => {
                self.audit.refused(named.as_ref(), &refusal, from).await;
                sleep_until(next_multiple(begun, Instant::now())).await;
                answer::status(403, "Forbidden", "the gateway does not let this machine in")
            }
            Err(Failure::Broken(error)) => {
                warn!(%from, error = %format!("{error:#}"), "a machine could not join");
                answer::status(503, "ServiceUnavailable", "the gateway cannot answer now")
            }
        }
    }

    fn may_try(&self, from: IpAddr, now: Instant) -> bool {
        let lock = PoisonError::into_inner;
        self.sources.lock().unwrap_or_else(lock).allows(source(from), now)
            && self.all.lock().unwrap_or_else(PoisonError::into_inner).allows((), now)
    }

    /// `named` gets the token that the request names, for the audit.
    async fn admit(
        &self,
        body: &[u8],
        from: IpAddr,
        (challenge, named): (Option<Challenge>, &mut Option<JoinToken>),
    ) -> Result<Entered, Failure> {
        let asked: JoinRequest = serde_json::from_slice(body).map_err(|_| Refusal::Malformed)?;
        let token = Token::parse(&asked.token).map_err(|_| Refusal::Malformed)?;
        let request = verified(&asked.csr).ok_or(Refusal::Unsigned)?;
        let public_key =
            PublicKey::from_published(&asked.public_key).map_err(|_| Refusal::BadKey)?;
        *named = self.token(&token.name).await?;
        admission::secret_fits(named.as_ref(), &token.hash())?;
        let stored = named.as_ref().ok_or(Refusal::UnknownToken)?;
        holds_key(challenge.as_ref(), &asked, &public_key)?;
        let JoinRequest { name, prefixes, .. } = asked;
        if prefixes.len() > PREFIXES {
            return Err(Refusal::Malformed.into());
        }
        let candidate = Candidate { name, key: request.key(), public_key, prefixes };
        let known = self.known()?;
        let member = match admission::judge(&candidate, stored, &known, Timestamp::now())? {
            Admission::Again { name, uid } => Member { node: name, uid },
            Admission::Waits { name, asked } => {
                if !asked {
                    self.ask_for_approval(&token.name, (&candidate, &name), from).await?;
                }
                let fingerprint = candidate.public_key.fingerprint().to_string();
                return Ok(Entered::Waits(JoinWaits { node: name, fingerprint }));
            }
            Admission::New { name, spec } => {
                let used = self.consume(&token.name, (&candidate, &name), from).await?;
                let member = self.create(&name, *spec).await?;
                self.audit.joined(&used, &name, from).await;
                self.wait_for(&member).await;
                member
            }
        };
        self.sign(&request, &member).map(Entered::In)
    }

    fn sign(&self, request: &Request, member: &Member) -> Result<JoinAnswer, Failure> {
        let now = Timestamp::now();
        let certificate =
            request.sign(&self.authority, member, (now, self.life)).map_err(Failure::Broken)?;
        let authority = pem(self.authority.certificate());
        Ok(JoinAnswer { node: member.node.clone(), certificate, authority })
    }

    /// A name that is no name never becomes a path.
    async fn token(&self, name: &str) -> Result<Option<JoinToken>, Failure> {
        if !admission::is_name(name) {
            return Ok(None);
        }
        let api: Api<JoinToken> = Api::all(self.client.clone());
        Ok(api.get_opt(name).await?)
    }

    fn known(&self) -> Result<Known, Failure> {
        if !self.feeds.are_listed() {
            return Err(Failure::Broken(anyhow::anyhow!("the mesh has not been read yet")));
        }
        let peers = self.all::<MeshPeer>(Kind::Peer);
        let meshes = self.all::<Mesh>(Kind::Mesh);
        let names: Vec<String> = peers.iter().map(ResourceExt::name_any).collect();
        let specs = names.iter().map(String::as_str).zip(peers.iter().map(|peer| &peer.spec));
        let taken = announced::taken(meshes.first().map(|mesh| &mesh.spec), specs);
        let statuses = meshes.into_iter().filter_map(|mesh| mesh.status);
        Ok(Known {
            nodes: self.all(Kind::Node),
            peers: peers.into_iter().map(|p| (p.name_any(), p.spec.public_key)).collect(),
            revoked_keys: statuses.flat_map(|status| status.revoked_keys).collect(),
            taken,
        })
    }

    fn all<K: DeserializeOwned>(&self, kind: Kind) -> Vec<K> {
        let objects = self.feeds.of(kind).all();
        objects.iter().filter_map(|json| serde_json::from_slice(json).ok()).collect()
    }

    async fn consume(
        &self,
        name: &str,
        (candidate, node): (&Candidate, &str),
        from: IpAddr,
    ) -> Result<JoinToken, Failure> {
        let from = from.to_string();
        let next =
            |token: &JoinToken, now| admission::used_once(token, candidate, (node, &from), now);
        self.change(name, next).await
    }

    /// That it waits is on the token, for whoever approves.
    async fn ask_for_approval(
        &self,
        name: &str,
        (candidate, node): (&Candidate, &str),
        from: IpAddr,
    ) -> Result<(), Failure> {
        let text = from.to_string();
        let next = |token: &JoinToken, now| {
            admission::usable(token, now)?;
            match admission::approval(candidate, node, token) {
                Err(Refusal::NeedsApproval) | Ok(()) => {}
                Err(refusal) => return Err(refusal),
            }
            Ok(Some(admission::asked(token, candidate, (node, &text), now)))
        };
        let token = self.change(name, next).await?;
        self.audit.waits(&token, (node, candidate.public_key.fingerprint()), from).await;
        Ok(())
    }

    /// One conditional write, if there is something to write; a lost race is judged anew. Gives the
    /// token as it was before.
    async fn change(
        &self,
        name: &str,
        next: impl Fn(&JoinToken, Timestamp) -> Result<Option<JoinTokenStatus>, Refusal>,
    ) -> Result<JoinToken, Failure> {
        let _one = self.consuming.lock().await;
        for _ in 0..TRIES {
            let token = self.token(name).await?.ok_or(Refusal::UnknownToken)?;
            let Some(status) = next(&token, Timestamp::now())? else {
                return Ok(token);
            };
            if write_status(&self.client, &token, &status).await? {
                return Ok(token);
            }
        }
        Err(Failure::Broken(anyhow::anyhow!("other writers were faster {TRIES} times")))
    }

    /// Until the machine is known here, so that its first question is answered.
    async fn wait_for(&self, member: &Member) {
        let mut nodes = self.feeds.of(Kind::Node).head();
        let patience = Instant::now() + KNOWN_SOON;
        while !self.feeds.members.knows(member) {
            if timeout_at(patience, nodes.changed()).await.is_err() {
                return;
            }
        }
    }

    /// The name is the last word on who gets it: created if absent. Where it is there already and
    /// this machine's, its first answer was lost, and another replica may have given it.
    async fn create(&self, name: &str, spec: MeshNodeSpec) -> Result<Member, Failure> {
        let joined = spec.joined.clone();
        let api: Api<MeshNode> = Api::all(self.client.clone());
        let node = match api.create(&PostParams::default(), &MeshNode::new(name, spec)).await {
            Err(kube::Error::Api(status)) if status.code == 409 => {
                let there = api.get_opt(name).await?;
                let own = there.filter(|node| {
                    joined.as_ref().is_some_and(|joined| admission::is_of(node, joined))
                });
                own.ok_or_else(|| Refusal::NameTaken(name.to_owned()))?
            }
            created => created?,
        };
        Ok(Member { node: name.to_owned(), uid: node.uid().unwrap_or_default() })
    }

    /// A machine goes: its very node is deleted, and its subnets come to rest.
    pub(super) async fn leave(&self, presented: &Presented) -> Answer {
        let Member { node, uid } = &presented.member;
        if self.feeds.members.admit(&presented.member, Instant::now()).is_err() {
            return answer::status(401, "Unauthorized", "this node is revoked or gone");
        }
        let preconditions = Preconditions { uid: Some(uid.clone()), resource_version: None };
        let parameters =
            DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        let api: Api<MeshNode> = Api::all(self.client.clone());
        match api.delete(node, &parameters).await {
            Ok(_) => answer::json(StatusCode::OK, &json!({"left": node})),
            Err(error) => {
                warn!(node, %error, "a machine could not leave");
                answer::status(503, "ServiceUnavailable", "the gateway cannot answer now")
            }
        }
    }

    /// The next certificate for a machine that is in. One that has ended is enough for that.
    pub(super) async fn renew(&self, presented: &Presented, body: Incoming) -> Answer {
        let member = &presented.member;
        if self.feeds.members.admit(member, Instant::now()).is_err() {
            return answer::status(401, "Unauthorized", "this node is revoked or gone");
        }
        let body = match answer::read(body, LARGEST).await {
            Ok(body) => body,
            Err(bad) => return bad_body(bad),
        };
        let asked = serde_json::from_slice::<RenewRequest>(&body).ok();
        let Some(request) = asked.and_then(|asked| verified(&asked.csr)) else {
            return answer::status(400, "BadRequest", "the request is not signed by its own key");
        };
        match request.sign(&self.authority, member, (Timestamp::now(), self.life)) {
            Ok(certificate) => answer::json(StatusCode::OK, &RenewAnswer { certificate }),
            Err(error) => {
                warn!(node = member.node, %error, "certificate not renewed");
                answer::status(503, "ServiceUnavailable", "the gateway cannot answer now")
            }
        }
    }
}

/// False if somebody else was faster.
pub(super) async fn write_status(
    client: &Client,
    token: &JoinToken,
    status: &JoinTokenStatus,
) -> kube::Result<bool> {
    let metadata = json!({"resourceVersion": token.resource_version(), "uid": token.uid()});
    let patch = json!({"metadata": metadata, "status": status});
    let api: Api<JoinToken> = Api::all(client.clone());
    let patch = Patch::Merge(&patch);
    match api.patch_status(&token.name_any(), &PatchParams::default(), &patch).await {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether the machine has answered this connection's challenge with the key that it names.
fn holds_key(
    challenge: Option<&Challenge>,
    asked: &JoinRequest,
    key: &PublicKey,
) -> Result<(), Refusal> {
    let challenge = challenge.ok_or(Refusal::Unproved)?;
    let proof = asked.proof.parse().map_err(|_| Refusal::Unproved)?;
    let met = challenge.is_met(key, asked.covered().as_bytes(), &proof);
    if met { Ok(()) } else { Err(Refusal::Unproved) }
}

fn verified(csr: &str) -> Option<Request> {
    Request::verify(&BASE64_STANDARD.decode(csr).ok()?)
}

fn pem(der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let lines: Vec<&str> =
        (0..text.len()).step_by(64).map(|at| &text[at..text.len().min(at + 64)]).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

/// The first multiple of [`REFUSED_EACH`] after `begun` that is still to come.
fn next_multiple(begun: Instant, now: Instant) -> Instant {
    let passed = now.saturating_duration_since(begun).as_millis() / REFUSED_EACH.as_millis();
    begun + REFUSED_EACH * u32::try_from(passed + 1).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_comes_at_one_time_whatever_its_reason() {
        let begun = Instant::now();
        let at = |millis| next_multiple(begun, begun + Duration::from_millis(millis));

        for millis in [0, 1, 120, 249] {
            assert_eq!(at(millis), begun + REFUSED_EACH);
        }
        assert_eq!(at(250), begun + REFUSED_EACH * 2);
    }
}
