//! The filtering door: what a machine that is in may read and write, and nothing else.
//!
//! Lists and watches are answered from memory. One write goes on to the API server: the status of
//! the machine's own node, rebuilt from its parts and bound to the node's UID. Who may do what is
//! [`embedded::allow`]'s to say, as everywhere.

use std::sync::Arc;

use api::{GROUP, VERSION};
use embedded::{AccessRequest, Identity, Verdict, allow};
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use kube::Client;
use serde_json::{Value, json};
use tokio::time::Instant;
use tracing::warn;

use super::answer::{self, Answer, BadBody};
use super::follow::{Feeds, Kind};
use super::members::Denied;
use super::tls::Presented;
use super::watch::{self, Ask};

/// A status names at most 1,000 nodes of 253 characters.
const LARGEST: usize = 512 << 10;
/// What the API server answers is one object.
const LARGEST_ANSWER: usize = 4 << 20;

pub(super) struct Door {
    pub(super) feeds: Arc<Feeds>,
    pub(super) client: Client,
}

impl std::fmt::Debug for Target<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Target { kind: _, plural, name, subresource } = self;
        write!(f, "{plural}/{name}/{subresource}")
    }
}

/// What a path names. Pure.
struct Target<'a> {
    kind: Option<Kind>,
    plural: &'a str,
    /// Empty: the collection.
    name: &'a str,
    subresource: &'a str,
}

impl<'a> Target<'a> {
    fn of(path: &'a str) -> Option<Target<'a>> {
        let rest = path.strip_prefix("/apis/")?.strip_prefix(GROUP)?.strip_prefix('/')?;
        let rest = rest.strip_prefix(VERSION)?.strip_prefix('/')?;
        let parts: Vec<&str> = rest.split('/').collect();
        let (plural, name, subresource) = match parts[..] {
            [plural] => (plural, "", ""),
            [plural, name] => (plural, name, ""),
            [plural, name, subresource] => (plural, name, subresource),
            _ => return None,
        };
        Some(Target { kind: Kind::of(plural), plural, name, subresource })
    }

    /// In the words of RBAC.
    fn verb(&self, method: &Method, query: &Query) -> &'static str {
        match *method {
            Method::GET if query.watch => "watch",
            Method::GET if self.name.is_empty() => "list",
            Method::GET => "get",
            Method::PATCH => "patch",
            Method::PUT => "update",
            Method::POST => "create",
            Method::DELETE => "delete",
            _ => "",
        }
    }
}

/// What of a query is understood; the rest is harmless or refused.
#[derive(Debug, Default, PartialEq, Eq)]
struct Query {
    watch: bool,
    version: Option<u64>,
    seconds: Option<u64>,
    bookmarks: bool,
    /// A parameter that changes what is asked and is not served here.
    refused: Option<String>,
}

impl Query {
    fn parse(text: &str) -> Query {
        let mut query = Query::default();
        for (name, value) in text.split('&').filter_map(|pair| pair.split_once('=')) {
            match name {
                "watch" => query.watch = matches!(value, "1" | "true"),
                "allowWatchBookmarks" => query.bookmarks = matches!(value, "1" | "true"),
                "timeoutSeconds" => query.seconds = value.parse().ok(),
                "resourceVersion" => match value.parse() {
                    Ok(0) => query.version = None,
                    Ok(version) => query.version = Some(version),
                    Err(_) if value.is_empty() => {}
                    Err(_) => query.refused = Some(name.to_owned()),
                },
                "labelSelector" | "fieldSelector" | "sendInitialEvents" | "dryRun" | "continue"
                    if !value.is_empty() && value != "false" =>
                {
                    query.refused = Some(name.to_owned());
                }
                _ => {}
            }
        }
        query
    }
}

impl Door {
    pub(super) async fn answer(
        &self,
        presented: &Presented,
        request: Request<Incoming>,
        now: Instant,
    ) -> Answer {
        let member = &presented.member;
        match self.feeds.members.admit(member, now) {
            Ok(()) => {}
            Err(denied) => return refusal(denied),
        }
        let (head, body) = request.into_parts();
        let query = Query::parse(head.uri.query().unwrap_or_default());
        let Some(target) = Target::of(head.uri.path()) else {
            return answer::status(404, "NotFound", "the gateway serves nothing there");
        };
        let verb = target.verb(&head.method, &query);
        let asked = AccessRequest {
            verb,
            group: GROUP,
            resource: target.plural,
            subresource: target.subresource,
            name: target.name,
        };
        let identity = Identity::Node { name: member.node.clone(), uid: member.uid.clone() };
        let allowed = allow(&identity, asked) == Verdict::Allowed;
        let Some(kind) = target.kind.filter(|_| allowed) else {
            let message = format!("{identity} may not {verb} {target:?} through the gateway");
            return answer::status(403, "Forbidden", &message);
        };
        if let Some(parameter) = &query.refused {
            let message = format!("the gateway does not serve the parameter {parameter}");
            return answer::status(400, "BadRequest", &message);
        }
        match (verb, target.subresource) {
            ("watch", _) => self.watch(kind, presented, &query),
            ("list", _) => self.list(kind),
            ("get", _) => self.get(kind, target.name),
            ("patch", "status") => self.patch(presented, &head.headers, body).await,
            _ => answer::status(405, "MethodNotAllowed", "the gateway takes a merge patch there"),
        }
    }

    fn list(&self, kind: Kind) -> Answer {
        let body = self.feeds.of(kind).list(&format!("{GROUP}/{VERSION}"), kind.name());
        answer::text_of(StatusCode::OK, body)
    }

    fn get(&self, kind: Kind, name: &str) -> Answer {
        match self.feeds.of(kind).get(name) {
            Some(object) => answer::text_of(StatusCode::OK, object),
            None => answer::status(404, "NotFound", &format!("{} not found", kind.plural())),
        }
    }

    fn watch(&self, kind: Kind, presented: &Presented, query: &Query) -> Answer {
        let open = match self.feeds.members.watch(&presented.member) {
            Ok(open) => open,
            Err(denied) => return refusal(denied),
        };
        let ask = Ask {
            kind,
            version: query.version,
            seconds: query.seconds,
            bookmarks: query.bookmarks,
            until: presented.until,
        };
        answer::stream(watch::lines(Arc::clone(&self.feeds), open, ask))
    }

    /// The one write there is. Nothing of the request goes on but the status and its precondition.
    async fn patch(&self, presented: &Presented, headers: &HeaderMap, body: Incoming) -> Answer {
        const MERGE: &str = "application/merge-patch+json";
        if headers.get(header::CONTENT_TYPE).is_none_or(|kind| kind != MERGE) {
            return answer::status(415, "UnsupportedMediaType", "a status is a merge patch");
        }
        let body = match answer::read(body, LARGEST).await {
            Ok(body) => body,
            Err(bad) => return bad_body(bad),
        };
        let member = &presented.member;
        let Some(patch) = status_patch(&body, &member.uid) else {
            return answer::status(400, "BadRequest", "the body is no patch of a status");
        };
        let path = format!(
            "/apis/{GROUP}/{VERSION}/meshnodes/{}/status?fieldManager=hawser-gateway",
            member.node
        );
        let request = Request::patch(path).header(header::CONTENT_TYPE, MERGE);
        let Ok(request) = request.body(patch.to_string().into_bytes().into()) else {
            return answer::status(400, "BadRequest", "the node's name is no name");
        };
        match self.client.send(request).await {
            Ok(response) => pass_on(response).await,
            Err(error) => {
                warn!(node = member.node, %error, "status of a machine not passed on");
                answer::status(503, "ServiceUnavailable", "the API server cannot be reached")
            }
        }
    }
}

/// The status alone, for this very node in the version that was read.
fn status_patch(body: &[u8], uid: &str) -> Option<Value> {
    let asked: Value = serde_json::from_slice(body).ok()?;
    let status = asked.get("status").filter(|status| status.is_object())?;
    let mut metadata = json!({"uid": uid});
    if let Some(version) = asked["metadata"]["resourceVersion"].as_str() {
        metadata["resourceVersion"] = version.into();
    }
    Some(json!({"metadata": metadata, "status": status}))
}

async fn pass_on(response: http::Response<kube::client::Body>) -> Answer {
    let (head, body) = response.into_parts();
    match Limited::new(body, LARGEST_ANSWER).collect().await {
        Ok(body) => answer::text_of(head.status, body.to_bytes()),
        Err(error) => {
            warn!(%error, "the API server's answer is not whole");
            answer::status(503, "ServiceUnavailable", "the API server's answer is not whole")
        }
    }
}

fn refusal(denied: Denied) -> Answer {
    match denied {
        Denied::Out => answer::status(401, "Unauthorized", "this node is revoked or gone"),
        Denied::TooOften => answer::status(429, "TooManyRequests", "this node asks too often"),
        Denied::TooManyWatches => {
            answer::status(429, "TooManyRequests", "this node has too many watches")
        }
    }
}

pub(super) fn bad_body(bad: BadBody) -> Answer {
    match bad {
        BadBody::TooLarge => answer::status(413, "RequestEntityTooLarge", "the body is too large"),
        BadBody::TooSlow => answer::status(408, "Timeout", "the body came too slowly"),
        BadBody::Broken => answer::status(400, "BadRequest", "the body is not whole"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_carries_a_status_and_the_nodes_own_uid_and_nothing_else() {
        let asked = json!({
            "metadata": {"uid": "theirs", "resourceVersion": "7", "finalizers": ["x"]},
            "spec": {"subnets": ["10.42.9.0/24"]},
            "status": {"mtu": 1420},
        });

        let patch = status_patch(asked.to_string().as_bytes(), "ours").unwrap();

        assert_eq!(
            patch,
            json!({"metadata": {"uid": "ours", "resourceVersion": "7"}, "status": {"mtu": 1420}})
        );
        for bad in ["", "[]", "{}", r#"{"status": 1}"#, r#"[{"op": "add"}]"#] {
            assert_eq!(status_patch(bad.as_bytes(), "ours"), None, "{bad}");
        }
    }

    #[test]
    fn a_path_names_one_thing_or_nothing() {
        let shown = |path| Target::of(path).map(|target| format!("{target:?}"));

        assert_eq!(shown("/apis/hawser.dev/v1alpha1/meshnodes").unwrap(), "meshnodes//");
        assert_eq!(
            shown("/apis/hawser.dev/v1alpha1/meshnodes/a/status").unwrap(),
            "meshnodes/a/status"
        );
        for other in [
            "/",
            "/api/v1/secrets",
            "/apis/hawser.dev",
            "/apis/hawser.dev/v2/meshnodes",
            "/apis/hawser.devil/v1alpha1/meshnodes",
            "/apis/hawser.dev/v1alpha1/meshnodes/a/status/b",
            "/../apis/hawser.dev/v1alpha1/meshnodes",
        ] {
            assert_eq!(shown(other), None, "{other}");
        }
    }

    #[test]
    fn what_would_be_answered_wrongly_is_refused() {
        let refused = |text| Query::parse(text).refused;

        assert_eq!(refused("limit=500&resourceVersion=0&pretty=true"), None);
        for bad in ["labelSelector=a%3Db", "fieldSelector=metadata.name%3Da", "dryRun=All"] {
            assert!(refused(bad).is_some(), "{bad}");
        }
        let watch =
            Query::parse("watch=1&resourceVersion=12&timeoutSeconds=290&allowWatchBookmarks=true");
        assert_eq!((watch.watch, watch.version, watch.bookmarks), (true, Some(12), true));
    }
}
