//! A proxy between clients and an API server that lies: a run through it has to turn red, or the checker is blind.
//!
//! It speaks for clients with an administrator's certificate and passes everything on as it is, but for a few answers that
//! it changes in one way.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use futures::channel::mpsc;
use futures::{SinkExt, StreamExt};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::bench::client::{Call, Connection, Error as ClientError, JSON, in_background};
use crate::cluster::Cluster;
use crate::lines::Lines;
use crate::registry;

/// How it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// A GET is answered from an old answer.
    StaleGet,
    /// A list has one object as it was before.
    MixedList,
    /// A list lacks an object.
    ShortList,
    /// A write is done and answered with a conflict.
    DenyWrite,
    /// A write is not done and answered as if it were.
    LoseWrite,
    /// A watch leaves an event out.
    DropEvent,
    /// A watch tells an event twice.
    RepeatEvent,
    /// A watch tells two events in the wrong order.
    SwapEvents,
    /// A bookmark comes before the event that it claims.
    EarlyBookmark,
}

pub const LIES: &[(&str, Lie)] = &[
    ("stale-get", Lie::StaleGet),
    ("mixed-list", Lie::MixedList),
    ("short-list", Lie::ShortList),
    ("deny-write", Lie::DenyWrite),
    ("lose-write", Lie::LoseWrite),
    ("drop-event", Lie::DropEvent),
    ("repeat-event", Lie::RepeatEvent),
    ("swap-events", Lie::SwapEvents),
    ("early-bookmark", Lie::EarlyBookmark),
];

/// Reads `stale-get,drop-event`; `all` is what it says.
pub fn parse_lies(list: &str) -> Result<Vec<Lie>, String> {
    if list == "all" {
        return Ok(LIES.iter().map(|(_, lie)| *lie).collect());
    }
    list.split(',').map(str::parse).collect()
}

impl FromStr for Lie {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = LIES.iter().find(|(known, _)| *known == name);
        let names = || {
            LIES.iter()
                .map(|(name, _)| *name)
                .collect::<Vec<_>>()
                .join(", ")
        };
        known
            .map(|(_, lie)| *lie)
            .ok_or_else(|| format!("{name} is none of {}", names()))
    }
}

impl fmt::Display for Lie {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = LIES.iter().find(|(_, lie)| lie == self);
        out.write_str(known.map_or("", |(name, _)| name))
    }
}

#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error("the lying proxy cannot listen")]
    Listen(#[source] std::io::Error),
    #[error(transparent)]
    Credentials(#[from] registry::Error),
}

/// So few that what follows from one can be told from the rest.
const MOST: usize = 3;
/// Chances to lie that are let pass before each lie.
const EVERY: usize = 7;

/// What became of one lie.
struct Told {
    lie: Lie,
    times: usize,
    chances: usize,
}

struct State {
    lies: Vec<Told>,
    /// Objects as they were first seen, by name.
    old: HashMap<String, Value>,
}

/// What lies; it stands as long as its runtime.
pub(super) struct Proxy {
    servers: Vec<(String, SocketAddr)>,
    state: Arc<Mutex<State>>,
}

impl Proxy {
    /// Stands before the first API server of the cluster.
    pub(super) fn start(
        runtime: &tokio::runtime::Runtime,
        cluster: &Cluster,
        lies: &[Lie],
    ) -> Result<Self, Error> {
        let pki = cluster.spec.dir.join("pki");
        let mut tls = registry::tls(&pki.join("apiserver.crt"), &pki.join("apiserver.key"))?;
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let lies = lies.iter().map(|lie| Told {
            lie: *lie,
            times: 0,
            chances: 0,
        });
        let state = Arc::new(Mutex::new(State {
            lies: lies.collect(),
            old: HashMap::new(),
        }));
        let (host, server) = cluster.api_servers().remove(0);
        let upstream = Upstream {
            address: server,
            tls: cluster.tls(),
            state: Arc::clone(&state),
        };
        let _entered = runtime.enter();
        // The certificate names this address.
        let listen = TcpListener::bind((server.ip(), 0));
        let listener = runtime.block_on(listen).map_err(Error::Listen)?;
        let address = listener.local_addr().map_err(Error::Listen)?;
        in_background(async move {
            while let Ok((socket, _)) = listener.accept().await {
                in_background(connection(acceptor.clone(), socket, upstream.clone()));
            }
        });
        Ok(Self {
            servers: vec![(format!("{host}, through a liar"), address)],
            state,
        })
    }

    pub(super) fn servers(&self) -> Vec<(String, SocketAddr)> {
        self.servers.clone()
    }

    /// How often each lie was told.
    pub(super) fn lies(&self) -> Vec<(Lie, usize)> {
        let state = self.state.lock();
        state
            .lies
            .iter()
            .map(|told| (told.lie, told.times))
            .collect()
    }
}

/// The API server behind.
#[derive(Clone)]
struct Upstream {
    address: SocketAddr,
    tls: Arc<rustls::ClientConfig>,
    state: Arc<Mutex<State>>,
}

type Body = BoxBody<Bytes, Infallible>;

/// One client. What goes wrong on the way is its to notice.
async fn connection(acceptor: TlsAcceptor, socket: TcpStream, upstream: Upstream) {
    let Ok(stream) = acceptor.accept(socket).await else {
        return;
    };
    let service = service_fn(move |request| {
        let upstream = upstream.clone();
        async move { upstream.answer(request).await }
    });
    let _ = http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

fn whole(status: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    let mut answer = Response::new(Full::new(body.into()).boxed());
    *answer.status_mut() = status;
    answer
}

impl Upstream {
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Body>, ClientError> {
        let (head, body) = request.into_parts();
        let path = head
            .uri
            .path_and_query()
            .map_or("/", |path| path.as_str())
            .to_owned();
        let http = |cause| ClientError::Http {
            path: path.clone(),
            cause,
        };
        let body = body.collect().await.map_err(http)?.to_bytes();
        let merge = "application/merge-patch+json";
        let content = head.headers.get("content-type");
        let content = if content.is_some_and(|content| content == merge) {
            merge
        } else {
            JSON
        };
        if head.method == Method::PUT
            && let Some(lost) = self.state.lock().lose(&body)
        {
            return Ok(whole(StatusCode::OK, lost));
        }
        let call = Call::new(head.method.clone(), path.clone(), body).content(content);
        let mut connection = Connection::open(self.address, Arc::clone(&self.tls)).await?;
        let response = match connection.begin(&call).await {
            Ok(response) => response,
            Err(ClientError::Refused { status, text, .. }) => {
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
                return Ok(whole(status, text));
            }
            Err(error) => return Err(error),
        };
        let (status, body) = (response.status(), response.into_body());
        if path.contains("watch=true") {
            let mut answer = Response::new(self.events(body));
            *answer.status_mut() = status;
            return Ok(answer);
        }
        let body = body.collect().await.map_err(http)?.to_bytes();
        let (status, body) = self.state.lock().change(&head.method, &path, status, body);
        Ok(whole(status, body))
    }

    /// The lines of a watch, some of them changed.
    fn events(&self, mut body: Incoming) -> Body {
        let state = Arc::clone(&self.state);
        let (mut send, receive) = mpsc::channel(16);
        in_background(async move {
            let mut lines = Lines::default();
            let mut held = None;
            while let Some(Ok(frame)) = body.frame().await {
                let Ok(data) = frame.into_data() else {
                    continue;
                };
                for line in lines.push(&data) {
                    for mut line in state.lock().events(line, &mut held) {
                        line.push(b'\n');
                        let frame = Ok::<_, Infallible>(Frame::data(Bytes::from(line)));
                        if send.try_send(frame).is_err() {
                            return;
                        }
                    }
                    if send.flush().await.is_err() {
                        return;
                    }
                }
            }
        });
        BodyExt::boxed(StreamBody::new(receive.map(|frame| frame)))
    }
}

impl State {
    /// Whether to lie at this chance.
    fn lies(&mut self, lie: Lie) -> bool {
        let told = self.lies.iter_mut().find(|told| told.lie == lie);
        let Some(told) = told.filter(|told| told.times < MOST) else {
            return false;
        };
        told.chances += 1;
        let due = told.chances.is_multiple_of(EVERY);
        told.times += usize::from(due);
        due
    }

    /// The answer to a PUT that is not passed on.
    fn lose(&mut self, body: &[u8]) -> Option<Vec<u8>> {
        let mut object: Value = serde_json::from_slice(body).ok()?;
        let old = self.old.get(object["metadata"]["name"].as_str()?)?;
        // What it would have been told, had nothing happened since.
        let meta = [&old["metadata"]["uid"], &old["metadata"]["resourceVersion"]].map(Value::clone);
        let [uid, revision] = meta;
        object["metadata"]["uid"] = uid;
        object["metadata"]["resourceVersion"] = revision;
        self.lies(Lie::LoseWrite)
            .then(|| object.to_string().into_bytes())
    }

    fn change(
        &mut self,
        method: &Method,
        path: &str,
        status: StatusCode,
        body: Bytes,
    ) -> (StatusCode, Bytes) {
        let Ok(mut answer) = serde_json::from_slice::<Value>(&body) else {
            return (status, body);
        };
        let fresh = *method == Method::GET && !path.contains("resourceVersion=");
        if answer["items"].is_array() {
            if fresh && self.list(&mut answer) {
                return (status, Bytes::from(answer.to_string()));
            }
            return (status, body);
        }
        let name = answer["metadata"]["name"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let old = self
            .old
            .entry(name)
            .or_insert_with(|| answer.clone())
            .clone();
        let is_old = old["metadata"]["resourceVersion"] == answer["metadata"]["resourceVersion"];
        if fresh && !is_old && self.lies(Lie::StaleGet) {
            return (status, Bytes::from(old.to_string()));
        }
        if *method == Method::PUT && self.lies(Lie::DenyWrite) {
            let conflict = json!({"kind": "Status", "reason": "Conflict", "code": 409});
            return (StatusCode::CONFLICT, Bytes::from(conflict.to_string()));
        }
        (status, body)
    }

    /// Whether it changed a list.
    fn list(&mut self, list: &mut Value) -> bool {
        let Some(items) = list["items"].as_array_mut() else {
            return false;
        };
        let newer = items.iter_mut().find_map(|item| {
            let old = self.old.get(item["metadata"]["name"].as_str()?)?;
            let is_old = old["metadata"]["resourceVersion"] == item["metadata"]["resourceVersion"];
            (!is_old).then(|| (old.clone(), item))
        });
        if let Some((old, item)) = newer
            && self.lies(Lie::MixedList)
        {
            *item = old;
            return true;
        }
        !items.is_empty() && self.lies(Lie::ShortList) && items.pop().is_some()
    }

    /// What a watch tells for one line; `held` comes after the next.
    fn events(&mut self, line: Vec<u8>, held: &mut Option<Vec<u8>>) -> Vec<Vec<u8>> {
        let event: Value = serde_json::from_slice(&line).unwrap_or_default();
        if !matches!(event["type"].as_str(), Some("MODIFIED" | "DELETED")) {
            return [Some(line), held.take()].into_iter().flatten().collect();
        }
        if let Some(first) = held.take() {
            return vec![line, first];
        }
        if self.lies(Lie::DropEvent) {
            return Vec::new();
        }
        if self.lies(Lie::RepeatEvent) {
            return vec![line.clone(), line];
        }
        if self.lies(Lie::SwapEvents) {
            *held = Some(line);
            return Vec::new();
        }
        if self.lies(Lie::EarlyBookmark) {
            let revision = &event["object"]["metadata"]["resourceVersion"];
            let bookmark = json!({"type": "BOOKMARK", "object": {
                "kind": "ConfigMap", "apiVersion": "v1", "metadata": {"resourceVersion": revision},
            }});
            return vec![bookmark.to_string().into_bytes(), line];
        }
        vec![line]
    }
}
