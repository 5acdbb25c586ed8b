//! Webhooks: servers that are asked what the API server does not know itself.
//!
//! A kubeconfig says where one is; its current context's cluster is the webhook, its user is the API
//! server. A question is a review that is posted to exactly the address given, and comes back with its
//! status filled in. Upstream: `apiserver/pkg/util/webhook`.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use component::Supervisor;
use component::client::{self, Client, Config, ConfigError};
use component::metrics::Metrics;
use http::{Method, StatusCode};
use rand::Rng;
use serde_json::Value;

pub mod reach;

/// How long one call may take if nothing else is said.
pub const TIMEOUT: Duration = Duration::from_secs(30);
/// Calls for one question, the wait after the first, and by how much each wait is longer.
const CALLS: usize = 5;
const FIRST_WAIT: Duration = Duration::from_millis(500);
const GROWTH: f64 = 1.5;
const JITTER: f64 = 0.2;
/// The longest answer that is read.
const MAX_ANSWER: usize = 1 << 20;

/// Why a webhook did not answer.
#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error("{}", component::supervisor::chain(.0))]
    Call(#[from] client::Error),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("{}", component::supervisor::chain(.0))]
    Body(#[from] client::TransportError),
    #[error("the answer's code is {0}")]
    Code(StatusCode),
    #[error("the answer is no {expected}: {problem}")]
    Answer { expected: String, problem: String },
}

impl Error {
    /// Whether time ran out, here or there.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        match self {
            Self::Timeout(_) => true,
            Self::Call(error) => error.is_timeout(),
            _ => false,
        }
    }

    /// Whether the same call may succeed now: after a lost connection, 429, 504, and what was wrong inside of the server
    /// or on the way to it, such as 500 and 502 (`DefaultShouldRetry`).
    fn may_pass(&self) -> bool {
        match self {
            Self::Call(client::Error::Transport { cause, .. }) => {
                matches!(cause, client::TransportError::Http(_))
            }
            Self::Call(error) => {
                error.reason() == "InternalError" || matches!(error.code(), Some(429 | 500 | 504))
            }
            _ => false,
        }
    }
}

/// A webhook.
pub struct Webhook {
    client: Client,
    /// With the query.
    path: String,
    timeout: Duration,
    /// After the first call.
    wait: Duration,
}

impl Webhook {
    /// The webhook that a kubeconfig names; it is connected to when it is first asked.
    ///
    /// # Errors
    /// If the file cannot be used.
    pub fn open(
        kubeconfig: &Path,
        timeout: Duration,
        tasks: &Supervisor,
        metrics: &Metrics,
    ) -> Result<Self, ConfigError> {
        let mut config = Config::from_kubeconfig(kubeconfig)?;
        config.qps = -1.0;
        let (server, path) = split(&config.server);
        let timeout_text = proto::time::Duration(i64::try_from(timeout.as_nanos()).unwrap_or(0));
        let path = format!("{path}?timeout={timeout_text}");
        config.server = server;
        Ok(Self {
            client: Client::new(config, "kube-apiserver", tasks, metrics)?,
            path,
            timeout,
            wait: FIRST_WAIT,
        })
    }

    /// The same with another wait after the first call.
    #[must_use]
    pub fn waiting(self, wait: Duration) -> Self {
        Self { wait, ..self }
    }

    /// Posts a review and reads it back. Calls that may pass are repeated a few times.
    ///
    /// # Errors
    /// If there is no answer of the same kind.
    pub async fn ask(
        &self,
        review: &Review<'_>,
        mut each: impl FnMut(&Call),
    ) -> Result<Value, Error> {
        let body = Bytes::from(review.to_json());
        let mut waits = waits(self.wait);
        loop {
            let started = std::time::Instant::now();
            let posted = self.post(body.clone()).await;
            let answer = posted.and_then(|answer| review.read(&answer));
            each(&Call {
                took: started.elapsed(),
                result: match &answer {
                    Ok(_) => "success",
                    Err(error) if error.is_timeout() => "timeout",
                    Err(_) => "error",
                },
            });
            let again = answer.as_ref().err().filter(|error| error.may_pass());
            let Some((error, wait)) = again.and_then(|error| Some((error, waits.next()?))) else {
                return answer;
            };
            tracing::debug!(%error, "A webhook is asked again");
            tokio::time::sleep(wait).await;
        }
    }

    /// Posts a body once; the answer's.
    ///
    /// # Errors
    /// If there is no answer, or its code says that the body was not taken.
    pub async fn post(&self, body: Bytes) -> Result<Bytes, Error> {
        let content = Some(("application/json", body));
        let whole = async {
            let sent = self
                .client
                .raw(Method::POST, &self.path, "application/json, */*", content);
            let response = sent.await?;
            if response.status() > StatusCode::PARTIAL_CONTENT {
                return Err(Error::Code(response.status()));
            }
            let (_head, body) = response.into_parts();
            Ok(client::read_all(body, MAX_ANSWER).await?)
        };
        let answer = tokio::time::timeout(self.timeout, whole).await;
        answer.unwrap_or(Err(Error::Timeout(self.timeout)))
    }
}

/// The waits between calls: each longer than the one before, and a little of it by chance.
pub fn waits(first: Duration) -> impl Iterator<Item = Duration> {
    let growing = std::iter::successors(Some(first), |wait| Some(wait.mul_f64(GROWTH)));
    let spread = |wait: Duration| wait.mul_f64(1.0 + JITTER * rand::rng().random::<f64>());
    growing.map(spread).take(CALLS - 1)
}

/// One call, for who counts them.
pub struct Call {
    pub took: Duration,
    /// `success`, `timeout` or `error`.
    pub result: &'static str,
}

/// A question.
pub struct Review<'a> {
    pub api_version: &'a str,
    pub kind: &'a str,
    pub spec: &'a Value,
}

impl Review<'_> {
    fn to_json(&self) -> String {
        serde_json::json!({
            "apiVersion": self.api_version,
            "kind": self.kind,
            "metadata": {},
            "spec": self.spec,
            "status": {},
        })
        .to_string()
    }

    fn unlike(&self, problem: String) -> Error {
        Error::Answer {
            expected: format!("{} {}", self.api_version, self.kind),
            problem,
        }
    }

    /// The answer, if it is of the kind of the question; one that does not say what it is counts as
    /// such.
    fn read(&self, bytes: &[u8]) -> Result<Value, Error> {
        let answer: Value =
            serde_json::from_slice(bytes).map_err(|e| self.unlike(e.to_string()))?;
        let status = answer.get("status").unwrap_or(&Value::Null);
        if !answer.is_object() || !(status.is_object() || status.is_null()) {
            return Err(self.unlike("it is no object with a status".to_owned()));
        }
        for (field, own) in [("apiVersion", self.api_version), ("kind", self.kind)] {
            match answer.get(field).and_then(Value::as_str) {
                None | Some("") => {}
                Some(given) if given == own => {}
                Some(other) => return Err(self.unlike(format!("its {field} is {other:?}"))),
            }
        }
        Ok(answer)
    }
}

/// Scheme with host, and path.
fn split(server: &str) -> (String, String) {
    let after_scheme = server.find("://").map_or(0, |at| at + 3);
    let path_at = server[after_scheme..]
        .find(['/', '?', '#'])
        .map_or(server.len(), |at| after_scheme + at);
    let path = server[path_at..]
        .split(['?', '#'])
        .next()
        .unwrap_or_default();
    let path = if path.is_empty() { "/" } else { path };
    (server[..path_at].to_owned(), path.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_review_is_posted_to_exactly_the_address_given() {
        let parts = |server: &str| split(server);
        let of = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(parts("https://h:1/a/b"), of("https://h:1", "/a/b"));
        assert_eq!(parts("https://h:1/"), of("https://h:1", "/"));
        assert_eq!(parts("https://h"), of("https://h", "/"));
        assert_eq!(parts("h/x?y=z"), of("h", "/x"));
    }

    #[test]
    fn what_may_pass_is_asked_again() {
        let may_pass = |code: i32, reason: &str| {
            let mut error = client::Error::Status(Box::default());
            if let client::Error::Status(status) = &mut error {
                status.code = Some(code);
                status.reason = Some(reason.to_owned());
            }
            Error::Call(error).may_pass()
        };
        for (code, reason) in [
            (429, "TooManyRequests"),
            (500, ""),
            (502, "InternalError"),
            (504, "Timeout"),
        ] {
            assert!(may_pass(code, reason), "{code}");
        }
        for (code, reason) in [(400, "BadRequest"), (503, "ServiceUnavailable")] {
            assert!(!may_pass(code, reason), "{code}");
        }
    }

    #[test]
    fn an_answer_is_of_the_kind_of_the_question() {
        let spec = json!({});
        let review = Review {
            api_version: "authorization.k8s.io/v1",
            kind: "SubjectAccessReview",
            spec: &spec,
        };
        let read = |v: Value| review.read(v.to_string().as_bytes());
        assert!(read(json!({"status": {"allowed": true}})).is_ok());
        assert!(
            read(json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview"}))
                .is_ok()
        );
        assert!(read(json!({"apiVersion": "authorization.k8s.io/v1beta1"})).is_err());
        assert!(read(json!({"kind": "TokenReview"})).is_err());
        assert!(read(json!(["status"])).is_err());
        assert!(read(json!({"status": [true]})).is_err());
        assert!(review.read(b"{").is_err());
    }
}
