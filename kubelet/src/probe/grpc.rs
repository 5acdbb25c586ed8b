//! gRPC's health protocol, version 1: upstream's `pkg/probe/grpc`.
//!
//! One call with one field out and one back needs no gRPC library: it is written over HTTP/2 by hand.

use std::time::Duration;

use bytes::Bytes;
use component::client::path_decode;
use http::header::{CONTENT_TYPE, TE, USER_AGENT};
use http::{HeaderMap, HeaderValue};
use k8s_openapi::api::core::v1::GRPCAction;
use tokio::time::Instant;

use super::run::Outcome;
use super::stream::{self, Stream, Tls, within};
use super::{target, web};

const METHOD: &str = "/grpc.health.v1.Health/Check";
/// Of an answer; the real one has two bytes.
const MAX_MESSAGE: usize = 4 << 10;
/// gRPC's pause before it connects again, and how it grows.
const BACKOFF: Duration = Duration::from_secs(1);
const GROWTH: f64 = 1.6;

/// Asks how a service is.
pub(super) async fn check(
    host: &str,
    action: &GRPCAction,
    timeout: Duration,
    tls: &Tls,
) -> Outcome {
    let Ok(port) = u16::try_from(action.port) else {
        return Outcome::unknown(target::Error::Number(action.port));
    };
    let at = target::join(host, port);
    let deadline = Instant::now() + timeout;
    let service = action.service.as_deref().unwrap_or_default();
    let secure = action.mode.as_deref() == Some("TLS");
    let connected = connect(host, port, secure.then_some(tls), deadline).await;
    let spoken = match connected {
        Some((sender, connection)) => {
            let call = call(sender, &at, service, secure);
            within(Some(deadline), web::driven(connection, call)).await
        }
        None => {
            let timeout = target::go_duration(timeout);
            return Outcome::Failure(format!(
                "timeout: failed to connect service {at:?} within {timeout}: context deadline \
                 exceeded"
            ));
        }
    };
    match spoken {
        None => {
            let timeout = target::go_duration(timeout);
            Outcome::Failure(format!(
                "timeout: health rpc did not complete within {timeout}"
            ))
        }
        Some(Ok(SERVING)) => Outcome::Success,
        Some(Ok(status)) => Outcome::Failure(format!(
            "service unhealthy (responded with {:?})",
            status_name(status)
        )),
        Some(Err(status)) => Outcome::Failure(status.failure(timeout)),
    }
}

const SERVING: u64 = 1;

fn status_name(status: u64) -> String {
    match status {
        0 => "UNKNOWN".into(),
        1 => "SERVING".into(),
        2 => "NOT_SERVING".into(),
        3 => "SERVICE_UNKNOWN".into(),
        other => other.to_string(),
    }
}

/// How a call ended that did not succeed.
#[derive(Debug, PartialEq, Eq)]
struct Status {
    code: u32,
    message: String,
}

/// Codes of gRPC, by number.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];
const UNKNOWN: u32 = 2;
const DEADLINE_EXCEEDED: u32 = 4;
const UNIMPLEMENTED: u32 = 12;
const INTERNAL: u32 = 13;
const UNAVAILABLE: u32 = 14;

impl Status {
    fn new(code: u32, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { code, message }
    }

    fn failure(&self, timeout: Duration) -> String {
        let message = &self.message;
        match self.code {
            UNIMPLEMENTED => format!(
                "error: this server does not implement the grpc health protocol \
                 (grpc.health.v1.Health): {message}"
            ),
            DEADLINE_EXCEEDED => format!(
                "timeout: health rpc did not complete within {}",
                target::go_duration(timeout)
            ),
            code => {
                let name = usize::try_from(code).ok().and_then(|c| CODES.get(c));
                let name = name.map_or_else(|| format!("Code({code})"), ToString::to_string);
                format!("error: health rpc probe failed: rpc error: code = {name} desc = {message}")
            }
        }
    }
}

type Connected = (
    h2::client::SendRequest<Bytes>,
    h2::client::Connection<Stream, Bytes>,
);

/// Connects, again and again until the deadline: a server that is not there yet may come.
async fn connect(host: &str, port: u16, tls: Option<&Tls>, deadline: Instant) -> Option<Connected> {
    let mut pause = BACKOFF;
    loop {
        if let Some(connected) = connect_once(host, port, tls, deadline).await {
            return Some(connected);
        }
        within(Some(deadline), tokio::time::sleep(pause)).await?;
        pause = pause.mul_f64(GROWTH);
    }
}

async fn connect_once(
    host: &str,
    port: u16,
    tls: Option<&Tls>,
    deadline: Instant,
) -> Option<Connected> {
    let tcp = stream::connect(host, port, Some(deadline)).await.ok()?;
    let stream = match tls {
        Some(tls) => tls.h2(tcp, host, Some(deadline)).await.ok()?,
        None => Stream::plain(tcp),
    };
    within(Some(deadline), h2::client::handshake(stream))
        .await?
        .ok()
}

/// Makes the call: the status of the service.
async fn call(
    sender: h2::client::SendRequest<Bytes>,
    at: &str,
    service: &str,
    secure: bool,
) -> Result<u64, Status> {
    let unavailable = |error: h2::Error| Status::new(UNAVAILABLE, web::h2_text(&error));
    let request = request(at, secure)?;
    let mut sender = sender.ready().await.map_err(unavailable)?;
    let (response, mut body) = sender.send_request(request, false).map_err(unavailable)?;
    body.send_data(message(service), true)
        .map_err(unavailable)?;
    let (head, mut data) = response.await.map_err(unavailable)?.into_parts();
    if let Some(status) = status_of(&head.headers) {
        return Err(status); // in headers, there is nothing but a failure
    }
    if head.status != http::StatusCode::OK {
        let text = format!(
            "unexpected HTTP status code received from server: {}",
            head.status
        );
        return Err(Status::new(UNKNOWN, text));
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = data.data().await {
        let chunk = chunk.map_err(unavailable)?;
        // What was read may be sent again; an error says that nobody wants to.
        let _ = data.flow_control().release_capacity(chunk.len());
        bytes.extend_from_slice(&chunk);
        if bytes.len() > MAX_MESSAGE {
            return Err(Status::new(INTERNAL, "the answer is too long"));
        }
    }
    let trailers = data.trailers().await.map_err(unavailable)?;
    match trailers.as_ref().and_then(status_of) {
        Some(Status { code: 0, .. }) => {}
        Some(status) => return Err(status),
        None => {
            return Err(Status::new(
                INTERNAL,
                "server closed the stream without sending trailers",
            ));
        }
    }
    serving_status(&bytes).ok_or_else(|| Status::new(INTERNAL, "the answer cannot be read"))
}

fn request(at: &str, secure: bool) -> Result<http::Request<()>, Status> {
    let agent = HeaderValue::try_from(web::user_agent("probe"));
    let scheme = if secure { "https" } else { "http" };
    let built = http::Request::post(format!("{scheme}://{at}{METHOD}"))
        .header(CONTENT_TYPE, "application/grpc")
        .header(TE, "trailers")
        .header(
            USER_AGENT,
            agent.unwrap_or_else(|_| HeaderValue::from_static("kube-probe")),
        )
        .body(());
    built.map_err(|error| Status::new(INTERNAL, error.to_string()))
}

/// The status in headers or trailers.
fn status_of(headers: &HeaderMap) -> Option<Status> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let code = text("grpc-status")?.parse().unwrap_or(UNKNOWN);
    let message = text("grpc-message").unwrap_or_default();
    // Messages are escaped with percent signs.
    Some(Status::new(code, path_decode(message)))
}

/// `HealthCheckRequest` with its length before it.
fn message(service: &str) -> Bytes {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a); // field 1, a string
        let mut length = service.len();
        while length >= 0x80 {
            message.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        message.push(length as u8);
        message.extend_from_slice(service.as_bytes());
    }
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let mut framed = vec![0]; // not compressed
    framed.extend_from_slice(&length.to_be_bytes());
    framed.extend(message);
    framed.into()
}

/// The status in a framed `HealthCheckResponse`; 0 if it says none.
pub(crate) fn serving_status(framed: &[u8]) -> Option<u64> {
    let (head, message) = framed.split_at_checked(5)?;
    let length = u32::from_be_bytes(head[1..].try_into().ok()?);
    if head[0] != 0 || usize::try_from(length).ok()? != message.len() {
        return None;
    }
    let mut status = 0;
    let mut rest = message;
    while !rest.is_empty() {
        let (key, after) = varint(rest)?;
        rest = match key & 7 {
            0 => {
                let (value, after) = varint(after)?;
                if key >> 3 == 1 {
                    status = value;
                }
                after
            }
            1 => after.get(8..)?,
            2 => {
                let (length, after) = varint(after)?;
                after.get(usize::try_from(length).ok()?..)?
            }
            5 => after.get(4..)?,
            _ => return None,
        };
    }
    Some(status)
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (at, byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[at + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests;
