//! A kubelet that speaks SPDY only, over real TLS, and clients that speak WebSocket.

use std::sync::Arc;

use component::serving::{Identity, Request, Response, Server, Tls};
use component::streaming::websocket::{self, Protocol, Side};
use component::streaming::{Driver, Options, Stream, Streams, remote, spdy, upgrade};
use component::testing::Ca;
use component::{Supervisor, Task, serving};
use http::{HeaderMap, Method};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

use super::super::daemon::Daemon;
use super::super::wire::Wire;

/// What is longer than anything here takes.
pub(super) const LIMIT: std::time::Duration = std::time::Duration::from_secs(60);
/// What a feature of nodes is called.
pub(super) const FEATURE: &str = "ExtendWebSocketsToKubelet";

/// What it was asked.
#[derive(Clone)]
pub(super) struct Asked {
    pub(super) method: Method,
    /// With the query.
    pub(super) path: String,
    pub(super) headers: HeaderMap,
}

impl Asked {
    /// The values of a header.
    pub(super) fn all(&self, name: &str) -> Vec<&str> {
        let values = self.headers.get_all(name).iter();
        values.map(|v| v.to_str().unwrap()).collect()
    }
}

/// A connection that it has agreed to.
pub(super) struct Connection {
    pub(super) streams: Streams,
    /// Breaks it off.
    pub(super) cut: CancellationToken,
}

impl Connection {
    /// The next stream, which must be of this kind.
    pub(super) async fn stream(&mut self, kind: &str) -> Stream {
        let next = tokio::time::timeout(LIMIT, self.streams.accept());
        let stream = next.await.expect("in time").expect("a stream");
        assert_eq!(stream.header("streamtype"), kind);
        stream
    }

    /// That it is over.
    pub(super) async fn ends(mut self) {
        let next = tokio::time::timeout(LIMIT, self.streams.accept());
        assert!(next.await.expect("it ends").is_none());
    }
}

pub(super) struct Kubelet {
    pub(super) port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
    connections: mpsc::Receiver<Connection>,
}

impl Kubelet {
    /// One that speaks these protocols.
    pub(super) fn speaking(protocols: &'static [&'static str]) -> Self {
        Self::start(move |headers| upgrade::spdy(headers, protocols).map(|agreed| agreed.1))
    }

    /// One that answers so.
    pub(super) fn answering(answer: impl Fn() -> Response + Send + Sync + 'static) -> Self {
        Self::start(move |_| Err(Box::new(answer())))
    }

    fn start(
        agree: impl Fn(&HeaderMap) -> Result<Response, Box<Response>> + Send + Sync + 'static,
    ) -> Self {
        let identity = Identity::Memory(Ca::new("kubelets").server(&["127.0.0.1"]));
        let address = "127.0.0.1:0".parse().unwrap();
        let server = Server::bind(serving::Options::secure(address, Tls::new(identity))).unwrap();
        let port = server.address().port();
        let asked = Arc::<Mutex<Vec<Asked>>>::default();
        let (agreed, connections) = mpsc::channel(8);
        let (seen, agree) = (Arc::clone(&asked), Arc::new(agree));
        let service = tower::service_fn(move |mut request: Request| {
            let (seen, agreed, agree) = (Arc::clone(&seen), agreed.clone(), Arc::clone(&agree));
            async move {
                seen.lock().push(Asked {
                    method: request.method().clone(),
                    path: request.uri().to_string(),
                    headers: request.headers().clone(),
                });
                let io = hyper::upgrade::on(&mut request);
                let answer = match agree(request.headers()) {
                    Ok(answer) => answer,
                    Err(refusal) => return Ok(*refusal),
                };
                Supervisor::current().spawn(Task::Background, "kubelet", async move {
                    let io = TokioIo::new(io.await.unwrap());
                    let (streams, driver) = spdy::server(io, Options::default());
                    let cut = CancellationToken::new();
                    let cancelled = cut.clone().cancelled_owned();
                    let _ = agreed.send(Connection { streams, cut }).await;
                    tokio::select! {
                        _ = driver => {}
                        () = cancelled => {}
                    }
                });
                Ok(answer)
            }
        });
        server.serve(&Supervisor::current(), Task::Server, "kubelet", service);
        Self {
            port,
            asked,
            connections,
        }
    }

    /// The next connection that it has agreed to.
    pub(super) async fn connection(&mut self) -> Connection {
        let next = tokio::time::timeout(LIMIT, self.connections.recv());
        next.await.expect("in time").expect("a connection")
    }

    /// What it was asked last.
    pub(super) fn asked(&self) -> Asked {
        self.asked.lock().last().expect("it was asked").clone()
    }
}

/// The end of a command, as kubelets say it.
pub(super) fn exit(code: &str) -> Value {
    json!({
        "metadata": {},
        "status": "Failure",
        "reason": "NonZeroExitCode",
        "message": format!("command terminated with non-zero exit code: exit status {code}"),
        "details": {"causes": [{"reason": "ExitCode", "message": code}]},
    })
}

/// Says all of it, and ends the stream.
pub(super) async fn say(stream: &mut Stream, text: impl AsRef<[u8]>) {
    stream.writer.write_all(text.as_ref()).await.unwrap();
    stream.writer.shutdown().await.unwrap();
}

/// All that comes.
pub(super) async fn text(stream: &mut Stream) -> String {
    let mut text = String::new();
    let read = stream.reader.read_to_string(&mut text);
    let read = tokio::time::timeout(LIMIT, read).await;
    read.expect("it ends").unwrap();
    text
}

/// What the error channel says.
pub(super) async fn status(stream: &mut Stream) -> Value {
    serde_json::from_str(&text(stream).await).unwrap()
}

pub(super) fn run(driver: Driver) {
    Supervisor::current().spawn(Task::Background, "client", async move {
        let _ = driver.await;
    });
}

/// A connection that has become a WebSocket of a protocol.
pub(super) async fn websocket(api: &Daemon, path: &str, protocol: &str) -> TlsStream<TcpStream> {
    let (head, wire) = asking(api, path, protocol).await;
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    let named = format!("sec-websocket-protocol: {protocol}").to_lowercase();
    assert!(head.contains(&named), "{head}");
    wire.into_io()
}

/// What is answered to somebody who asks for such a WebSocket.
pub(super) async fn asking(api: &Daemon, path: &str, protocol: &str) -> (String, Wire) {
    let mut wire = Wire::admin(api).await;
    let header = format!("Sec-WebSocket-Protocol: {protocol}");
    let head = wire.upgrade(path, &[&header]).await;
    (head, wire)
}

/// The channels of exec and attach, as a client has them.
pub(super) struct Client {
    pub(super) stdin: Stream,
    pub(super) stdout: Stream,
    pub(super) stderr: Stream,
    pub(super) error: Stream,
    pub(super) resize: Stream,
    /// Breaks the connection off.
    pub(super) cut: CancellationToken,
}

impl Client {
    /// Over a WebSocket that is there.
    pub(super) async fn over(io: TlsStream<TcpStream>) -> Self {
        let mut channels = remote::channels(true, true, true);
        for channel in &mut channels {
            // What the server reads the client writes.
            (channel.read, channel.write) = (channel.write, channel.read);
            channel.greeting = None;
        }
        let protocol = Protocol::named(remote::V5);
        let (mut streams, driver) =
            websocket::channels(io, Side::Client, Options::default(), protocol, channels);
        let cut = CancellationToken::new();
        let cancelled = cut.clone().cancelled_owned();
        Supervisor::current().spawn(Task::Background, "client", async move {
            tokio::select! {
                _ = driver => {}
                () = cancelled => {}
            }
        });
        let mut next = async || streams.accept().await.unwrap();
        Self {
            stdin: next().await,
            stdout: next().await,
            stderr: next().await,
            error: next().await,
            resize: next().await,
            cut,
        }
    }

    pub(super) async fn open(api: &Daemon, path: &str) -> Self {
        Self::over(websocket(api, path, remote::V5).await).await
    }
}
