//! Port forwarding: pairs of streams, one for data and one for an error, per forwarded connection.
//!
//! Source: `k8s.io/cri-streaming/pkg/streaming/portforward`. Three wires: SPDY, SPDY tunnelled through
//! WebSocket (kubectl), and WebSocket with two channels per port that the query names.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use component::serving::{Request, Response, text};
use component::streaming::websocket::{self, Channel, Protocol, Side};
use component::streaming::{Driver, Options, Stream, Streams, drive, spdy, upgrade};
use component::supervisor::chain;
use component::{Supervisor, Task};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use http::header::SEC_WEBSOCKET_PROTOCOL;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tokio::io::AsyncWriteExt;

use super::remote::{CREATION_LIMIT, STREAM_TYPE, Ways};
use super::request::Query;
use crate::runtime::Runtime;

/// The one protocol that SPDY clients speak.
const PROTOCOL: &str = "portforward.k8s.io";
/// Those of WebSocket with channels.
const CHANNELS: &[&str] = &["v4.channel.k8s.io", "v4.base64.channel.k8s.io"];
const PORT: HeaderName = HeaderName::from_static("port");
/// Which data stream belongs to which error stream.
const REQUEST_ID: HeaderName = HeaderName::from_static("requestid");
/// A byte counts the channels, two of which belong to a port.
const MAX_PORTS: usize = 128;

/// Whose ports.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) runtime: Arc<dyn Runtime>,
    pub(super) sandbox: String,
    pub(super) pod: String,
    pub(super) uid: String,
}

/// The ports that a WebSocket client names; SPDY clients name them later.
pub(super) fn ports(request: &Request, query: &Query, ways: Ways) -> Result<Vec<u16>, String> {
    let headers = request.headers();
    if !upgrade::is_websocket(headers) || !tunnelled(headers, ways).is_empty() {
        return Ok(Vec::new());
    }
    let mut ports = Vec::new();
    for value in query.all("port") {
        if value.is_empty() {
            return Err("query parameter \"port\" cannot be empty".to_owned());
        }
        for port in value.split(',') {
            match port.parse() {
                Ok(0) => return Err(format!("port {value:?} must be > 0")),
                Ok(port) => ports.push(port),
                Err(e) => return Err(format!("unable to parse {value:?} as a port: {e}")),
            }
        }
    }
    match ports.len() {
        0 => Err("query parameter \"port\" is required".to_owned()),
        1..=MAX_PORTS => Ok(ports),
        _ => Err(format!("at most {MAX_PORTS} ports can be forwarded")),
    }
}

/// What a WebSocket client would tunnel, where that can be had.
fn tunnelled(headers: &HeaderMap, ways: Ways) -> Vec<&str> {
    if ways.new_websockets {
        upgrade::tunnelled(headers)
    } else {
        Vec::new()
    }
}

/// Switches to streams and forwards in a task of its own.
pub(super) fn serve(
    mut request: Request,
    ports: &[u16],
    ways: Ways,
    target: Target,
    tasks: &Supervisor,
) -> Response {
    let options = Options { idle: ways.idle };
    let upgraded = hyper::upgrade::on(&mut request);
    let (method, headers) = (request.method(), request.headers());
    if !upgrade::is_asked(headers) {
        let reason = "Upgrade request required\n";
        return text(StatusCode::INTERNAL_SERVER_ERROR, reason);
    }
    if !upgrade::is_websocket(headers) {
        let answer = match upgrade::spdy(headers, &[PROTOCOL]) {
            Ok((_, answer)) => answer,
            Err(refusal) => return *refusal,
        };
        start(tasks, upgraded, move |io| spdy::server(io, options), target);
        return answer;
    }
    let tunnelled = tunnelled(headers, ways);
    if !tunnelled.is_empty() {
        return tunnel(&request, &tunnelled, upgraded, options, target, tasks);
    }
    let (protocol, answer) = match upgrade::websocket(method, headers, CHANNELS, true) {
        Ok(agreed) => agreed,
        Err(refusal) => return *refusal,
    };
    let protocol = Protocol::named(protocol.unwrap_or_default());
    let channels = channels(ports);
    let connect = move |io| websocket::channels(io, Side::Server, options, protocol, channels);
    start(tasks, upgraded, connect, target);
    answer
}

fn tunnel(
    request: &Request,
    tunnelled: &[&str],
    upgraded: hyper::upgrade::OnUpgrade,
    options: Options,
    target: Target,
    tasks: &Supervisor,
) -> Response {
    if !tunnelled.contains(&PROTOCOL) {
        let reason = format!(
            "unable to upgrade: unable to negotiate protocol: client supports [{}], server accepts [{PROTOCOL}]\n",
            tunnelled.join(" ")
        );
        return text(StatusCode::FORBIDDEN, reason);
    }
    let name = format!("{}{PROTOCOL}", upgrade::TUNNEL);
    let agreed = upgrade::websocket(request.method(), request.headers(), &[&name], false);
    let mut answer = match agreed {
        Ok((_, answer)) => answer,
        Err(refusal) => return *refusal,
    };
    if let Ok(name) = HeaderValue::from_str(&name) {
        answer.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, name);
    }
    let connect = move |io| {
        let (inside, outer) = websocket::tunnel(io, Side::Server);
        let (streams, inner) = spdy::server(inside, options);
        let both: Driver = Box::pin(async move {
            let (inner, outer) = tokio::join!(inner, outer);
            inner.and(outer)
        });
        (streams, both)
    };
    start(tasks, upgraded, connect, target);
    answer
}

fn start(
    tasks: &Supervisor,
    upgraded: hyper::upgrade::OnUpgrade,
    connect: impl FnOnce(upgrade::Io) -> (Streams, Driver) + Send + 'static,
    target: Target,
) {
    tasks.spawn(Task::Worker, "port-forward", async move {
        match upgraded.await {
            Ok(io) => {
                let (streams, driver) = connect(hyper_util::rt::TokioIo::new(io));
                drive(driver, forward(streams, target)).await;
            }
            Err(error) => tracing::debug!(error = %error, "The connection was not upgraded"),
        }
    });
}

/// A data and an error channel for each port; the first thing said on both is the port.
fn channels(ports: &[u16]) -> Vec<Channel> {
    let of_port = |(number, port): (usize, &u16)| {
        let channel = |kind: &'static str| Channel {
            headers: HeaderMap::from_iter([
                (STREAM_TYPE, HeaderValue::from_static(kind)),
                (PORT, HeaderValue::from(*port)),
                (REQUEST_ID, HeaderValue::from(number)),
            ]),
            read: kind == DATA,
            write: true,
            greeting: Some(port.to_le_bytes().to_vec()),
        };
        [channel(DATA), channel(ERROR)]
    };
    ports.iter().enumerate().flat_map(of_port).collect()
}

const DATA: &str = "data";
const ERROR: &str = "error";

/// Streams that wait for their other half.
#[derive(Default)]
struct Waiting {
    halves: BTreeMap<String, Half>,
}

struct Half {
    stream: Stream,
    until: tokio::time::Instant,
}

/// A whole pair.
struct Pair {
    data: Stream,
    error: Stream,
    port: u16,
}

/// What becomes of a stream.
enum Matched {
    Whole(Box<Pair>),
    Waits,
    /// With the reason, which goes to this stream.
    Refused(Box<Stream>, String),
}

impl Waiting {
    fn add(&mut self, stream: Stream, until: tokio::time::Instant) -> Matched {
        let kind = stream.header(STREAM_TYPE.as_str()).to_owned();
        let port: Option<u16> = stream.header(PORT.as_str()).parse().ok();
        let Some(port) = port.filter(|port| *port > 0) else {
            let reason = "header \"port\" is required and must be a port".to_owned();
            return Matched::Refused(Box::new(stream), reason);
        };
        if kind != DATA && kind != ERROR {
            return Matched::Refused(Box::new(stream), format!("invalid stream type {kind:?}"));
        }
        let id = request_id(&stream, &kind);
        let Some(other) = self.halves.remove(&id) else {
            self.halves.insert(id, Half { stream, until });
            return Matched::Waits;
        };
        if other.stream.header(STREAM_TYPE.as_str()) == kind {
            let reason =
                format!("error processing stream for request {id}: {kind} stream already assigned");
            self.halves.insert(id, other);
            return Matched::Refused(Box::new(stream), reason);
        }
        let (data, error) = if kind == DATA {
            (stream, other.stream)
        } else {
            (other.stream, stream)
        };
        Matched::Whole(Box::new(Pair { data, error, port }))
    }

    /// Takes out what has waited for too long; the time to look again.
    fn expire(&mut self, now: tokio::time::Instant) -> (Vec<Stream>, Option<tokio::time::Instant>) {
        let late: Vec<String> = self
            .halves
            .iter()
            .filter(|(_, half)| half.until <= now)
            .map(|(id, _)| id.clone())
            .collect();
        let late = late
            .iter()
            .filter_map(|id| self.halves.remove(id))
            .map(|half| half.stream)
            .collect();
        (late, self.halves.values().map(|half| half.until).min())
    }
}

/// Old clients give no id: their data stream comes right after its error stream.
fn request_id(stream: &Stream, kind: &str) -> String {
    match stream.header(REQUEST_ID.as_str()) {
        "" if kind == DATA => stream.id.saturating_sub(2).to_string(),
        "" => stream.id.to_string(),
        id => id.to_owned(),
    }
}

/// Forwards until the client opens no more connections and all are over.
async fn forward(mut streams: Streams, target: Target) {
    let mut waiting = Waiting::default();
    let mut under_way = FuturesUnordered::new();
    let mut more = true;
    while more || !under_way.is_empty() {
        let (late, next) = waiting.expire(tokio::time::Instant::now());
        for stream in late {
            let reason = "timed out waiting for streams".to_owned();
            under_way.push(boxed(refuse(stream, reason)));
        }
        tokio::select! {
            stream = streams.accept(), if more => match stream {
                None => more = false,
                Some(stream) => {
                    let until = tokio::time::Instant::now() + CREATION_LIMIT;
                    match waiting.add(stream, until) {
                        Matched::Whole(pair) => under_way.push(boxed(connect(*pair, target.clone()))),
                        Matched::Refused(stream, reason) => under_way.push(boxed(refuse(*stream, reason))),
                        Matched::Waits => {}
                    }
                }
            },
            Some(()) = under_way.next() => {}
            () = sleep_until(next) => {}
        }
    }
}

fn boxed(
    work: impl Future<Output = ()> + Send + 'static,
) -> futures::future::BoxFuture<'static, ()> {
    Box::pin(work)
}

async fn sleep_until(time: Option<tokio::time::Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Tells why a stream is of no use; a data stream is reset.
async fn refuse(mut stream: Stream, reason: String) {
    tracing::debug!(reason, "A port is not forwarded");
    if stream.header(STREAM_TYPE.as_str()) == ERROR {
        let _ = stream.writer.write_all(reason.as_bytes()).await;
        let _ = stream.writer.shutdown().await;
    }
}

/// Connects one pair to its port.
async fn connect(mut pair: Pair, target: Target) {
    let connected = target
        .runtime
        .port_forward(&target.sandbox, pair.port)
        .await;
    let connected = connected.map_err(|error| chain(&error));
    let copied = match connected {
        Ok(mut port) => copy(&mut pair.data, &mut port)
            .await
            .map_err(|e| e.to_string()),
        Err(reason) => Err(reason),
    };
    match copied {
        Ok(()) => {
            let _ = pair.data.writer.shutdown().await;
            let _ = pair.error.writer.shutdown().await;
        }
        Err(reason) => {
            let reason = format!(
                "error forwarding port {} to pod {}, uid {}: {reason}",
                pair.port, target.pod, target.uid
            );
            // The data stream is reset when it is dropped.
            refuse(pair.error, reason).await;
        }
    }
}

/// Copies both ways until both ends are done.
async fn copy(
    data: &mut Stream,
    port: &mut Box<dyn crate::runtime::ByteStream>,
) -> std::io::Result<()> {
    let (mut from_port, mut to_port) = tokio::io::split(port);
    let inwards = async {
        // Whoever listens may hang up first; that is no error.
        let _ = tokio::io::copy(&mut data.reader, &mut to_port).await;
        let _ = to_port.shutdown().await;
    };
    let outwards = async {
        let copied = tokio::io::copy(&mut from_port, &mut data.writer).await;
        let _ = data.writer.shutdown().await;
        copied
    };
    let (copied, ()) = tokio::join!(outwards, inwards);
    match copied {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()), // the client is gone
        copied => copied.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_port_has_two_channels_that_greet_with_it() {
        let channels = channels(&[8080, 5000]);
        let greetings: Vec<_> = channels
            .iter()
            .map(|c| c.greeting.clone().unwrap())
            .collect();
        assert_eq!(
            greetings,
            [[0x90, 0x1f], [0x90, 0x1f], [0x88, 0x13], [0x88, 0x13]]
        );
        assert_eq!(channels[2].headers["port"], "5000");
        assert!(channels[2].read && !channels[3].read);
    }
}
