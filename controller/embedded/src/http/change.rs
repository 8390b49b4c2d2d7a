//! Create, update, patch, delete, and a node's token.

use super::body::{self, Answer};
use super::json;
use super::negotiate::{self, PatchType};
use super::resource::Call;
use super::route::Target;
use super::selection::Selection;
use crate::auth::{Identity, Tokens};
use crate::builtin::EVENTS;
use crate::schema::FieldValidation;
use crate::status::{self, Status};
use crate::store::{Page, Written};
use crate::verbs::{self, DeleteOptions, Edit, Outcome, Write};
use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::time::Instant;

/// How long a node's token lives that does not ask for less: until the node goes or is revoked.
const TOKEN_LIFE: SignedDuration = SignedDuration::from_hours(10 * 365 * 24);

/// How many deletions of a collection may share a commit.
const AT_ONCE: usize = 256;

impl Call<'_> {
    pub(super) async fn create(
        &self,
        content_type: Option<&str>,
        bytes: &[u8],
    ) -> Result<Answer, Status> {
        negotiate::require_json(content_type)?;
        self.keep_pace()?;
        let (body, warnings) = json::parse(bytes, self.query.field_validation)?;
        let outcome = verbs::create(&self.app.store, self.write(), body).await?;
        Ok(self.outcome(&outcome, &warnings, 201))
    }

    pub(super) async fn replace(
        &self,
        content_type: Option<&str>,
        bytes: &[u8],
    ) -> Result<Answer, Status> {
        negotiate::require_json(content_type)?;
        let (body, warnings) = json::parse(bytes, self.query.field_validation)?;
        self.edit(Edit::Replace(body), &warnings).await
    }

    pub(super) async fn patch(
        &self,
        content_type: Option<&str>,
        bytes: &[u8],
    ) -> Result<Answer, Status> {
        let patch = negotiate::patch_type(content_type)?;
        let (body, warnings) = json::parse(bytes, self.query.field_validation)?;
        let edit = match patch {
            PatchType::Merge => Edit::Merge(body),
            PatchType::Json => Edit::Json(body),
        };
        self.edit(edit, &warnings).await
    }

    async fn edit(&self, edit: Edit, warnings: &[String]) -> Result<Answer, Status> {
        self.keep_pace()?;
        let outcome = verbs::edit(&self.app.store, self.write(), edit).await?;
        Ok(self.outcome(&outcome, warnings, 200))
    }

    pub(super) async fn delete(&self, bytes: &[u8]) -> Result<Answer, Status> {
        let mut options = DeleteOptions::parse(bytes)?;
        options.dry_run |= self.query.dry_run;
        let dry_run = options.dry_run;
        let Target { kind, namespace, name, .. } = &self.target;
        let key = kind.key(namespace, name);
        let written = verbs::delete(&self.app.store, kind.clone(), key, options, self.now).await?;
        let object = written.object();
        let held = object.value["metadata"].get("finalizers").is_some();
        let removed = matches!(written, Written::Removed(_)) || (dry_run && !held);
        if removed {
            return Ok(body::json(&status::deleted(&kind.about(name), object.uid())));
        }
        Ok(body::json_text(self.encoding.object(kind, object, self.now)))
    }

    pub(super) async fn delete_collection(&self, bytes: &[u8]) -> Result<Answer, Status> {
        let selection = Selection::new(&self.target, &self.query)?;
        let mut options = DeleteOptions::parse(bytes)?;
        options.dry_run |= self.query.dry_run;
        let kind = &self.target.kind;
        let listing = self.app.store.list(&kind.stored_as, &selection.namespace);
        let mut objects = listing.objects;
        objects.retain(|object| selection.matches(&object.value));
        for chunk in objects.chunks(AT_ONCE) {
            let mut deletions = Vec::new();
            for object in chunk {
                let metadata = &object.value["metadata"];
                let namespace = metadata["namespace"].as_str().unwrap_or_default();
                let key = kind.key(namespace, metadata["name"].as_str().unwrap_or_default());
                let (kind, options) = (kind.clone(), options.clone());
                deletions.push(verbs::delete(&self.app.store, kind, key, options, self.now));
            }
            for deleted in join_all(deletions).await {
                match deleted {
                    Ok(_) => {}
                    // Somebody else was faster.
                    Err(status) if status.code == 404 => {}
                    Err(status) => return Err(status),
                }
            }
        }
        let page = Page { version: listing.version, objects, rest: None };
        Ok(body::json_text(self.encoding.list(kind, &page, self.now)))
    }

    /// `POST …/meshnodes/NAME/token`: a token with this node's rights, told once.
    pub(super) async fn issue_token(&self, bytes: &[u8]) -> Result<Answer, Status> {
        let Target { kind, name, .. } = &self.target;
        let body = match bytes {
            [] => json!({}),
            bytes => json::parse(bytes, FieldValidation::Ignore)?.0,
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
        let identity = Identity::Node { name: name.clone(), uid: node.uid().to_owned() };
        let token = Tokens(&self.app.store).issue(&identity, Some(expires)).await?;
        let mut answer = body::json(&json!({
            "kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1",
            "metadata": {"name": name}, "spec": {"expirationSeconds": life.as_secs()},
            "status": {"token": token, "expirationTimestamp": expires.to_string()},
        }));
        *answer.status_mut() = body::code(201);
        Ok(answer)
    }

    /// A node that floods others' view of what happens is slowed down.
    fn keep_pace(&self) -> Result<(), Status> {
        match &self.session.identity {
            Identity::Node { name, .. }
                if self.target.kind.stored_as == EVENTS
                    && !self.app.pace.allows(name, Instant::now()) =>
            {
                Err(Status::too_many_events())
            }
            Identity::Admin | Identity::Node { .. } => Ok(()),
        }
    }

    fn write(&self) -> Write {
        Write {
            kind: self.target.kind.clone(),
            namespace: self.target.namespace.clone(),
            name: self.target.name.clone(),
            to_status: self.target.subresource == "status",
            dry_run: self.query.dry_run,
            validation: self.query.field_validation,
            author: self.session.identity.clone(),
            now: self.now,
        }
    }

    fn outcome(&self, outcome: &Outcome, warnings: &[String], code: u16) -> Answer {
        let object = self.encoding.object(&self.target.kind, &outcome.object, self.now);
        let mut answer = body::json_text(object);
        *answer.status_mut() = body::code(code);
        body::warn(&mut answer, warnings);
        body::warn(&mut answer, &outcome.warnings);
        answer
    }
}
