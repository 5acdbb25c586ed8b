//! Why a request to the API server failed.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;

use super::credentials;
use super::transport::TransportError;

/// A failed request. What the server said is a [`Status`]; the predicates are those of
/// `k8s.io/apimachinery/pkg/api/errors`.
#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error("{}", message(.0))]
    Status(Box<Status>),
    #[error("cannot reach the API server at {host}")]
    Transport {
        host: String,
        #[source]
        cause: TransportError,
    },
    #[error("no answer from the API server at {host} within {after:?}")]
    Timeout { host: String, after: Duration },
    #[error("no credentials for the API server")]
    Credentials(#[source] credentials::Error),
    #[error("cannot encode a request")]
    Encode(#[source] serde_json::Error),
    #[error("cannot build a request")]
    Request(#[source] http::Error),
    #[error("the answer is not the {expected} that was asked for: {problem}")]
    Decode { expected: String, problem: String },
}

fn message(status: &Status) -> String {
    match (&status.message, &status.reason, status.code) {
        (Some(message), _, _) if !message.is_empty() => message.clone(),
        (_, Some(reason), _) => reason.clone(),
        (_, _, code) => format!("the server answered {}", code.unwrap_or_default()),
    }
}

impl Error {
    /// What the server said, if it was the server.
    #[must_use]
    pub fn status(&self) -> Option<&Status> {
        match self {
            Self::Status(status) => Some(status),
            _ => None,
        }
    }

    /// The HTTP code that the server answered with.
    #[must_use]
    pub fn code(&self) -> Option<u16> {
        self.status()?.code.and_then(|c| u16::try_from(c).ok())
    }

    /// The reason that the server gave, such as `NotFound`.
    #[must_use]
    pub fn reason(&self) -> &str {
        self.status()
            .and_then(|s| s.reason.as_deref())
            .unwrap_or_default()
    }

    /// The reason, or, if the server gave none that is known, the code.
    fn is(&self, reason: &str, code: u16) -> bool {
        self.reason() == reason || (self.code() == Some(code) && !KNOWN.contains(&self.reason()))
    }

    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.is("NotFound", 404)
    }

    #[must_use]
    pub fn is_already_exists(&self) -> bool {
        self.reason() == "AlreadyExists"
    }

    #[must_use]
    pub fn is_conflict(&self) -> bool {
        self.is("Conflict", 409)
    }

    /// The resource version is too old to list or watch from.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.is("Gone", 410) || self.reason() == "Expired"
    }

    #[must_use]
    pub fn is_invalid(&self) -> bool {
        self.is("Invalid", 422)
    }

    #[must_use]
    pub fn is_forbidden(&self) -> bool {
        self.is("Forbidden", 403)
    }

    #[must_use]
    pub fn is_unauthorized(&self) -> bool {
        self.is("Unauthorized", 401)
    }

    #[must_use]
    pub fn is_too_many_requests(&self) -> bool {
        self.is("TooManyRequests", 429)
    }

    #[must_use]
    pub fn is_method_not_supported(&self) -> bool {
        self.is("MethodNotAllowed", 405)
    }

    /// The server could not do it in time; it may still have done it.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Timeout { .. }) || self.is("Timeout", 504)
    }

    /// The namespace is being deleted, and takes no new objects.
    #[must_use]
    pub fn is_namespace_terminating(&self) -> bool {
        self.has_cause("NamespaceTerminating")
    }

    /// The version that was asked for is not there yet (`ResourceVersionTooLarge`).
    #[must_use]
    pub fn is_too_large_resource_version(&self) -> bool {
        self.has_cause("ResourceVersionTooLarge")
    }

    /// Whether the details name a cause of this type.
    #[must_use]
    pub fn has_cause(&self, cause: &str) -> bool {
        let causes = self
            .status()
            .and_then(|s| s.details.as_ref())
            .and_then(|d| d.causes.as_ref());
        causes.is_some_and(|all| all.iter().any(|c| c.reason.as_deref() == Some(cause)))
    }

    /// When the server wants to be asked again.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        let seconds = self.status()?.details.as_ref()?.retry_after_seconds?;
        u64::try_from(seconds)
            .ok()
            .filter(|s| *s > 0)
            .map(Duration::from_secs)
    }
}

/// Reasons that are believed whatever the code says.
const KNOWN: [&str; 16] = [
    "Unauthorized",
    "Forbidden",
    "NotFound",
    "AlreadyExists",
    "Conflict",
    "Gone",
    "Invalid",
    "ServerTimeout",
    "Timeout",
    "TooManyRequests",
    "BadRequest",
    "MethodNotAllowed",
    "NotAcceptable",
    "RequestEntityTooLarge",
    "UnsupportedMediaType",
    "Expired",
];
