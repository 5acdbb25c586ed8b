//! One GET of a probe or a hook: upstream's `pkg/probe/http`.
//!
//! Every request has a connection of its own. Redirects are followed while they stay on the host, up
//! to ten; one that leads elsewhere is the answer. No proxy is asked, no more of a body read than is
//! looked at.

use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT, CONNECTION, CONTENT_LENGTH, HOST, LOCATION, REFERER, TRAILER, TRANSFER_ENCODING,
    USER_AGENT,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Container, HTTPGetAction};
use tokio::time::Instant;

use super::run::MAX_OUTPUT;
pub(crate) use super::stream::Tls;
use super::stream::{self, Stream, within};
use super::target::{self, Url};

/// Requests of one probe, the first included.
const MAX_REQUESTS: usize = 10;

/// Why there is no answer. The first two are written as Go's client writes them.
#[derive(thiserror::Error, Debug)]
pub(crate) enum Error {
    /// No answer, or not the beginning of one.
    #[error("Get \"{url}\": {cause}")]
    Get { url: String, cause: Cause },
    /// An answer that broke off.
    #[error("{0}")]
    Body(String),
}

#[derive(thiserror::Error, Debug)]
pub(crate) enum Cause {
    #[error("{0}")]
    Connect(#[from] stream::Error),
    #[error("{0} (Client.Timeout exceeded while awaiting headers)")]
    ConnectTimeout(stream::Error),
    #[error("context deadline exceeded (Client.Timeout exceeded while awaiting headers)")]
    Timeout,
    #[error("net/http: invalid header field value for {0:?}")]
    Header(String),
    #[error("{0}")]
    Exchange(String),
    #[error("stopped after 10 redirects")]
    Redirects,
}

impl Error {
    /// Whether an HTTPS client found an HTTP server.
    pub(crate) const fn is_not_tls(&self) -> bool {
        matches!(
            self,
            Self::Get {
                cause: Cause::Connect(stream::Error::NotTls),
                ..
            }
        )
    }
}

/// What to ask for.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) url: Url,
    /// In the order of the specification, with those that every request has.
    pub(crate) headers: Vec<(String, String)>,
    /// In the place of the address's.
    host: Option<String>,
}

impl Request {
    /// The request of an action. `host` is whom to ask, `purpose` what for: `probe` or `lifecycle`.
    ///
    /// # Errors
    /// If the port or the host cannot be.
    pub(crate) fn of(
        get: &HTTPGetAction,
        container: &Container,
        host: &str,
        purpose: &str,
    ) -> Result<Self, target::Error> {
        let port = target::port(&get.port, container)?;
        let scheme = get.scheme.as_deref().unwrap_or_default();
        let path = get.path.as_deref().unwrap_or_default();
        let url = Url::new(scheme, host, port, path)?;
        let given = get.http_headers.iter().flatten();
        let mut headers: Vec<(String, String)> = given
            .map(|header| (header.name.clone(), header.value.clone()))
            .collect();
        let first = |headers: &[(String, String)], name: &HeaderName| {
            let mut all = headers.iter();
            let found = all.find(|(known, _)| known.eq_ignore_ascii_case(name.as_str()));
            found.map(|(_, value)| value.clone())
        };
        // One that is given and empty means that there is to be none.
        match first(&headers, &USER_AGENT) {
            None => headers.push(("User-Agent".into(), user_agent(purpose))),
            Some(value) if value.is_empty() => remove(&mut headers, &USER_AGENT),
            Some(_) => {}
        }
        match first(&headers, &ACCEPT) {
            None => headers.push(("Accept".into(), "*/*".into())),
            Some(value) if value.is_empty() => remove(&mut headers, &ACCEPT),
            Some(_) => {}
        }
        let host = first(&headers, &HOST).filter(|host| !host.is_empty());
        // The client decides about these.
        for name in [HOST, CONTENT_LENGTH, TRANSFER_ENCODING, TRAILER] {
            remove(&mut headers, &name);
        }
        Ok(Self { url, headers, host })
    }

    /// The headers but those of the connection.
    fn header_map(&self) -> Result<HeaderMap, Cause> {
        let mut map = HeaderMap::new();
        for (name, value) in &self.headers {
            let wrong = || Cause::Header(name.clone());
            let key = HeaderName::try_from(name.as_str()).map_err(|_| wrong())?;
            let value = HeaderValue::from_bytes(value.trim().as_bytes()).map_err(|_| wrong())?;
            map.append(key, value);
        }
        Ok(map)
    }

    fn host(&self) -> String {
        self.host.clone().unwrap_or_else(|| self.url.authority())
    }
}

pub(crate) fn remove(headers: &mut Vec<(String, String)>, name: &HeaderName) {
    headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name.as_str()));
}

/// `kube-probe/1.37`
pub(super) fn user_agent(purpose: &str) -> String {
    let version = component::version::info();
    format!("kube-{purpose}/{}.{}", version.major, version.minor)
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// As much as is looked at.
    pub(crate) body: Bytes,
    location: Option<String>,
}

/// How to ask.
pub(crate) struct Fetch<'a> {
    pub(crate) tls: &'a Tls,
    /// For all of it, redirects and body included.
    pub(crate) timeout: Option<Duration>,
    /// HTTP/2 without TLS.
    pub(crate) h2c: bool,
}

/// Asks, and follows where the answer leads.
pub(crate) async fn fetch(request: &Request, how: &Fetch<'_>) -> Result<Answer, Error> {
    let deadline = how.timeout.map(|timeout| Instant::now() + timeout);
    let mut request = request.clone();
    let host = request.url.host.clone();
    for _ in 0..MAX_REQUESTS {
        let answer = ask(&request, how, deadline).await?;
        let Some(location) = answer
            .location
            .as_deref()
            .filter(|_| leads_on(answer.status))
        else {
            return Ok(answer);
        };
        let Some(next) = request.url.join(location).filter(|next| next.host == host) else {
            return Ok(answer);
        };
        if location.contains("://") || location.starts_with("//") {
            request.host = None;
        }
        let leaves_tls = request.url.https && !next.https;
        remove(&mut request.headers, &REFERER);
        if !leaves_tls {
            let from = request.url.to_string();
            request.headers.push(("Referer".into(), from));
        }
        request.url = next;
    }
    Err(Error::Get {
        url: request.url.to_string(),
        cause: Cause::Redirects,
    })
}

const fn leads_on(status: u16) -> bool {
    matches!(status, 301 | 302 | 303 | 307 | 308)
}

async fn ask(
    request: &Request,
    how: &Fetch<'_>,
    deadline: Option<Instant>,
) -> Result<Answer, Error> {
    let failed = |cause| Error::Get {
        url: request.url.to_string(),
        cause,
    };
    let headers = request.header_map().map_err(failed)?;
    let stream = open(request, how, deadline).await;
    let stream = stream.map_err(|error| {
        failed(match error {
            stream::Error::Timeout { .. } | stream::Error::HandshakeTimeout => {
                Cause::ConnectTimeout(error)
            }
            error => Cause::Connect(error),
        })
    })?;
    if stream.is_h2 || how.h2c && !request.url.https {
        over_h2(request, headers, stream, deadline).await
    } else {
        over_h1(request, headers, stream, deadline).await
    }
}

async fn open(
    request: &Request,
    how: &Fetch<'_>,
    deadline: Option<Instant>,
) -> Result<Stream, stream::Error> {
    let Url { host, port, .. } = &request.url;
    let tcp = stream::connect(host, *port, deadline).await?;
    if request.url.https {
        how.tls.web(tcp, host, deadline).await
    } else {
        Ok(Stream::plain(tcp))
    }
}

async fn over_h1(
    request: &Request,
    headers: HeaderMap,
    stream: Stream,
    deadline: Option<Instant>,
) -> Result<Answer, Error> {
    let failed = |cause| Error::Get {
        url: request.url.to_string(),
        cause,
    };
    let exchange = |error: hyper::Error| failed(Cause::Exchange(hyper_text(&error)));
    let asked = h1_request(request, headers).map_err(failed)?;
    let mut builder = hyper::client::conn::http1::Builder::new();
    builder.title_case_headers(true);
    let (mut sender, connection) = builder
        .handshake::<_, Empty<Bytes>>(TokioIo::new(stream))
        .await
        .map_err(exchange)?;
    let work = async {
        let response = within(deadline, sender.send_request(asked)).await;
        let response = response.ok_or_else(|| failed(Cause::Timeout))?;
        let mut response = response.map_err(exchange)?;
        let mut body = Vec::new();
        while body.len() < MAX_OUTPUT {
            let frame = within(deadline, response.frame()).await;
            let Some(frame) = frame.ok_or_else(body_timeout)? else {
                break;
            };
            let frame = frame.map_err(|error| Error::Body(hyper_text(&error)))?;
            if let Some(data) = frame.data_ref() {
                body.extend_from_slice(data);
            }
        }
        Ok(answer(response.status(), response.headers(), body))
    };
    driven(connection, work).await
}

fn body_timeout() -> Error {
    let text =
        "context deadline exceeded (Client.Timeout or context cancellation while reading body)";
    Error::Body(text.into())
}

fn h1_request(request: &Request, headers: HeaderMap) -> Result<http::Request<Empty<Bytes>>, Cause> {
    let invalid = |error: http::Error| Cause::Exchange(error.to_string());
    let mut asked = http::Request::get(request.url.request_target())
        .body(Empty::new())
        .map_err(invalid)?;
    let host = HeaderValue::try_from(request.host());
    let host = host.map_err(|_| Cause::Header("Host".into()))?;
    let map = asked.headers_mut();
    map.insert(HOST, host);
    map.extend(headers);
    map.insert(CONNECTION, HeaderValue::from_static("close"));
    Ok(asked)
}

async fn over_h2(
    request: &Request,
    mut headers: HeaderMap,
    stream: Stream,
    deadline: Option<Instant>,
) -> Result<Answer, Error> {
    let failed = |cause| Error::Get {
        url: request.url.to_string(),
        cause,
    };
    let exchange = |error: h2::Error| failed(Cause::Exchange(h2_text(&error)));
    let timeout = || failed(Cause::Timeout);
    headers.remove(CONNECTION);
    let uri = http::Uri::builder()
        .scheme(request.url.scheme())
        .authority(request.host())
        .path_and_query(request.url.request_target())
        .build()
        .map_err(|error| failed(Cause::Exchange(error.to_string())))?;
    let mut asked = http::Request::new(());
    *asked.uri_mut() = uri;
    *asked.headers_mut() = headers;
    let shaken = within(deadline, h2::client::handshake(stream)).await;
    let (sender, connection) = shaken.ok_or_else(timeout)?.map_err(exchange)?;
    let work = async {
        let ready = within(deadline, sender.ready()).await;
        let mut sender = ready.ok_or_else(timeout)?.map_err(exchange)?;
        let (response, _) = sender.send_request(asked, true).map_err(exchange)?;
        let response = within(deadline, response).await;
        let (head, mut data) = response
            .ok_or_else(timeout)?
            .map_err(exchange)?
            .into_parts();
        let mut body = Vec::new();
        while body.len() < MAX_OUTPUT {
            let chunk = within(deadline, data.data()).await;
            let Some(chunk) = chunk.ok_or_else(body_timeout)? else {
                break;
            };
            let chunk = chunk.map_err(|error| Error::Body(h2_text(&error)))?;
            // What was read may be sent again; an error says that nobody wants to.
            let _ = data.flow_control().release_capacity(chunk.len());
            body.extend_from_slice(&chunk);
        }
        Ok(answer(head.status, &head.headers, body))
    };
    driven(connection, work).await
}

fn answer(status: http::StatusCode, headers: &HeaderMap, mut body: Vec<u8>) -> Answer {
    body.truncate(MAX_OUTPUT);
    let location = headers.get(LOCATION);
    Answer {
        status: status.as_u16(),
        body: body.into(),
        location: location.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()),
    }
}

/// Keeps a connection going until the work on it is done.
pub(super) async fn driven<T>(connection: impl Future, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    tokio::select! {
        biased;
        done = &mut work => return done,
        _ = connection => {}
    }
    work.await
}

fn hyper_text(error: &hyper::Error) -> String {
    if error.is_incomplete_message() {
        return "EOF".into();
    }
    if error.is_parse() {
        return format!("malformed HTTP response: {error}");
    }
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<std::io::Error>() {
            return format!("read: {}", stream::reason(io));
        }
        source = cause.source();
    }
    error.to_string()
}

pub(super) fn h2_text(error: &h2::Error) -> String {
    match error.get_io() {
        Some(io) => format!("read: {}", stream::reason(io)),
        None => format!("http2: {error}"),
    }
}
