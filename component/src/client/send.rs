//! Sending one request: rate limit, credentials, repetition, errors.
//!
//! The rules of repetition are client-go's (`rest/with_retry.go`) and Go's HTTP/2 transport's.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HOST, RETRY_AFTER, USER_AGENT, WARNING};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use hyper::body::Incoming;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::api::push_query;
use super::body::read_all;
use super::decode;
use super::{Client, Error, Target};

/// How often a request is sent again; client-go's figure.
const MAX_RETRIES: u32 = 10;
/// The longest error answer that is read.
const MAX_ERROR_BODY: usize = 1 << 20;
/// The longest answer that is read as a whole: no list of a sane cluster comes near it.
const MAX_BODY: usize = 2 << 30;

/// A request to be.
pub(super) struct Call {
    method: Method,
    path: String,
    accept: String,
    content: Option<(&'static str, Bytes)>,
    timeout: bool,
}

impl Call {
    pub(super) fn new(method: Method, path: String) -> Self {
        Self {
            method,
            path,
            accept: "application/json".to_owned(),
            content: None,
            timeout: true,
        }
    }

    pub(super) fn accept(self, accept: impl Into<String>) -> Self {
        Self {
            accept: accept.into(),
            ..self
        }
    }

    /// Adds a query parameter unless it is empty.
    pub(super) fn query(&mut self, key: &str, value: &str) {
        if !value.is_empty() {
            push_query(&mut self.path, key, value);
        }
    }

    pub(super) fn body(self, media_type: &'static str, body: Bytes) -> Self {
        Self {
            content: Some((media_type, body)),
            ..self
        }
    }

    pub(super) fn json(self, value: &impl Serialize) -> Result<Self, Error> {
        let body = serde_json::to_vec(value).map_err(Error::Encode)?;
        Ok(self.body("application/json", body.into()))
    }

    /// For answers that are streams without an end.
    pub(super) fn without_timeout(self) -> Self {
        Self {
            timeout: false,
            ..self
        }
    }
}

/// Whether, and after how long, to send a request again.
enum Verdict {
    Done(http::Response<Incoming>),
    Failed(Error),
    Again { after: Duration, code: Option<u16> },
}

impl Client {
    /// Sends a request that somebody else made, and gives what is answered as it is. It goes out once, as soon as it can, and says
    /// nothing of this client but by the certificate of its connection.
    ///
    /// # Errors
    /// If nothing is answered.
    pub async fn forward(
        &self,
        mut request: http::Request<Bytes>,
    ) -> Result<http::Response<Incoming>, Error> {
        let transport = &self.inner.transport;
        let path = request
            .uri()
            .path_and_query()
            .map_or("/", |path| path.as_str());
        *request.uri_mut() = transport.uri(path).map_err(Error::Request)?;
        // The connection says whom it leads to.
        request.headers_mut().remove(HOST);
        let sent = transport.send(request).await;
        sent.map_err(|cause| Error::Transport {
            host: self.inner.host.clone(),
            cause,
        })
    }

    /// Sends a request until it is answered for good; an answer that is not a success is an error.
    pub(super) async fn send(&self, call: Call) -> Result<http::Response<Incoming>, Error> {
        match self.handle.timeout.filter(|_| call.timeout) {
            None => self.send_patiently(&call).await,
            Some(after) => match tokio::time::timeout(after, self.send_patiently(&call)).await {
                Ok(answer) => answer,
                Err(_) => Err(Error::Timeout {
                    host: self.inner.host.clone(),
                    after,
                }),
            },
        }
    }

    async fn send_patiently(&self, call: &Call) -> Result<http::Response<Incoming>, Error> {
        let (host, method) = (self.inner.host.as_str(), call.method.as_str());
        let requests = self.inner.metrics.requests();
        let waited = self.handle.limit.wait().await;
        requests.waited(method, host, waited);
        if waited > Duration::from_secs(1) {
            tracing::debug!(
                path = call.path,
                ?waited,
                "Waited before sending a request because of the client's own rate limit"
            );
        }
        let mut tries = 0;
        loop {
            match self.send_once(call, tries < MAX_RETRIES).await {
                Verdict::Done(response) => return Ok(response),
                Verdict::Failed(e) => return Err(e),
                Verdict::Again { after, code } => {
                    tries += 1;
                    requests.retried(code, method, host);
                    tokio::time::sleep(after).await;
                }
            }
        }
    }

    async fn send_once(&self, call: &Call, may_repeat: bool) -> Verdict {
        let (host, method) = (self.inner.host.as_str(), call.method.as_str());
        let started = Instant::now();
        let mut request = match self.request_of(call).await {
            Ok(request) => request,
            Err(e) => return Verdict::Failed(e),
        };
        let asking = self.inner.tracer.outgoing(&mut request);
        let response = match self.inner.transport.send(request).await {
            Ok(mut response) => {
                asking.answered(&mut response);
                response
            }
            Err(cause) => {
                asking.failed(&cause);
                self.inner
                    .metrics
                    .requests()
                    .answered(None, method, host, started.elapsed());
                if may_repeat && call.method == Method::GET && cause.is_lost() {
                    return Verdict::Again {
                        after: REPEAT_READ,
                        code: None,
                    };
                }
                return Verdict::Failed(Error::Transport {
                    host: host.to_owned(),
                    cause,
                });
            }
        };
        let code = response.status().as_u16();
        self.inner
            .metrics
            .requests()
            .answered(Some(code), method, host, started.elapsed());
        if response.status().is_success() {
            for warning in response.headers().get_all(WARNING) {
                let text = warning_text(warning.to_str().unwrap_or_default());
                tracing::warn!(path = call.path, warning = text, "The API server warns");
            }
            return Verdict::Done(response);
        }
        if response.status() == StatusCode::UNAUTHORIZED {
            self.inner.credentials.refused();
        }
        match retry_after(response.status(), response.headers()) {
            Some(after) if may_repeat => Verdict::Again {
                after,
                code: Some(code),
            },
            _ => Verdict::Failed(self.refusal(call, response).await),
        }
    }

    async fn request_of(&self, call: &Call) -> Result<http::Request<Bytes>, Error> {
        let mut request = http::Request::builder()
            .method(call.method.clone())
            .uri(
                self.inner
                    .transport
                    .uri(&call.path)
                    .map_err(Error::Request)?,
            )
            .header(USER_AGENT, self.handle.user_agent.clone())
            .header(ACCEPT, call.accept.as_str());
        if let Some((media_type, _)) = &call.content {
            request = request.header(CONTENT_TYPE, *media_type);
        }
        let body = call
            .content
            .as_ref()
            .map(|(_, body)| body.clone())
            .unwrap_or_default();
        let mut request = request.body(body).map_err(Error::Request)?;
        self.inner
            .credentials
            .apply(request.headers_mut())
            .await
            .map_err(Error::Credentials)?;
        self.inner.impersonate.apply(request.headers_mut());
        Ok(request)
    }

    /// What the server said instead of doing it.
    async fn refusal(&self, call: &Call, response: http::Response<Incoming>) -> Error {
        let code = response.status();
        let retry = retry_after(code, response.headers());
        let said = tokio::time::timeout(
            Duration::from_secs(10),
            read_all(response.into_body(), MAX_ERROR_BODY),
        )
        .await;
        let said = said.ok().and_then(Result::ok).unwrap_or_default();
        let mut status = decode::failure(&said)
            .unwrap_or_else(|| generic_status(code, &call.method, &String::from_utf8_lossy(&said)));
        status.code.get_or_insert(code.as_u16().into());
        if let Some(retry) = retry {
            let details = status.details.get_or_insert_with(Default::default);
            details
                .retry_after_seconds
                .get_or_insert(i32::try_from(retry.as_secs()).unwrap_or(i32::MAX));
        }
        Error::Status(Box::new(status))
    }

    /// Sends a request and reads the whole answer.
    pub(super) async fn whole(&self, call: Call) -> Result<Bytes, Error> {
        // The head holds the stream's place in its connection until the body is read.
        let (_head, body) = self.send(call).await?.into_parts();
        read_all(body, MAX_BODY)
            .await
            .map_err(|cause| Error::Transport {
                host: self.inner.host.clone(),
                cause,
            })
    }

    pub(super) async fn object<K: DeserializeOwned>(
        &self,
        call: Call,
        target: &Target,
    ) -> Result<K, Error> {
        let body = self.whole(call).await?;
        decode::object(&body, target)
    }

    pub(super) async fn json<R: DeserializeOwned>(&self, call: Call) -> Result<R, Error> {
        let body = self.whole(call).await?;
        decode::any(&body, std::any::type_name::<R>())
    }
}

/// The wait before a read is sent again whose connection broke.
const REPEAT_READ: Duration = Duration::from_millis(100);

/// When the server wants the same request again: 429, or a 5xx that says so.
fn retry_after(code: StatusCode, headers: &HeaderMap) -> Option<Duration> {
    if code != StatusCode::TOO_MANY_REQUESTS && !code.is_server_error() {
        return None;
    }
    let seconds: u64 = headers
        .get(RETRY_AFTER)
        .map(HeaderValue::to_str)?
        .ok()?
        .trim()
        .parse()
        .ok()?;
    Some(Duration::from_secs(seconds))
}

/// The text of `299 - "text"` (RFC 7234, section 5.5).
fn warning_text(header: &str) -> &str {
    header
        .split_once('"')
        .map_or(header, |(_, text)| text.trim_end_matches('"'))
}

/// A status for an answer that is none, as `errors.NewGenericServerResponse` makes it.
fn generic_status(code: StatusCode, method: &Method, said: &str) -> Status {
    let reason = match code.as_u16() {
        400 => "BadRequest",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        405 => "MethodNotAllowed",
        406 => "NotAcceptable",
        409 if *method == Method::POST => "AlreadyExists",
        409 => "Conflict",
        410 => "Gone",
        413 => "RequestEntityTooLarge",
        415 => "UnsupportedMediaType",
        422 => "Invalid",
        429 => "TooManyRequests",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        c if c >= 500 => "InternalError",
        _ => "Unknown",
    };
    let said: String = said.chars().take(2048).collect();
    Status {
        status: Some("Failure".to_owned()),
        code: Some(code.as_u16().into()),
        reason: Some(reason.to_owned()),
        message: Some(format!("the server answered {code}: {}", said.trim())),
        ..Status::default()
    }
}
