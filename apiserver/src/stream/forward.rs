//! A request sent on to a backend: its headers, and its connection if that is upgraded.
//!
//! A connection is handed over only once the backend has answered 101: whatever else it answers is an
//! ordinary answer, and the client's next request is read by this server again (CVE-2018-1002105).

use std::fmt::Write;

use component::Task;
use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use resources::status::Failure;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::body::{self, Body};
use crate::chain::Exchange;
use crate::kubelet::{Kubelets, Target};
use crate::metrics::Running;

/// Headers about one connection, not about the request (RFC 9110, 7.6.1).
const HOP_BY_HOP: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
/// Who a front proxy says the user is, and who the user wants to be.
const IDENTITIES: [&str; 2] = ["x-remote-", "impersonate-"];

/// An upgrade that a client asks for.
pub(crate) struct Upgrade {
    /// `SPDY/3.1`, `websocket`, or what else the backend may know.
    protocol: HeaderValue,
    /// The client's end of the connection, once it is handed over.
    pub(super) end: OnUpgrade,
}

/// What a client asks for, if that is an upgrade.
pub(crate) fn upgrade(headers: &HeaderMap, end: &mut Option<OnUpgrade>) -> Option<Upgrade> {
    let asks = component::streaming::upgrade::is_asked(headers);
    let protocol = headers.get(UPGRADE).filter(|_| asks)?.clone();
    let end = end.take()?;
    Some(Upgrade { protocol, end })
}

/// The request to the backend, still without a body. Nothing that tells who the client is goes along.
pub(crate) fn head(x: &Exchange, target: &Target, path: &str) -> Result<Request<Body>, Failure> {
    let mut request = Request::new(body::full(Vec::new()));
    *request.method_mut() = x.method.clone();
    *request.uri_mut() = path
        .parse()
        .map_err(|e| Failure::bad_request(format!("{path}: {e}")))?;
    let headers = request.headers_mut();
    *headers = end_to_end(&x.headers);
    headers.remove(AUTHORIZATION);
    let own: Vec<HeaderName> = headers
        .keys()
        .filter(|name| IDENTITIES.iter().any(|i| name.as_str().starts_with(i)))
        .cloned()
        .collect();
    for name in own {
        headers.remove(name);
    }
    if !headers.contains_key(HOST) {
        let host = x
            .uri
            .authority()
            .map_or_else(|| target.authority(), ToString::to_string);
        headers.insert(HOST, value(&host)?);
    }
    let mut forwarded = list(headers, "x-forwarded-for");
    if !forwarded.is_empty() {
        forwarded.push_str(", ");
    }
    write!(forwarded, "{}", x.connection.peer.ip().to_canonical()).map_err(Failure::internal)?;
    headers.insert("x-forwarded-for", value(&forwarded)?);
    // The other side belongs to the trace as this server sees it, not as the client said.
    component::tracing::hand_on(headers);
    Ok(request)
}

pub(crate) fn value(text: &str) -> Result<HeaderValue, Failure> {
    HeaderValue::from_str(text).map_err(|e| Failure::bad_request(e.to_string()))
}

/// The values of a header as one list.
fn list(headers: &HeaderMap, name: &str) -> String {
    let all: Vec<&str> = headers
        .get_all(name)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .collect();
    all.join(", ")
}

/// Without what is about the connection, be it so by itself or because `Connection` names it.
pub(crate) fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let named = list(headers, "connection").to_ascii_lowercase();
    let named: Vec<&str> = named.split(',').map(str::trim).collect();
    let mut kept = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        if !HOP_BY_HOP.contains(&name.as_str()) && !named.contains(&name.as_str()) {
            kept.append(name.clone(), value.clone());
        }
    }
    kept
}

/// What a backend says to a request for an upgrade.
pub(super) enum Answer {
    /// It agrees: the connection is there to be taken.
    Switched(Response<Incoming>),
    /// It does not, and the client is told so.
    Refused(Response<Body>),
}

/// Sends a request that asks for an upgrade.
pub(super) async fn ask(
    kubelets: &Kubelets,
    target: &Target,
    request: Request<Body>,
) -> Result<Answer, Failure> {
    let problem =
        |e: &dyn std::fmt::Display| Failure::internal(format!("error dialing backend: {e}"));
    let mut sender = kubelets.connect(target).await.map_err(|e| problem(&e))?;
    let response = sender
        .send_request(request)
        .await
        .map_err(|e| problem(&e))?;
    let status = response.status();
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(Answer::Switched(response));
    }
    if status.as_u16() < 400 {
        let text = format!("invalid upgrade response: status code {}", status.as_u16());
        return Err(Failure::internal(text));
    }
    let (head, incoming) = response.into_parts();
    let mut refused = Response::new(incoming.map_err(Into::into).boxed_unsync());
    *refused.status_mut() = status;
    *refused.headers_mut() = end_to_end(&head.headers);
    refused
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("close"));
    Ok(Answer::Refused(refused))
}

/// Sends a request that asks for an upgrade, and joins both connections if the backend agrees.
pub(crate) async fn upgraded(
    kubelets: &Kubelets,
    target: &Target,
    mut request: Request<Body>,
    client: Upgrade,
    counted: &mut Option<Running>,
) -> Result<Response<Body>, Failure> {
    let headers = request.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, client.protocol);
    let mut response = match ask(kubelets, target, request).await? {
        Answer::Switched(response) => response,
        Answer::Refused(refused) => return Ok(refused),
    };
    let backend = hyper::upgrade::on(&mut response);
    let counted = counted.take().map(Running::switched);
    kubelets.tasks().spawn(Task::Background, "stream", async {
        join(client.end, backend).await;
        drop(counted);
    });
    let mut agreed = Response::new(body::full(Vec::new()));
    *agreed.status_mut() = response.status();
    *agreed.headers_mut() = response.headers().clone();
    agreed.headers_mut().remove(CONTENT_LENGTH);
    agreed.headers_mut().remove(TRANSFER_ENCODING);
    Ok(agreed)
}

async fn join(client: OnUpgrade, backend: OnUpgrade) {
    match tokio::try_join!(client, backend) {
        Ok((client, backend)) => copy(TokioIo::new(client), TokioIo::new(backend)).await,
        Err(error) => tracing::debug!(%error, "A stream was not handed over"),
    }
}

/// Carries bytes both ways until one side ends.
pub(super) async fn copy(
    client: impl AsyncRead + AsyncWrite,
    backend: impl AsyncRead + AsyncWrite,
) {
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_backend, mut to_backend) = tokio::io::split(backend);
    let ended = tokio::select! {
        ended = tokio::io::copy(&mut from_client, &mut to_backend) => ended,
        ended = tokio::io::copy(&mut from_backend, &mut to_client) => ended,
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "A stream broke");
    }
}

#[cfg(test)]
mod tests;
