//! The verbs on resources: which method on which path is which, and who may.

use super::body::{self, Answer};
use super::encode::Encoding;
use super::negotiate::{self, PatchType, Shape};
use super::query::{Match, Query};
use super::route::Target;
use super::selection::Selection;
use super::text;
use super::watch::{self, Ask};
use crate::auth::{self, Identity, Session, Tokens, Verdict};
use crate::server::App;
use crate::status::{self, Status};
use crate::store::{Listing, Page, Written};
use crate::verbs::{self, DeleteOptions, Edit, Outcome, Write};
use bytes::Bytes;
use http::{Method, Request, header};
use hyper::body::Incoming;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a node's token lives that does not ask for less: until the node goes or is revoked.
const TOKEN_LIFE: SignedDuration = SignedDuration::from_hours(10 * 365 * 24);

/// One request, understood.
struct Call<'a> {
    app: &'a Arc<App>,
    session: Session,
    target: Target,
    query: Query,
    encoding: Encoding,
    now: Timestamp,
}

pub(super) async fn answer(
    app: &Arc<App>,
    session: Session,
    target: Target,
    request: Request<Incoming>,
) -> Result<Answer, Status> {
    let query = Query::parse(request.uri().query().unwrap_or_default())?;
    let verb = verb(request.method(), &target, &query)?;
    authorise(&session.identity, verb, &target)?;
    let accept = text(request.headers(), &header::ACCEPT);
    let shape = negotiate::accept(accept, &[Shape::Table, Shape::Partial])?;
    let encoding = Encoding {
        shape,
        include: query.include,
    };
    let call = Call {
        app,
        session,
        target,
        query,
        encoding,
        now: Timestamp::now(),
    };
    match verb {
        "get" => call.get(),
        "list" => call.list(),
        "watch" => call.watch(),
        "create" if call.target.subresource == "token" => {
            call.issue_token(&body::read(request.into_body()).await?)
                .await
        }
        "create" => {
            negotiate::require_json(text(request.headers(), &header::CONTENT_TYPE))?;
            call.create(&body::read(request.into_body()).await?).await
        }
        "update" => {
            negotiate::require_json(text(request.headers(), &header::CONTENT_TYPE))?;
            let body = body::read(request.into_body()).await?;
            call.edit(Edit::Replace(parse(&body)?)).await
        }
        "patch" => {
            let patch = negotiate::patch_type(text(request.headers(), &header::CONTENT_TYPE))?;
            let body = parse(&body::read(request.into_body()).await?)?;
            call.edit(match patch {
                PatchType::Merge => Edit::Merge(body),
                PatchType::Json => Edit::Json(body),
            })
            .await
        }
        "delete" => call.delete(&body::read(request.into_body()).await?).await,
        _ => {
            call.delete_collection(&body::read(request.into_body()).await?)
                .await
        }
    }
}

/// The verb, in the words of RBAC.
fn verb(method: &Method, target: &Target, query: &Query) -> Result<&'static str, Status> {
    let collection = target.name.is_empty();
    let (get, post, put) = (Method::GET, Method::POST, Method::PUT);
    let verb = match target.subresource.as_str() {
        "token" if *method == post => "create",
        "token" => return Err(Status::method_not_allowed()),
        "status" if *method == get => "get",
        _ if *method == get && query.watch => "watch",
        _ if *method == get && collection => "list",
        _ if *method == get => "get",
        _ if target.kind.view.is_some() => return Err(Status::method_not_allowed()),
        "" if *method == post && collection => "create",
        "" if *method == Method::DELETE && collection => "deletecollection",
        "" if *method == Method::DELETE => "delete",
        _ if *method == put && !collection => "update",
        _ if *method == Method::PATCH && !collection => "patch",
        _ => return Err(Status::method_not_allowed()),
    };
    let namespaced_create = verb == "create" && target.kind.namespaced;
    if namespaced_create && target.namespace.is_empty() {
        return Err(Status::method_not_allowed());
    }
    Ok(verb)
}

fn authorise(identity: &Identity, verb: &str, target: &Target) -> Result<(), Status> {
    let request = auth::Request {
        verb,
        group: &target.kind.group,
        resource: &target.kind.plural,
        subresource: &target.subresource,
        name: &target.name,
    };
    match auth::allow(identity, request) {
        Verdict::Allowed => Ok(()),
        Verdict::Denied => {
            let slash = if target.subresource.is_empty() {
                ""
            } else {
                "/"
            };
            let message = format!(
                "{}.{} {:?} is forbidden: {identity} cannot {verb} resource \"{}{slash}{}\" in \
                 API group {:?}",
                target.kind.plural,
                target.kind.group,
                target.name,
                target.kind.plural,
                target.subresource,
                target.kind.group,
            );
            Err(Status::forbidden(message).about(target.kind.about(&target.name)))
        }
    }
}

impl Call<'_> {
    fn get(&self) -> Result<Answer, Status> {
        let Target {
            kind,
            namespace,
            name,
            ..
        } = &self.target;
        let found = self.app.store.get(&kind.key(namespace, name));
        let object = found.ok_or_else(|| kind.not_found(name))?;
        self.check_not_from_the_future()?;
        Ok(body::json_text(
            self.encoding.object(kind, &object, self.now),
        ))
    }

    fn list(&self) -> Result<Answer, Status> {
        let selection = Selection::new(&self.target, &self.query)?;
        let page = self.page(&selection)?;
        Ok(body::json_text(self.encoding.list(
            &self.target.kind,
            &page,
            self.now,
        )))
    }

    fn page(&self, selection: &Selection) -> Result<Page, Status> {
        let (kind, query, now) = (&self.target.kind, &self.query, Instant::now());
        let what = format!(
            "{}?{}&{}&{}",
            kind.plural, selection.namespace, query.label_selector, query.field_selector
        );
        if let Some(token) = &query.continue_token {
            if query.version()?.is_some() || query.version_match.is_some() {
                let why = "specifying resource version is not allowed when using continue";
                return Err(Status::bad_request(why));
            }
            return self.app.pages.next(&what, token, query.limit, now);
        }
        self.check_not_from_the_future()?;
        let Listing {
            version,
            mut objects,
        } = self.app.store.list(&kind.stored_as, &selection.namespace);
        self.check_exact(version)?;
        if !selection.is_everything() {
            objects.retain(|object| selection.matches(&object.value));
        }
        Ok(self
            .app
            .pages
            .first(&what, Listing { version, objects }, query.limit, now))
    }

    /// A version that was never given out belongs to another history.
    fn check_not_from_the_future(&self) -> Result<(), Status> {
        match self.query.version()? {
            Some(version) if version > self.app.store.version() => Err(Status::expired(format!(
                "resource version {version} is not of this history; list again"
            ))),
            Some(_) | None => Ok(()),
        }
    }

    fn check_exact(&self, current: u64) -> Result<(), Status> {
        let query = &self.query;
        match (query.version_match, query.resource_version.as_deref()) {
            (None | Some(Match::NotOlderThan), Some(_)) | (None, None) => Ok(()),
            (Some(_), None) => Err(Status::invalid(
                "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless \
                 resourceVersion is provided",
            )),
            (Some(Match::Exact), Some("0")) => Err(Status::bad_request(
                "resourceVersionMatch \"Exact\" is forbidden for resourceVersion \"0\"",
            )),
            (Some(Match::Exact), Some(_)) if query.version()? == Some(current) => Ok(()),
            (Some(Match::Exact), Some(version)) => Err(Status::expired(format!(
                "the exact resource version {version} is not kept"
            ))),
        }
    }

    fn watch(self) -> Result<Answer, Status> {
        let query = &self.query;
        let selection = Selection::new(&self.target, query)?;
        let initial = query.send_initial_events;
        if initial.is_some() {
            let served = query.version_match == Some(Match::NotOlderThan);
            if !served || (initial == Some(true) && !query.bookmarks) {
                return Err(Status::invalid(
                    "sendInitialEvents: Forbidden: it needs \
                     resourceVersionMatch=NotOlderThan and allowWatchBookmarks=true",
                ));
            }
        } else if query.version_match.is_some() {
            return Err(Status::invalid(
                "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch \
                 unless sendInitialEvents is provided",
            ));
        }
        let after = match (initial, query.version()?) {
            (Some(true), None) | (None, None) => None,
            (Some(true), Some(version)) if version <= self.app.store.version() => None,
            (Some(false), None) => Some(self.app.store.version()),
            (Some(_) | None, Some(version)) => Some(version),
        };
        let ask = Ask {
            selection,
            encoding: self.encoding,
            after,
            bookmarks: query.bookmarks,
            mark_initial_end: initial == Some(true),
            timeout: query.timeout.unwrap_or_else(half_an_hour_or_more),
        };
        Ok(body::stream(watch::stream(
            self.app.clone(),
            self.session,
            ask,
        )))
    }

    async fn create(&self, bytes: &Bytes) -> Result<Answer, Status> {
        let outcome = verbs::create(&self.app.store, self.write(), parse(bytes)?).await?;
        Ok(self.outcome(&outcome, 201))
    }

    async fn edit(&self, edit: Edit) -> Result<Answer, Status> {
        let outcome = verbs::edit(&self.app.store, self.write(), edit).await?;
        Ok(self.outcome(&outcome, 200))
    }

    async fn delete(&self, bytes: &Bytes) -> Result<Answer, Status> {
        let mut options = DeleteOptions::parse(bytes)?;
        options.dry_run |= self.query.dry_run;
        let dry_run = options.dry_run;
        let Target {
            kind,
            namespace,
            name,
            ..
        } = &self.target;
        let key = kind.key(namespace, name);
        let written = verbs::delete(&self.app.store, kind.clone(), key, options, self.now).await?;
        let object = written.object();
        let held = object.value["metadata"].get("finalizers").is_some();
        let removed = matches!(written, Written::Removed(_)) || (dry_run && !held);
        if removed {
            return Ok(body::json(&status::deleted(
                &kind.about(name),
                object.uid(),
            )));
        }
        Ok(body::json_text(
            self.encoding.object(kind, object, self.now),
        ))
    }

    async fn delete_collection(&self, bytes: &Bytes) -> Result<Answer, Status> {
        let selection = Selection::new(&self.target, &self.query)?;
        let mut options = DeleteOptions::parse(bytes)?;
        options.dry_run |= self.query.dry_run;
        let kind = &self.target.kind;
        let listing = self.app.store.list(&kind.stored_as, &selection.namespace);
        let mut objects = listing.objects;
        objects.retain(|object| selection.matches(&object.value));
        for object in &objects {
            let metadata = &object.value["metadata"];
            let namespace = metadata["namespace"].as_str().unwrap_or_default();
            let key = kind.key(namespace, metadata["name"].as_str().unwrap_or_default());
            let deleted = verbs::delete(
                &self.app.store,
                kind.clone(),
                key,
                options.clone(),
                self.now,
            )
            .await;
            match deleted {
                Ok(_) => {}
                // Somebody else was faster.
                Err(status) if status.code == 404 => {}
                Err(status) => return Err(status),
            }
        }
        let page = Page {
            version: listing.version,
            objects,
            rest: None,
        };
        Ok(body::json_text(self.encoding.list(kind, &page, self.now)))
    }

    /// `POST …/meshnodes/NAME/token`: a token with this node's rights, told once.
    async fn issue_token(&self, bytes: &Bytes) -> Result<Answer, Status> {
        let Target { kind, name, .. } = &self.target;
        let body = if bytes.is_empty() {
            json!({})
        } else {
            parse(bytes)?
        };
        let node = self.app.store.get(&kind.key("", name));
        let node = node.ok_or_else(|| kind.not_found(name))?;
        let life = match &body["spec"]["expirationSeconds"] {
            Value::Null => TOKEN_LIFE,
            seconds => match seconds.as_i64() {
                Some(seconds @ 600..=0xFFFF_FFFF) => SignedDuration::from_secs(seconds),
                _ => {
                    let why = "spec.expirationSeconds: may not be less than 600";
                    return Err(Status::invalid(why));
                }
            },
        };
        let expires = self.now.saturating_add(life).unwrap_or(Timestamp::MAX);
        let identity = Identity::Node {
            name: name.clone(),
            uid: node.uid().to_owned(),
        };
        let token = Tokens(&self.app.store)
            .issue(&identity, Some(expires))
            .await?;
        let mut answer = body::json(&json!({
            "kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1",
            "metadata": {"name": name}, "spec": {"expirationSeconds": life.as_secs()},
            "status": {"token": token, "expirationTimestamp": expires.to_string()},
        }));
        *answer.status_mut() = body::code(201);
        Ok(answer)
    }

    fn write(&self) -> Write {
        Write {
            kind: self.target.kind.clone(),
            namespace: self.target.namespace.clone(),
            name: self.target.name.clone(),
            to_status: self.target.subresource == "status",
            dry_run: self.query.dry_run,
            validation: self.query.field_validation,
            now: self.now,
        }
    }

    fn outcome(&self, outcome: &Outcome, code: u16) -> Answer {
        let object = self
            .encoding
            .object(&self.target.kind, &outcome.object, self.now);
        let mut answer = body::json_text(object);
        *answer.status_mut() = body::code(code);
        body::warn(&mut answer, &outcome.warnings);
        answer
    }
}

fn parse(bytes: &Bytes) -> Result<Value, Status> {
    serde_json::from_slice(bytes)
        .map_err(|error| Status::bad_request(format!("the body is not JSON: {error}")))
}

/// Watches without a time of their own end spread out, so that they do not all return at once.
fn half_an_hour_or_more() -> Duration {
    let mut random = [0; 2];
    // Without randomness they end together, which is no harm but load.
    let _ = getrandom::fill(&mut random);
    Duration::from_secs(1800 + u64::from(u16::from_le_bytes(random)) % 1800)
}
