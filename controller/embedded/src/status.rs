//! The error body of every answer that is no success: `kind: Status`.

use crate::schema::Cause;
use serde_json::{Value, json};

/// What went wrong, in the words that clients of Kubernetes look for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) code: u16,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    pub(crate) retry_after_seconds: Option<u32>,
    details: Option<Box<Details>>,
}

/// Apart, so that a result with a Status in it stays small.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Details {
    about: Option<About>,
    causes: Vec<Cause>,
}

/// The object that a Status speaks of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct About {
    pub(crate) group: String,
    pub(crate) plural: String,
    pub(crate) name: String,
}

impl About {
    /// `meshnodes.hawser.dev`.
    pub(crate) fn resource(&self) -> String {
        if self.group.is_empty() {
            self.plural.clone()
        } else {
            format!("{}.{}", self.plural, self.group)
        }
    }
}

impl Status {
    pub(crate) fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Status {
        Status { code, reason, message: message.into(), retry_after_seconds: None, details: None }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Status {
        Status::new(400, "BadRequest", message)
    }

    pub(crate) fn unauthorized() -> Status {
        Status::new(401, "Unauthorized", "Unauthorized")
    }

    pub(crate) fn forbidden(message: impl Into<String>) -> Status {
        Status::new(403, "Forbidden", message)
    }

    pub(crate) fn no_such_path() -> Status {
        Status::new(404, "NotFound", "the server could not find the requested resource")
    }

    pub(crate) fn method_not_allowed() -> Status {
        Status::new(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        )
    }

    pub(crate) fn not_acceptable() -> Status {
        let message = "only the following media types are accepted: application/json";
        Status::new(406, "NotAcceptable", message)
    }

    pub(crate) fn unsupported_media(message: impl Into<String>) -> Status {
        Status::new(415, "UnsupportedMediaType", message)
    }

    pub(crate) fn too_large(limit: usize) -> Status {
        let message = format!("the request body is larger than {limit} bytes");
        Status::new(413, "RequestEntityTooLarge", message)
    }

    pub(crate) fn expired(message: impl Into<String>) -> Status {
        Status::new(410, "Expired", message)
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Status {
        Status::new(422, "Invalid", message)
    }

    pub(crate) fn busy() -> Status {
        let message = "too many writes are waiting; try again later";
        Status { retry_after_seconds: Some(1), ..Status::new(429, "TooManyRequests", message) }
    }

    pub(crate) fn too_many_events() -> Status {
        let message = "this node writes too many events: 25 at once, then one in 10 s";
        Status { retry_after_seconds: Some(10), ..Status::new(429, "TooManyRequests", message) }
    }

    pub(crate) fn unavailable(message: impl Into<String>) -> Status {
        Status::new(503, "ServiceUnavailable", message)
    }

    pub(crate) fn not_found(about: About) -> Status {
        let message = format!("{} {:?} not found", about.resource(), about.name);
        Status::new(404, "NotFound", message).about(about)
    }

    pub(crate) fn already_exists(about: About) -> Status {
        let message = format!("{} {:?} already exists", about.resource(), about.name);
        Status::new(409, "AlreadyExists", message).about(about)
    }

    pub(crate) fn conflict(about: About, why: &str) -> Status {
        let message = format!(
            "Operation cannot be fulfilled on {} {:?}: {why}",
            about.resource(),
            about.name
        );
        Status::new(409, "Conflict", message).about(about)
    }

    pub(crate) fn about(mut self, about: About) -> Status {
        self.details.get_or_insert_default().about = Some(about);
        self
    }

    pub(crate) fn with_causes(mut self, causes: Vec<Cause>) -> Status {
        self.details.get_or_insert_default().causes = causes;
        self
    }

    pub(crate) fn body(&self) -> Value {
        let mut body = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code,
        });
        let details = self.described();
        if details.as_object().is_some_and(|members| !members.is_empty()) {
            body["details"] = details;
        }
        body
    }

    fn described(&self) -> Value {
        let mut described = json!({});
        if let Some(seconds) = self.retry_after_seconds {
            described["retryAfterSeconds"] = seconds.into();
        }
        let Some(details) = &self.details else {
            return described;
        };
        if let Some(about) = &details.about {
            described["name"] = about.name.clone().into();
            described["kind"] = about.plural.clone().into();
            if !about.group.is_empty() {
                described["group"] = about.group.clone().into();
            }
        }
        let cause = |c: &Cause| json!({"reason": c.reason, "message": c.message, "field": c.field});
        if !details.causes.is_empty() {
            described["causes"] = details.causes.iter().map(cause).collect();
        }
        described
    }
}

/// The body of a delete that left nothing behind.
pub(crate) fn deleted(about: &About, uid: &str) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
        "details": {"name": about.name, "group": about.group, "kind": about.plural, "uid": uid},
    })
}
