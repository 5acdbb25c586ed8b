//! Requests as spans: those that come in, and those that go out for them.
//!
//! Names and attributes are those of `otelhttp` (`internal/semconv/{server,client}.go`) and of its users.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::SystemTime;

use bytes::Bytes;
use http::header::{HOST, USER_AGENT};
use http::{HeaderMap, HeaderName, Method, StatusCode, Uri, Version};
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};

use super::context::Carried;
use super::pb::span::SpanKind;
use super::span::{Attributes, Begin, Beside, Node, Slot, scope};
use super::{Running, Tracer};
use crate::serving::{Body, Connection, Response};
use crate::supervisor::BoxError;

static FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// A request that came in.
pub struct Incoming<'a> {
    pub method: &'a Method,
    pub uri: &'a Uri,
    pub version: Version,
    pub headers: &'a HeaderMap,
    pub connection: &'a Connection,
    /// Bytes of its body, if that is known.
    pub body: Option<u64>,
    pub received: SystemTime,
    /// By which the audit log names it; empty where there is none.
    pub audit_id: &'a str,
    /// What the server is called, if not as the client calls it.
    pub server: Option<&'a str>,
}

impl Incoming<'_> {
    fn describe(&self, a: &mut Attributes<'_>) {
        let secure = self.connection.tls.is_some();
        let named = self.uri.authority().map(http::uri::Authority::as_str);
        let header = self.headers.get(HOST).and_then(|host| host.to_str().ok());
        let (host, port) = match self.server {
            Some(server) => (server, None),
            None => split(named.or(header).unwrap_or_default()),
        };
        a.text("server.address", host);
        method(a, self.method);
        a.text("url.scheme", if secure { "https" } else { "http" });
        server_port(a, secure, port);
        let peer = self.connection.peer.ip().to_canonical().to_string();
        a.text("network.peer.address", &peer);
        a.int("network.peer.port", self.connection.peer.port().into());
        let text = |name: &HeaderName| self.headers.get(name).and_then(|v| v.to_str().ok());
        if let Some(agent) = text(&USER_AGENT).filter(|agent| !agent.is_empty()) {
            a.text("user_agent.original", agent);
        }
        let forwarded = text(&FORWARDED_FOR).and_then(|all| all.split(',').next());
        let client = forwarded.filter(|client| !client.is_empty());
        a.text("client.address", client.unwrap_or(&peer));
        a.text("url.path", self.uri.path());
        a.text("network.protocol.version", version(self.version));
        let target = self.uri.path_and_query();
        a.text("http.target", target.map_or("/", |target| target.as_str()));
        if !self.audit_id.is_empty() {
            a.audit_id();
        }
        if let Some(bytes) = self.body.filter(|bytes| *bytes > 0) {
            a.int(
                "http.request.body.size",
                i64::try_from(bytes).unwrap_or(i64::MAX),
            );
        }
    }
}

impl Tracer {
    /// The span of a request that came in, and what goes on to those who are asked for it; none if there is
    /// nothing to tell anybody. What the client says is believed, its decision to record included, if it is
    /// `trusted`; else a trace begins here, which names the client's.
    ///
    /// Without a collector what clients say is handed on, as upstream's daemons do it.
    #[must_use]
    pub fn incoming(
        &self,
        request: &Incoming<'_>,
        trusted: impl FnOnce() -> bool,
        name: impl FnOnce() -> String,
    ) -> Option<Serving> {
        let carried = Carried::read(request.headers);
        let Some(Running { sampler, queue }) = self.running() else {
            let slot = (!carried.is_nothing()).then(|| Slot::passing(carried))?;
            return Some(Serving { slot, span: None });
        };
        let (said, trusted) = (carried.span, trusted());
        let parent = said.filter(|_| trusted);
        let context = sampler.span(parent.as_ref());
        let carried = Carried {
            state: carried.state.filter(|_| trusted),
            ..carried
        };
        let record = context.is_sampled().then(|| {
            let begin = Begin {
                scope: scope::HTTP,
                name: name(),
                kind: SpanKind::Server,
                start: request.received,
                attributes: Attributes::of(request.audit_id, |a| request.describe(a)),
            };
            let state = carried.state.as_ref().and_then(|s| s.to_str().ok());
            let state = state.unwrap_or_default();
            let mut record = begin.record(&context, parent.as_ref(), true, state);
            if let Some(client) = said.filter(|_| !trusted) {
                record.link(&client);
            }
            record
        });
        let recorded = record.is_some();
        let node = Node::first(context, record);
        let span = recorded.then(|| Beside {
            queue: queue.clone(),
            node: Arc::clone(&node),
        });
        let request = request.audit_id.to_owned();
        let slot = Slot::new(queue.clone(), carried, request, node);
        Some(Serving { slot, span })
    }

    /// The span of a request that goes out: within the one that is open, else of a trace that begins here.
    /// The other side is told of it in the request's headers.
    #[must_use]
    pub fn outgoing<B>(&self, request: &mut http::Request<B>) -> Asking {
        let begin = |request: &http::Request<B>| Begin {
            scope: scope::HTTP,
            name: format!("HTTP {}", request.method()),
            kind: SpanKind::Client,
            start: SystemTime::now(),
            attributes: Attributes::of("", |a| describe(request, a)),
        };
        if let Some(slot) = Slot::current() {
            let span = slot.beside(|| begin(request));
            match &span {
                Some(span) => slot.carried(span.context()).write(request.headers_mut()),
                None => hand_on(request.headers_mut()),
            }
            return Asking(span.map(Arc::new));
        }
        let Some(Running { sampler, queue }) = self.running() else {
            return Asking(None);
        };
        let context = sampler.span(None);
        let record = context.is_sampled();
        let record = record.then(|| begin(request).record(&context, None, false, ""));
        let carried = Carried {
            span: Some(context),
            ..Carried::default()
        };
        carried.write(request.headers_mut());
        Asking(record.map(|record| {
            Arc::new(Beside {
                queue: queue.clone(),
                node: Node::first(context, Some(record)),
            })
        }))
    }
}

/// Tells another server of the span that is open, in the headers of a request to it.
pub fn hand_on(headers: &mut HeaderMap) {
    store::trace::with(|trace| trace.tell(headers));
}

/// A request that is being answered. Its span ends with the last byte of the answer.
#[must_use = "its span ends when it is dropped"]
pub struct Serving {
    slot: Arc<Slot>,
    span: Option<Beside>,
}

impl Serving {
    /// Works on it.
    pub async fn within<F: Future>(&self, work: F) -> F::Output {
        store::trace::within(Arc::clone(&self.slot) as _, work).await
    }

    /// Notes the answer.
    pub fn answered(self, response: Response) -> Response {
        let Some(span) = self.span else {
            return response;
        };
        let status = response.status();
        if status.is_server_error() {
            span.node.failed("");
        }
        let told =
            |a: &mut Attributes<'_>| a.int("http.response.status_code", status.as_u16().into());
        span.node.add(Attributes::of("", told));
        response.map(|body| {
            Sent {
                body,
                span,
                bytes: 0,
            }
            .boxed_unsync()
        })
    }
}

/// An answer on its way.
struct Sent {
    body: Body,
    span: Beside,
    bytes: u64,
}

impl hyper::body::Body for Sent {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame {
            self.bytes += frame.data_ref().map_or(0, Bytes::len) as u64;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        if self.bytes > 0 {
            let bytes = i64::try_from(self.bytes).unwrap_or(i64::MAX);
            let told = Attributes::of("", |a| a.int("http.response.body.size", bytes));
            self.span.node.add(told);
        }
    }
}

/// A request that is being asked. Its span ends when the last of its clones is dropped: keep one in the
/// answer.
#[derive(Clone)]
pub struct Asking(Option<Arc<Beside>>);

impl Asking {
    /// Notes how it was answered, and keeps the span until the answer is read.
    pub fn answered<B>(self, response: &mut http::Response<B>) {
        let Some(span) = &self.0 else { return };
        let status = response.status();
        let bad = status.is_client_error() || status.is_server_error();
        let told = Attributes::of("", |a| {
            a.int("http.response.status_code", status.as_u16().into());
            if bad {
                a.text("error.type", status.as_str());
            }
        });
        span.node.add(told);
        if bad {
            span.node.failed("");
        }
        // An upgraded connection is no part of the request any more.
        if status != StatusCode::SWITCHING_PROTOCOLS {
            response.extensions_mut().insert(self);
        }
    }

    /// Notes that there is no answer.
    pub fn failed(&self, why: &dyn std::error::Error) {
        if let Some(span) = &self.0 {
            let why = why.to_string();
            span.node
                .add(Attributes::of("", |a| a.text("error.type", "_OTHER")));
            span.node.failed(&why);
        }
    }
}

fn describe<B>(request: &http::Request<B>, a: &mut Attributes<'_>) {
    let uri = request.uri();
    method(a, request.method());
    a.text("url.full", uri.to_string());
    let header = request
        .headers()
        .get(HOST)
        .and_then(|host| host.to_str().ok());
    let named = uri.authority().map(http::uri::Authority::as_str).or(header);
    let (host, port) = split(named.unwrap_or_default());
    a.text("server.address", host);
    server_port(a, uri.scheme_str() == Some("https"), port);
    // As Go has it, whatever is spoken in the end.
    a.text("network.protocol.version", "1.1");
}

/// Methods that have a name of their own.
const METHODS: [Method; 9] = [
    Method::CONNECT,
    Method::DELETE,
    Method::GET,
    Method::HEAD,
    Method::OPTIONS,
    Method::PATCH,
    Method::POST,
    Method::PUT,
    Method::TRACE,
];

fn method(a: &mut Attributes<'_>, method: &Method) {
    if METHODS.contains(method) {
        a.text("http.request.method", method.as_str());
        return;
    }
    let upper = method.as_str().to_ascii_uppercase();
    let known = METHODS.iter().find(|known| known.as_str() == upper);
    a.text(
        "http.request.method",
        known.map_or("_OTHER", Method::as_str),
    );
    a.text("http.request.method_original", method.as_str());
}

/// A port that is not the scheme's own.
fn server_port(a: &mut Attributes<'_>, secure: bool, port: Option<u16>) {
    let usual = if secure { 443 } else { 80 };
    if let Some(port) = port.filter(|port| *port != usual) {
        a.int("server.port", port.into());
    }
}

/// Host and port; IPv6 without its brackets.
fn split(authority: &str) -> (&str, Option<u16>) {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, port),
        _ => (authority, ""),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    (host, port.parse().ok())
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2.0",
        _ => "1.1",
    }
}
