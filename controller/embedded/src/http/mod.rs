//! From a request to an answer: route, authenticate, authorise, read the body, do, encode.

mod body;
mod change;
mod discovery;
mod encode;
mod json;
mod negotiate;
mod query;
mod read;
mod resource;
mod route;
mod selection;
mod watch;

pub(crate) use body::Answer;
pub(crate) use query::dry_run;

use crate::auth::{Identity, Session, Tokens};
use crate::server::App;
use crate::status::Status;
use http::{HeaderMap, Method, Request, header};
use hyper::body::Incoming;
use jiff::Timestamp;
use negotiate::Shape;
use route::{Route, route};
use std::convert::Infallible;
use std::sync::Arc;

/// Answers every request; errors are answers too.
pub(crate) async fn handle(
    app: Arc<App>,
    request: Request<Incoming>,
) -> Result<Answer, Infallible> {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let answer = answer(&app, request).await.unwrap_or_else(|status| {
        tracing::debug!(%method, ?path, code = status.code, message = ?status.message, "refused");
        body::refusal(&status)
    });
    Ok(answer)
}

async fn answer(app: &Arc<App>, request: Request<Incoming>) -> Result<Answer, Status> {
    let route = route(&app.kinds, request.uri().path());
    if let Some(Route::Health) = route {
        return if app.store.is_stopped() {
            Err(Status::unavailable("the store has stopped writing"))
        } else {
            Ok(body::text("ok"))
        };
    }
    let authorization = text(request.headers(), &header::AUTHORIZATION);
    let session = Tokens(&app.store).authenticate(authorization, Timestamp::now())?;
    let route = route.ok_or_else(Status::no_such_path)?;
    if let Route::Resource(target) = route {
        return resource::answer(app, session, target, request).await;
    }
    if let Route::Backup = route {
        return backup(app, &session, request.method()).await;
    }
    if request.method() != Method::GET {
        return Err(Status::method_not_allowed());
    }
    described(app, &route, request.headers())
}

/// What is served here.
fn described(app: &App, route: &Route, headers: &HeaderMap) -> Result<Answer, Status> {
    let kinds = &app.kinds;
    match route {
        Route::Version => Ok(body::json(&discovery::version())),
        Route::CoreVersions | Route::Groups => {
            let core = matches!(route, Route::CoreVersions);
            let accept = text(headers, &header::ACCEPT);
            match negotiate::accept(accept, &[Shape::Discovery])? {
                Shape::Discovery => {
                    Ok(body::of_type(negotiate::DISCOVERY, &discovery::aggregated(kinds, core)))
                }
                Shape::Object | Shape::Table | Shape::Partial if core => {
                    Ok(body::json(&discovery::core_versions()))
                }
                Shape::Object | Shape::Table | Shape::Partial => {
                    Ok(body::json(&discovery::groups(kinds)))
                }
            }
        }
        Route::Group(name) => {
            let group = discovery::group(kinds, name).ok_or_else(Status::no_such_path)?;
            Ok(body::json(&group))
        }
        Route::Resources { group, version } => {
            Ok(body::json(&discovery::resources(kinds, group, version)))
        }
        Route::OpenApi => Ok(body::json(app.openapi.index())),
        Route::OpenApiDocument(path) => {
            let document = app.openapi.document(path).ok_or_else(Status::no_such_path)?;
            Ok(body::json_text(document))
        }
        Route::Health | Route::Backup | Route::Resource(_) => Err(Status::no_such_path()),
    }
}

async fn backup(app: &Arc<App>, session: &Session, method: &Method) -> Result<Answer, Status> {
    if session.identity != Identity::Admin {
        return Err(Status::forbidden("only an admin may take a backup"));
    }
    if method != Method::GET {
        return Err(Status::method_not_allowed());
    }
    let file = crate::backup::snapshot(app).await.map_err(|error| {
        tracing::error!(%error, "taking a backup");
        Status::new(500, "InternalError", format!("taking a backup: {error}"))
    })?;
    Ok(body::file(file))
}

/// A header's text; one that is not text counts as absent.
fn text<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
