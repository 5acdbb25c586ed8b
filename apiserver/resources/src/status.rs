//! Failures: the one place where an error becomes an HTTP status and a `Status` object.
//!
//! Codes, reasons, details and the texts that clients match on follow upstream's
//! `apimachinery/pkg/api/errors`. Every handler returns `Result<_, Failure>`.

use std::borrow::Cow;

use proto::Value;
use proto::path::FieldError;
use proto::view::meta_v1::{Status, StatusCause};
use proto::view::{Node, View};

/// A group and resource (or kind) as messages name them: `deployments.apps`, `pods`.
#[must_use]
pub fn qualified(group: &str, name: &str) -> String {
    if group.is_empty() {
        name.to_owned()
    } else {
        format!("{name}.{group}")
    }
}

/// What is wrong with a request, ready to be sent.
#[derive(Clone, Debug)]
pub struct Failure(Box<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    code: u16,
    /// `Failure`, unless somebody else says otherwise.
    status: Cow<'static, str>,
    reason: Cow<'static, str>,
    message: String,
    details: Details,
    /// `metadata.continue`.
    continue_token: String,
    /// Sent as `Retry-After`, in seconds.
    retry_after: Option<u32>,
    /// Whether details are sent, be they empty: what most of upstream's constructors do.
    detailed: bool,
}

/// `status.details`.
#[derive(Clone, Debug, Default)]
pub struct Details {
    pub name: String,
    pub group: String,
    /// The resource or kind.
    pub kind: String,
    pub uid: String,
    pub causes: Vec<Cause>,
}

#[derive(Clone, Debug)]
pub struct Cause {
    pub reason: String,
    pub message: String,
    pub field: String,
}

impl Failure {
    /// Any failure; the named ones below are the usual ways to make one.
    #[must_use]
    pub fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self(Box::new(Inner {
            code,
            status: Cow::Borrowed("Failure"),
            reason: Cow::Borrowed(reason),
            message,
            details: Details::default(),
            continue_token: String::new(),
            retry_after: None,
            detailed: false,
        }))
    }

    /// The failure that a `Status` tells of, which somebody else made.
    #[must_use]
    pub fn of_status(status: &Value) -> Self {
        let status = Status::of(Node::new(status));
        let code = u16::try_from(status.code())
            .ok()
            .filter(|code| *code < 1000);
        let mut failure = Self::new(code.unwrap_or(500), "", status.message());
        let inner = &mut *failure.0;
        inner.status = status.status().to_owned().into();
        inner.reason = status.reason().to_owned().into();
        let Some(details) = status.details() else {
            return failure;
        };
        inner.detailed = true;
        let seconds = u32::try_from(details.retry_after_seconds()).ok();
        inner.retry_after = seconds.filter(|seconds| *seconds > 0);
        let cause = |cause: StatusCause<'_>| Cause {
            reason: cause.reason().to_owned(),
            message: cause.message().to_owned(),
            field: cause.field().to_owned(),
        };
        inner.details = Details {
            name: details.name().to_owned(),
            group: details.group().to_owned(),
            kind: details.kind().to_owned(),
            uid: details.uid().to_owned(),
            causes: details.causes().into_iter().map(cause).collect(),
        };
        failure
    }

    #[must_use]
    pub fn with_details(mut self, details: Details) -> Self {
        self.0.details = details;
        self.0.detailed = true;
        self
    }

    fn about(self, group: &str, kind: &str, name: &str) -> Self {
        self.with_details(Details {
            name: name.into(),
            group: group.into(),
            kind: kind.into(),
            ..Details::default()
        })
    }

    #[must_use]
    pub fn with_retry_after(mut self, seconds: u32) -> Self {
        self.0.retry_after = Some(seconds);
        self.0.detailed = true;
        self
    }

    #[must_use]
    pub fn with_cause(mut self, reason: &str, message: &str, field: &str) -> Self {
        self.0.details.causes.push(Cause {
            reason: reason.into(),
            message: message.into(),
            field: field.into(),
        });
        self.0.detailed = true;
        self
    }

    #[must_use]
    pub fn not_found(group: &str, resource: &str, name: &str) -> Self {
        let message = format!("{} \"{name}\" not found", qualified(group, resource));
        Self::new(404, "NotFound", message).about(group, resource, name)
    }

    /// A path below a version of the API that nothing serves.
    #[must_use]
    pub fn no_such_resource() -> Self {
        let why = "the server could not find the requested resource";
        Self::new(404, "NotFound", why).with_details(Details::default())
    }

    /// A method that no handler of the path has.
    #[must_use]
    pub fn no_such_method() -> Self {
        let why = "the server does not allow this method on the requested resource";
        Self::new(405, "MethodNotAllowed", why).with_details(Details::default())
    }

    /// A content type that no handler of the path takes, or none of which its answer can have; in the words of upstream's
    /// router (`emicklei/go-restful`).
    #[must_use]
    pub fn routed(code: u16, why: impl Into<String>) -> Self {
        let reason = match code {
            406 => "NotAcceptable",
            _ => "UnsupportedMediaType",
        };
        Self::new(code, reason, why).with_details(Details::default())
    }

    #[must_use]
    pub fn already_exists(group: &str, resource: &str, name: &str) -> Self {
        let message = format!("{} \"{name}\" already exists", qualified(group, resource));
        Self::new(409, "AlreadyExists", message).about(group, resource, name)
    }

    /// A `generateName` that collided: the client may simply try again.
    #[must_use]
    pub fn generate_name_conflict(group: &str, resource: &str, name: &str) -> Self {
        let message = format!(
            "{} \"{name}\" already exists, the server was not able to generate a unique name for the object",
            qualified(group, resource)
        );
        Self::new(409, "AlreadyExists", message)
            .about(group, resource, name)
            .with_retry_after(1)
    }

    #[must_use]
    pub fn conflict(group: &str, resource: &str, name: &str, why: &str) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {} \"{name}\": {why}",
            qualified(group, resource)
        );
        Self::new(409, "Conflict", message).about(group, resource, name)
    }

    /// An update of a version that is not the current one.
    #[must_use]
    pub fn stale(group: &str, resource: &str, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(group, resource, name, why)
    }

    #[must_use]
    pub fn forbidden(group: &str, resource: &str, name: &str, why: &str) -> Self {
        let what = qualified(group, resource);
        let message = match (what.as_str(), name) {
            ("", _) => format!("forbidden: {why}"),
            (_, "") => format!("{what} is forbidden: {why}"),
            _ => format!("{what} {} is forbidden: {why}", proto::path::quote(name)),
        };
        Self::new(403, "Forbidden", message).about(group, resource, name)
    }

    #[must_use]
    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// All errors of an object at once.
    #[must_use]
    pub fn invalid(group: &str, kind: &str, name: &str, errors: &[FieldError]) -> Self {
        let all = proto::path::aggregate(errors);
        let message = format!("{} \"{name}\" is invalid: {all}", qualified(group, kind));
        let mut failure = Self::new(422, "Invalid", message).about(group, kind, name);
        failure.0.details.causes = errors
            .iter()
            .map(|e| Cause {
                reason: e.reason.code().into(),
                message: e.body(),
                field: e.field.clone(),
            })
            .collect();
        failure
    }

    #[must_use]
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    #[must_use]
    pub fn method_not_allowed(group: &str, resource: &str, verb: &str) -> Self {
        let message = format!(
            "{verb} is not supported on resources of kind \"{}\"",
            qualified(group, resource)
        );
        Self::new(405, "MethodNotAllowed", message).about(group, resource, "")
    }

    #[must_use]
    pub fn not_acceptable(accepted: &str) -> Self {
        Self::new(
            406,
            "NotAcceptable",
            format!("only the following media types are accepted: {accepted}"),
        )
    }

    #[must_use]
    pub fn unsupported_media_type(accepted: &str) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {accepted}"
        );
        Self::new(415, "UnsupportedMediaType", message)
    }

    #[must_use]
    pub fn too_large(message: &str) -> Self {
        Self::new(
            413,
            "RequestEntityTooLarge",
            format!("Request entity too large: {message}"),
        )
    }

    #[must_use]
    pub fn gone(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// The store is too far behind the version asked for.
    #[must_use]
    pub fn version_too_large(current: i64, asked: i64) -> Self {
        let text = format!("Too large resource version: {asked}, current: {current}");
        Self::new(504, "Timeout", format!("Timeout: {text}"))
            .with_cause("ResourceVersionTooLarge", "Too large resource version", "")
            .with_retry_after(1)
    }

    #[must_use]
    pub fn timeout(message: &str) -> Self {
        Self::new(504, "Timeout", format!("Timeout: {message}")).with_details(Details::default())
    }

    #[must_use]
    pub fn too_many_requests(message: impl Into<String>, seconds: u32) -> Self {
        Self::new(429, "TooManyRequests", message).with_retry_after(seconds)
    }

    #[must_use]
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(503, "ServiceUnavailable", message)
    }

    #[must_use]
    pub fn internal(message: impl std::fmt::Display) -> Self {
        let text = message.to_string();
        Self::new(
            500,
            "InternalError",
            format!("Internal error occurred: {text}"),
        )
        .with_cause("", &text, "")
    }

    /// The token with which an expired list can go on at a later revision.
    #[must_use]
    pub fn with_continue(mut self, token: String) -> Self {
        self.0.continue_token = token;
        self
    }

    /// The same failure with words in front of its message.
    #[must_use]
    pub fn prefixed(mut self, words: &str) -> Self {
        self.0.message.insert_str(0, words);
        self
    }

    #[must_use]
    pub fn code(&self) -> u16 {
        self.0.code
    }

    #[must_use]
    pub fn reason(&self) -> &str {
        &self.0.reason
    }

    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    #[must_use]
    pub fn details(&self) -> &Details {
        &self.0.details
    }

    #[must_use]
    pub fn retry_after(&self) -> Option<u32> {
        self.0.retry_after
    }

    /// The `Status` object, without kind and version.
    #[must_use]
    pub fn to_value(&self) -> Value {
        use proto::catalogue::names as n;
        let s = &*self.0;
        let mut status = Value::object();
        status.set(&[n::METADATA], Value::object());
        if !s.continue_token.is_empty() {
            status.set(&[n::METADATA, n::CONTINUE], s.continue_token.as_str());
        }
        status.set(&[n::STATUS], &*s.status);
        status.set(&[n::MESSAGE], s.message.as_str());
        if !s.reason.is_empty() {
            status.set(&[n::REASON], &*s.reason);
        }
        status.set(&[n::CODE], i64::from(s.code));
        let mut details = Value::object();
        let d = &s.details;
        for (name, text) in [
            (n::NAME, &d.name),
            (n::GROUP, &d.group),
            (n::KIND, &d.kind),
            (n::UID, &d.uid),
        ] {
            if !text.is_empty() {
                details.set(&[name], text.as_str());
            }
        }
        if !d.causes.is_empty() {
            let causes: Vec<Value> = d.causes.iter().map(cause).collect();
            details.set(&[n::CAUSES], causes);
        }
        if let Some(seconds) = s.retry_after {
            details.set(&[n::RETRY_AFTER_SECONDS], i64::from(seconds));
        }
        if s.detailed {
            status.set(&[n::DETAILS], details);
        }
        status
    }
}

fn cause(c: &Cause) -> Value {
    use proto::catalogue::names as n;
    let mut v = Value::object();
    for (name, text) in [
        (n::REASON, &c.reason),
        (n::MESSAGE, &c.message),
        (n::FIELD, &c.field),
    ] {
        if !text.is_empty() {
            v.set(&[name], text.as_str());
        }
    }
    v
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}: {}", self.0.code, self.0.reason, self.0.message)
    }
}

impl std::error::Error for Failure {}
