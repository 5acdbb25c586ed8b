//! What tests need: certificates, an API server whose answers the test writes, and a collector of traces.
//!
//! For tests only, of this crate and of others. It is always there, because a feature would have every daemon compile
//! this crate a second time for its tests; what no daemon names is not linked.

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a test that cannot be set up has failed"
)]

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use parking_lot::Mutex;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair,
};
use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot};

use crate::client::{Client, Config, percent_decode};
use crate::metrics::Metrics;
use crate::serving::{self, Body, Connection, Identity, Options, Pair, Response, Server, Tls};
use crate::supervisor::{BoxError, Supervisor, Task};

mod collector;

pub use collector::{Collector, Told};

/// A certificate authority.
pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate.
    pub pem: String,
}

impl Ca {
    /// A self-signed one.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = subject(name, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let cert = params.self_signed(&key).unwrap();
        Self {
            pem: cert.pem(),
            issuer: Issuer::new(params, key),
        }
    }

    /// A server's certificate.
    #[must_use]
    pub fn server(&self, hosts: &[&str]) -> Pair {
        let mut params =
            CertificateParams::new(hosts.iter().map(|h| (*h).to_owned()).collect::<Vec<_>>())
                .unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(params)
    }

    /// A client's certificate.
    #[must_use]
    pub fn client(&self, user: &str, groups: &[&str]) -> Pair {
        self.client_with(user, groups, |_| {})
    }

    /// Another authority, that this one vouches for.
    #[must_use]
    pub fn below(&self, name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = subject(name, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        Self {
            pem: cert.pem(),
            issuer: Issuer::new(params, key),
        }
    }

    /// A client's certificate with something else about it.
    #[must_use]
    pub fn client_with(
        &self,
        user: &str,
        groups: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Pair {
        let mut params = CertificateParams::default();
        params.distinguished_name = subject(user, groups);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        self.sign(params)
    }

    fn sign(&self, params: CertificateParams) -> Pair {
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        Pair {
            cert: cert.pem(),
            key: key.serialize_pem(),
        }
    }
}

/// A server's certificate that is its own authority, as `openssl req -x509` makes them.
#[must_use]
pub fn self_signed(hosts: &[&str]) -> Pair {
    let hosts: Vec<String> = hosts.iter().map(|h| (*h).to_owned()).collect();
    let mut params = CertificateParams::new(hosts).unwrap();
    params.distinguished_name = subject("self-signed", &[]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    Pair {
        cert: params.self_signed(&key).unwrap().pem(),
        key: key.serialize_pem(),
    }
}

fn subject(name: &str, groups: &[&str]) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    for group in groups {
        subject.push(DnType::OrganizationName, *group);
    }
    subject
}

/// Files in a directory that goes away with the test.
pub struct Files(TempDir);

impl Default for Files {
    fn default() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
}

impl Files {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes a file as atomic writers do.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let (path, next) = (
            self.0.path().join(name),
            self.0.path().join(format!("{name}.next")),
        );
        std::fs::write(&next, text).unwrap();
        std::fs::rename(&next, &path).unwrap();
        path
    }
}

/// A request, read to its end.
#[derive(Debug)]
pub struct Seen {
    pub method: Method,
    pub path: String,
    /// Decoded.
    pub query: HashMap<String, String>,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Seen {
    /// A header, or nothing.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map(|v| v.to_str().unwrap())
            .unwrap_or_default()
    }

    /// A query parameter, or nothing.
    #[must_use]
    pub fn param(&self, name: &str) -> &str {
        self.query.get(name).map(String::as_str).unwrap_or_default()
    }

    /// The body.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// A request that waits for the test's answer.
pub struct Ask {
    pub seen: Seen,
    reply: oneshot::Sender<Response>,
}

impl Ask {
    /// Answers, and returns what was asked.
    pub fn answer(self, response: Response) -> Seen {
        let _ = self.reply.send(response);
        self.seen
    }

    /// Answers 200.
    pub fn json(self, value: &serde_json::Value) -> Seen {
        self.answer(serving::json(StatusCode::OK, value))
    }

    /// Answers with a failure.
    pub fn status(self, code: u16, reason: &str) -> Seen {
        self.answer(status(code, reason))
    }

    /// Begins an answer that goes on as long as the test wants.
    pub fn stream(self) -> (Seen, Lines) {
        let (sender, receiver) = mpsc::channel::<Result<Bytes, BoxError>>(16);
        let frames = futures::stream::unfold(receiver, |mut receiver| async move {
            let frame = receiver.recv().await?;
            Some((frame.map(hyper::body::Frame::data), receiver))
        });
        let body: Body = StreamBody::new(frames).boxed_unsync();
        (self.answer(http::Response::new(body)), Lines(sender))
    }
}

/// A failure as the API server tells it.
#[must_use]
pub fn status(code: u16, reason: &str) -> Response {
    let status = serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code, "message": "as wanted",
    });
    serving::json(StatusCode::from_u16(code).unwrap(), &status)
}

/// The events of a watch; dropping it ends the watch.
pub struct Lines(mpsc::Sender<Result<Bytes, BoxError>>);

impl Lines {
    /// Sends an event in JSON.
    pub async fn event(&self, kind: &str, object: &serde_json::Value) {
        let line = format!(
            "{}\n",
            serde_json::json!({ "type": kind, "object": object })
        );
        self.bytes(line.as_bytes()).await;
    }

    /// Sends bytes as they are.
    pub async fn bytes(&self, bytes: &[u8]) {
        self.0
            .send(Ok(Bytes::copy_from_slice(bytes)))
            .await
            .expect("the client reads");
    }

    /// Breaks the connection in the middle.
    pub async fn fail(self) {
        let _ = self.0.send(Err("as wanted".into())).await;
    }

    /// Waits until the client has gone.
    pub async fn closed(&self) {
        self.0.closed().await;
    }
}

/// An API server whose answers the test writes, one request after the other.
pub struct FakeApi {
    /// `http://127.0.0.1:port`.
    pub url: String,
    asks: mpsc::Receiver<Ask>,
    connections: Arc<Mutex<Vec<Weak<Connection>>>>,
    /// Of the server, and of the clients that [`FakeApi::client`] makes.
    pub tasks: Supervisor,
    pub metrics: Metrics,
}

impl FakeApi {
    /// Over plain HTTP/1.1.
    #[must_use]
    pub fn plain() -> Self {
        Self::start(Options::plain("127.0.0.1:0".parse().unwrap()), "http")
    }

    /// Over HTTP/2 with this certificate.
    #[must_use]
    pub fn secure(identity: Identity) -> Self {
        Self::start(
            Options::secure("127.0.0.1:0".parse().unwrap(), Tls::new(identity)),
            "https",
        )
    }

    /// With these options, in a URL of this scheme.
    #[must_use]
    pub fn start(options: Options, scheme: &str) -> Self {
        let tasks = Supervisor::current();
        let (sender, asks) = mpsc::channel(64);
        let server = Server::bind(options).unwrap();
        let url = format!("{scheme}://{}", server.address());
        let connections = Arc::<Mutex<Vec<Weak<Connection>>>>::default();
        let open = Arc::clone(&connections);
        let service = tower::service_fn(move |request: serving::Request| {
            let sender = sender.clone();
            open.lock()
                .extend(Connection::of(&request).map(Arc::downgrade));
            async move {
                let (head, body) = request.into_parts();
                let body = body
                    .collect()
                    .await
                    .map(|b| b.to_bytes())
                    .unwrap_or_default();
                let pairs = head
                    .uri
                    .query()
                    .unwrap_or_default()
                    .split('&')
                    .filter_map(|p| p.split_once('='));
                let seen = Seen {
                    method: head.method,
                    path: head.uri.path().to_owned(),
                    query: pairs
                        .map(|(k, v)| (k.to_owned(), percent_decode(v)))
                        .collect(),
                    headers: head.headers,
                    body,
                };
                let (reply, answer) = oneshot::channel();
                let _ = sender.send(Ask { seen, reply }).await;
                Ok(answer
                    .await
                    .unwrap_or_else(|_| status(500, "InternalError")))
            }
        });
        server.serve(&tasks, Task::Server, "fake", service);
        Self {
            url,
            asks,
            connections,
            tasks,
            metrics: Metrics::new(),
        }
    }

    /// How many connections have sent requests.
    #[must_use]
    pub fn connections(&self) -> usize {
        let mut open: Vec<_> = self.connections.lock().iter().map(Weak::as_ptr).collect();
        open.sort_unstable();
        open.dedup();
        open.len()
    }

    /// Tells the clients to go away.
    pub fn close_connections(&self) {
        for connection in self.connections.lock().drain(..) {
            if let Some(connection) = connection.upgrade() {
                connection.close();
            }
        }
    }

    /// The next request.
    pub async fn next(&mut self) -> Ask {
        let next = tokio::time::timeout(std::time::Duration::from_secs(20), self.asks.recv());
        next.await
            .expect("a request comes")
            .expect("the server runs")
    }

    /// Whether no request comes for a while.
    pub async fn is_quiet(&mut self) -> bool {
        tokio::time::timeout(std::time::Duration::from_millis(150), self.asks.recv())
            .await
            .is_err()
    }

    /// How a client reaches it, without a rate limit.
    #[must_use]
    pub fn config(&self) -> Config {
        Config {
            qps: -1.0,
            ..Config::new(&self.url)
        }
    }

    #[must_use]
    pub fn client(&self) -> Client {
        Client::new(self.config(), "test", &self.tasks, &self.metrics).unwrap()
    }
}
