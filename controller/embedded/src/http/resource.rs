//! The verbs on resources: which method on which path is which, and who may.

use super::body::{self, Answer};
use super::encode::Encoding;
use super::negotiate::{self, Shape};
use super::query::Query;
use super::route::Target;
use super::text;
use crate::auth::{self, Identity, Session, Verdict};
use crate::server::App;
use crate::status::Status;
use http::{Method, Request, header};
use hyper::body::Incoming;
use jiff::Timestamp;
use std::sync::Arc;

/// One request, understood.
pub(super) struct Call<'a> {
    pub(super) app: &'a Arc<App>,
    pub(super) session: Session,
    pub(super) target: Target,
    pub(super) query: Query,
    pub(super) encoding: Encoding,
    pub(super) now: Timestamp,
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
    let encoding = Encoding { shape, include: query.include };
    let call = Call { app, session, target, query, encoding, now: Timestamp::now() };
    let content_type = text(request.headers(), &header::CONTENT_TYPE).map(str::to_owned);
    let content_type = content_type.as_deref();
    match verb {
        "get" => return call.get(),
        "list" => return call.list(),
        "watch" => return call.watch(),
        _ => {}
    }
    let body = body::read(request.into_body()).await?;
    match verb {
        "create" if call.target.subresource == "token" => call.issue_token(&body).await,
        "create" => call.create(content_type, &body).await,
        "update" => call.replace(content_type, &body).await,
        "patch" => call.patch(content_type, &body).await,
        "delete" => call.delete(&body).await,
        _ => call.delete_collection(&body).await,
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
            let slash = if target.subresource.is_empty() { "" } else { "/" };
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
