//! Connections to the API server.
//!
//! All requests share one HTTP/2 connection; another is opened only when its streams run out, as Go's
//! transport does. A connection that is going away, lost, or made with credentials that have changed
//! takes no new requests; those under way on it come to their end. A server without HTTP/2 (a plain
//! `http://` proxy) gets one connection for each request under way.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::config::{Config, ConfigError, Dial};
use super::exec::{self, Plugin};
use super::tls::Tls;
use crate::supervisor::{Supervisor, Task};

/// Why a request was not answered.
#[derive(thiserror::Error, Debug)]
pub enum TransportError {
    #[error("cannot connect")]
    Connect(#[source] io::Error),
    #[error("cannot connect within {0:?}")]
    ConnectTimeout(Duration),
    #[error("no credentials for the connection")]
    Credentials(#[source] exec::Error),
    #[error("the connection broke")]
    Http(#[source] hyper::Error),
    #[error("nothing came for {0:?}")]
    Silent(Duration),
    #[error("the answer is longer than {0} bytes")]
    TooLong(usize),
}

impl TransportError {
    /// The connection went away under the request, which may have reached the server.
    pub(super) fn is_lost(&self) -> bool {
        matches!(self, Self::Http(_))
    }
}

/// TCP and TLS together; upstream's dialer gives up after 30 s.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// Silence after which the server is asked whether it is there, and how long it may take to answer:
/// client-go's figures.
const PING: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(15));
/// What a stream, and a connection, may receive unasked: lists are megabytes.
const WINDOWS: (u32, u32) = (4 << 20, 16 << 20);
/// Streams in a connection before the server has said how many it takes: what RFC 9113 recommends as
/// the least, and Go assumes.
const FIRST_STREAMS: usize = 100;
/// Connections that may be tried for a request that none of them has sent.
const UNSENT_TRIES: usize = 4;
/// Idle HTTP/1.1 connections that are kept, and for how long: client-go's figures.
const IDLE_HTTP1: usize = 25;
const IDLE_FOR: Duration = Duration::from_secs(90);

type Body = Full<Bytes>;

/// The way to one server.
pub(super) struct Transport {
    scheme: Scheme,
    /// Where connections are made to.
    authority: Authority,
    /// What requests call it.
    host: Authority,
    http1: bool,
    dial: Option<Dial>,
    /// A prefix of all paths, without a slash at its end.
    base_path: String,
    server_name: ServerName<'static>,
    tls: Option<Tls>,
    tasks: Supervisor,
    shared: Mutex<Vec<Shared>>,
    idle_http1: Mutex<Vec<Idle>>,
    /// Held while a connection is made, so that those who wait share it.
    connecting: tokio::sync::Mutex<()>,
}

/// An HTTP/1.1 connection without a request, and since when.
struct Idle {
    sender: http1::SendRequest<Body>,
    since: Instant,
}

/// An HTTP/2 connection.
#[derive(Clone)]
struct Shared {
    sender: http2::SendRequest<Body>,
    /// The settings that it was made with; none for plain TCP.
    made_with: Option<Arc<ClientConfig>>,
    streams: Arc<AtomicUsize>,
    /// How many streams the server takes, as of the last request.
    most_streams: Arc<AtomicUsize>,
}

/// A stream under way; lives in its answer.
#[derive(Clone)]
struct Stream {
    _count: Arc<StreamCount>,
}

struct StreamCount(Arc<AtomicUsize>);

impl Drop for StreamCount {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Bytes both ways, encrypted or not.
trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

type Io = Box<dyn Duplex>;

/// How a request can be sent.
enum Way {
    Http2(Shared, Stream),
    Http1(http1::SendRequest<Body>),
}

impl Transport {
    pub(super) fn new(
        config: &Config,
        plugin: Option<Arc<Plugin>>,
        tasks: Supervisor,
    ) -> Result<Self, ConfigError> {
        let bad = |problem: String| ConfigError::Server {
            address: config.server.clone(),
            problem,
        };
        let (scheme, authority, base_path) = parse(&config.server).map_err(bad)?;
        let name = config
            .server_name
            .as_deref()
            .unwrap_or_else(|| bare_host(&authority))
            .to_owned();
        let server_name = ServerName::try_from(name).map_err(|e| bad(e.to_string()))?;
        let host = match &config.host {
            Some(host) => {
                let parsed = host.parse::<Authority>();
                parsed.map_err(|e| bad(format!("host {host:?}: {e}")))?
            }
            None => authority.clone(),
        };
        let secure = scheme == Scheme::HTTPS;
        let tls = secure
            .then(|| Tls::new(config, plugin))
            .transpose()
            .map_err(ConfigError::Tls)?;
        Ok(Self {
            scheme,
            authority,
            host,
            http1: config.http1,
            dial: config.dial.clone(),
            base_path,
            server_name,
            tls,
            tasks,
            shared: Mutex::default(),
            idle_http1: Mutex::default(),
            connecting: tokio::sync::Mutex::default(),
        })
    }

    /// For tests: the files are looked at for each request.
    #[cfg(test)]
    pub(super) fn look_always(&mut self) {
        self.tls.as_mut().expect("a client with TLS").look_always();
    }

    pub(super) fn host(&self) -> &str {
        self.host.as_str()
    }

    /// The address of a path below the server's.
    pub(super) fn uri(&self, path: &str) -> Result<Uri, http::Error> {
        let path: PathAndQuery = format!("{}{path}", self.base_path).try_into()?;
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.host.clone());
        parts.path_and_query = Some(path);
        Ok(Uri::from_parts(parts)?)
    }

    /// Sends a request and waits for the head of its answer. A request that the server did not take is
    /// sent on another connection.
    pub(super) async fn send(
        &self,
        request: Request<Bytes>,
    ) -> Result<Response<Incoming>, TransportError> {
        let (head, body) = request.into_parts();
        let mut tries = 0;
        loop {
            tries += 1;
            let request = Request::from_parts(head.clone(), Full::new(body.clone()));
            let error = match self.way().await? {
                Way::Http2(shared, stream) => {
                    match shared.clone().sender.send_request(request).await {
                        Ok(mut response) => {
                            response.extensions_mut().insert(stream);
                            return Ok(response);
                        }
                        Err(e) => {
                            if e.is_closed() || is_refused(&e) || shared.sender.is_closed() {
                                self.forget(&shared);
                            }
                            e
                        }
                    }
                }
                Way::Http1(sender) => match self.send_http1(sender, request).await {
                    Ok(response) => return Ok(response),
                    Err(e) => e,
                },
            };
            let unsent = error.is_canceled() || is_refused(&error);
            if !unsent || tries >= UNSENT_TRIES {
                return Err(TransportError::Http(error));
            }
        }
    }

    async fn send_http1(
        &self,
        mut sender: http1::SendRequest<Body>,
        mut request: Request<Body>,
    ) -> Result<Response<Incoming>, hyper::Error> {
        let host = http::HeaderValue::try_from(self.host());
        if let Ok(host) = host {
            request.headers_mut().insert(http::header::HOST, host);
        }
        if let Some(path) = request.uri().path_and_query().cloned() {
            *request.uri_mut() = path.into();
        }
        let response = sender.send_request(request).await?;
        let mut idle = self.idle_http1.lock();
        if idle.len() < IDLE_HTTP1 {
            // It becomes ready once the answer was read to its end.
            let since = Instant::now();
            idle.push(Idle { sender, since });
        }
        Ok(response)
    }

    /// A connection that takes a request now, made if there is none.
    async fn way(&self) -> Result<Way, TransportError> {
        let settings = match &self.tls {
            Some(tls) => Some(tls.current().await.map_err(TransportError::Credentials)?),
            None => None,
        };
        if let Some(way) = self.open_way(settings.as_ref()) {
            return Ok(way);
        }
        // Connections that will not be shared need not wait for each other.
        let _one_at_a_time = match self.http1 {
            true => None,
            false => Some(self.connecting.lock().await),
        };
        if let Some(way) = self.open_way(settings.as_ref()) {
            return Ok(way);
        }
        let connect = tokio::time::timeout(CONNECT_TIMEOUT, self.connect(settings));
        connect
            .await
            .map_err(|_| TransportError::ConnectTimeout(CONNECT_TIMEOUT))?
    }

    fn open_way(&self, settings: Option<&Arc<ClientConfig>>) -> Option<Way> {
        let mut shared = self.shared.lock();
        shared.retain(|s| {
            let current = match (&s.made_with, settings) {
                (Some(with), Some(now)) => Arc::ptr_eq(with, now),
                (with, now) => with.is_none() && now.is_none(),
            };
            current && !s.sender.is_closed()
        });
        for s in &*shared {
            if s.streams.load(Ordering::Relaxed) < s.most_streams.load(Ordering::Relaxed) {
                return Some(s.take());
            }
        }
        drop(shared);
        let mut idle = self.idle_http1.lock();
        idle.retain(|i| !i.sender.is_closed() && i.since.elapsed() < IDLE_FOR);
        let ready = idle.iter().position(|i| i.sender.is_ready())?;
        Some(Way::Http1(idle.swap_remove(ready).sender))
    }

    /// Takes no new requests on a connection.
    fn forget(&self, gone: &Shared) {
        self.shared
            .lock()
            .retain(|s| !Arc::ptr_eq(&s.streams, &gone.streams));
    }

    async fn connect(&self, settings: Option<Arc<ClientConfig>>) -> Result<Way, TransportError> {
        let (io, http2) = self
            .dial(settings.clone())
            .await
            .map_err(TransportError::Connect)?;
        if http2 {
            self.handshake_http2(io, settings).await
        } else {
            self.handshake_http1(io).await
        }
    }

    async fn tcp(&self, secure: bool) -> io::Result<TcpStream> {
        if let Some(Dial(dial)) = &self.dial {
            return dial().await;
        }
        let port = self.authority.port_u16();
        let port = port.unwrap_or(if secure { 443 } else { 80 });
        TcpStream::connect((bare_host(&self.authority), port)).await
    }

    async fn dial(&self, settings: Option<Arc<ClientConfig>>) -> io::Result<(Io, bool)> {
        let stream = self.tcp(settings.is_some()).await?;
        stream.set_nodelay(true)?;
        let Some(settings) = settings else {
            return Ok((Box::new(stream), false));
        };
        let stream = TlsConnector::from(settings)
            .connect(self.server_name.clone(), stream)
            .await
            .map_err(store::trust::in_words)?;
        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok((Box::new(stream), http2))
    }

    async fn handshake_http2(
        &self,
        io: Io,
        made_with: Option<Arc<ClientConfig>>,
    ) -> Result<Way, TransportError> {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .initial_max_send_streams(FIRST_STREAMS)
            .initial_stream_window_size(WINDOWS.0)
            .initial_connection_window_size(WINDOWS.1)
            .keep_alive_interval(PING.0)
            .keep_alive_timeout(PING.1)
            .keep_alive_while_idle(true);
        let (sender, mut connection) = builder
            .handshake(TokioIo::new(io))
            .await
            .map_err(TransportError::Http)?;
        let most_streams = Arc::new(AtomicUsize::new(FIRST_STREAMS));
        let most = Arc::clone(&most_streams);
        self.drive(std::future::poll_fn(move |cx| {
            let ended = Pin::new(&mut connection).poll(cx);
            most.store(connection.current_max_send_streams(), Ordering::Relaxed);
            ended
        }));
        let shared = Shared {
            sender,
            made_with,
            streams: Arc::default(),
            most_streams,
        };
        let way = shared.take();
        self.shared.lock().push(shared);
        Ok(way)
    }

    async fn handshake_http1(&self, io: Io) -> Result<Way, TransportError> {
        let (sender, connection) = http1::handshake(TokioIo::new(io))
            .await
            .map_err(TransportError::Http)?;
        self.drive(connection);
        Ok(Way::Http1(sender))
    }

    fn drive(&self, connection: impl Future<Output = Result<(), hyper::Error>> + Send + 'static) {
        let host = self.host().to_owned();
        self.tasks.spawn(Task::Background, "client-connection", async move {
            if let Err(e) = connection.await {
                tracing::debug!(server = host, error = %e, "Connection to the API server ended");
            }
        });
    }
}

impl Shared {
    fn take(&self) -> Way {
        self.streams.fetch_add(1, Ordering::Relaxed);
        let stream = Stream {
            _count: Arc::new(StreamCount(Arc::clone(&self.streams))),
        };
        Way::Http2(self.clone(), stream)
    }
}

/// The server says that it did not begin with the request: it went away before, or took no more
/// streams. Such a request may be sent again whatever it does.
fn is_refused(error: &hyper::Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(e) = cause {
        if let Some(h2) = e.downcast_ref::<h2::Error>() {
            return h2.is_remote()
                && (h2.is_go_away()
                    || (h2.is_reset() && h2.reason() == Some(h2::Reason::REFUSED_STREAM)));
        }
        cause = e.source();
    }
    false
}

/// Scheme, authority and path prefix of a server's address; a bare host means HTTPS.
fn parse(server: &str) -> Result<(Scheme, Authority, String), String> {
    let address = if server.contains("://") {
        server.to_owned()
    } else {
        format!("https://{server}")
    };
    let parts = address
        .parse::<Uri>()
        .map_err(|e| e.to_string())?
        .into_parts();
    let scheme = parts.scheme.unwrap_or(Scheme::HTTPS);
    if scheme != Scheme::HTTPS && scheme != Scheme::HTTP {
        return Err(format!("unsupported scheme {scheme}"));
    }
    let authority = parts.authority.ok_or("no host")?;
    let path = parts
        .path_and_query
        .map(|p| p.path().trim_end_matches('/').to_owned());
    Ok((scheme, authority, path.unwrap_or_default()))
}

/// The host without the brackets of an IPv6 address.
fn bare_host(authority: &Authority) -> &str {
    authority
        .host()
        .trim_start_matches('[')
        .trim_end_matches(']')
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport")
            .field("host", &self.host())
            .finish_non_exhaustive()
    }
}
