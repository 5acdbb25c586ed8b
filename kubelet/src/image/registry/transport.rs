//! HTTP/1.1 over TCP or TLS, for one reader at a time.
//!
//! A connection is driven by whoever waits for its answer: there is no task in the background, so
//! dropping a pull ends its connections, and nothing else does. A connection whose answer was read
//! to the end is kept for the next request to the same place.

use std::collections::HashMap;
use std::fs;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use component::trust::{self, Believe};
use http::header::{HOST, PROXY_AUTHORIZATION};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri};
use http_body_util::Empty;
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::hosts::{Host, Tls};
use super::proxy::Proxies;
use super::{Error, Result};

/// Connections to one place that are kept for the next request.
const IDLE_MAX: usize = 4;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

type Driver = http1::Connection<TokioIo<Box<dyn Stream>>, Empty<Bytes>>;

/// A connection between two requests.
struct Connection {
    sender: SendRequest<Empty<Bytes>>,
    driving: Driving,
}

/// What moves bytes between the socket and whoever waits for them.
struct Driving {
    driver: Driver,
    /// The other side closed it, or broke it.
    ended: Option<hyper::Result<()>>,
}

impl Driving {
    /// Moves what can be moved. How it ends is told by the answer under way, after everything that
    /// came before.
    fn poll(&mut self, cx: &mut Context<'_>) {
        if self.ended.is_none()
            && let Poll::Ready(end) = Pin::new(&mut self.driver).poll(cx)
        {
            self.ended = Some(end);
        }
    }
}

/// Where a connection leads, and how it is secured.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Place {
    tls: bool,
    authority: Authority,
    settings: Tls,
}

type Idle = Arc<Mutex<HashMap<Place, Vec<Connection>>>>;

/// How long a registry may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timeouts {
    pub(super) connect: Duration,
    pub(super) stall: Duration,
}

/// The connections of one pull.
pub(super) struct Transport {
    timeouts: Timeouts,
    proxies: Proxies,
    roots: Arc<Roots>,
    idle: Idle,
    /// Made anew for each pull: certificates on disk may have been renewed.
    settings: Mutex<HashMap<Tls, Arc<ClientConfig>>>,
}

impl Transport {
    pub(super) fn new(timeouts: Timeouts, proxies: Proxies, roots: Arc<Roots>) -> Self {
        let (idle, settings) = (Idle::default(), Mutex::default());
        Self {
            timeouts,
            proxies,
            roots,
            idle,
            settings,
        }
    }

    /// Sends a request to where its address says, secured as `host` wants.
    pub(super) async fn send(
        &self,
        request: Request<()>,
        host: &Host,
    ) -> Result<(StatusCode, HeaderMap, Body)> {
        let authority = request.uri().authority().cloned();
        let authority = authority.ok_or_else(|| Error::Protocol {
            host: host.authority().to_owned(),
            reason: "has no valid address",
        })?;
        let tls = request.uri().scheme_str() == Some("https");
        let place = Place {
            tls,
            authority,
            settings: host.tls.clone(),
        };
        let kept = self.idle.lock().get_mut(&place).and_then(Vec::pop);
        if let Some(connection) = kept.filter(|connection| connection.driving.ended.is_none()) {
            // The other side may have closed it just now: then once more, on a new one.
            if let Ok(answer) = self.exchange(connection, &request, &place).await {
                return Ok(answer);
            }
        }
        let connection = self.connect(&place).await?;
        self.exchange(connection, &request, &place).await
    }

    async fn exchange(
        &self,
        mut connection: Connection,
        request: &Request<()>,
        place: &Place,
    ) -> Result<(StatusCode, HeaderMap, Body)> {
        let host = place.authority.to_string();
        let failed = |source| Error::Http {
            host: host.clone(),
            source,
        };
        // A proxy is told the whole address, the host itself only what is behind its name.
        let proxy = self
            .proxies
            .of(place.tls, &place.authority)
            .filter(|_| !place.tls);
        let target = match (proxy, request.uri().path_and_query()) {
            (Some(_), _) => request.uri().clone(),
            (None, path) => path.map_or_else(Uri::default, |path| path.clone().into()),
        };
        let mut message = Request::new(Empty::new());
        *message.uri_mut() = target;
        *message.headers_mut() = request.headers().clone();
        if let Ok(value) = HeaderValue::from_str(&host) {
            message.headers_mut().insert(HOST, value);
        }
        let authorization = proxy.and_then(|proxy| proxy.authorization()?.parse().ok());
        if let Some(value) = authorization {
            message.headers_mut().insert(PROXY_AUTHORIZATION, value);
        }
        let answer = {
            let mut answer = Box::pin(connection.sender.send_request(message));
            let both = poll_fn(|cx| {
                connection.driving.poll(cx);
                answer.as_mut().poll(cx)
            });
            let late = |_| Error::Timeout {
                host: host.clone(),
                after: self.timeouts.stall,
            };
            timeout(self.timeouts.stall, both)
                .await
                .map_err(late)?
                .map_err(failed)?
        };
        let (head, incoming) = answer.into_parts();
        let body = Body {
            incoming,
            connection: Some(connection),
            place: place.clone(),
            idle: self.idle.clone(),
            stall: self.timeouts.stall,
        };
        Ok((head.status, head.headers, body))
    }

    async fn connect(&self, place: &Place) -> Result<Connection> {
        let host = place.authority.to_string();
        let connecting = async {
            let port = place
                .authority
                .port_u16()
                .unwrap_or(if place.tls { 443 } else { 80 });
            let name = place.authority.host().trim_matches(['[', ']']);
            let tcp = match self.proxies.of(place.tls, &place.authority) {
                None => TcpStream::connect((name, port)).await?,
                Some(proxy) if place.tls => proxy.tunnel(name, port).await?,
                Some(proxy) => proxy.connect().await?,
            };
            tcp.set_nodelay(true)?;
            let stream: Box<dyn Stream> = match place.tls {
                false => Box::new(tcp),
                true => {
                    let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
                    let config = self.settings(&place.settings).map_err(io::Error::other)?;
                    let stream = TlsConnector::from(config).connect(name, tcp).await;
                    Box::new(stream.map_err(trust::in_words)?)
                }
            };
            http1::handshake(TokioIo::new(stream))
                .await
                .map_err(io::Error::other)
        };
        let after = self.timeouts.connect;
        let connected = timeout(after, connecting).await;
        let connected = connected.map_err(|_| Error::Timeout {
            host: host.clone(),
            after,
        })?;
        let (sender, driver) = connected.map_err(|source| Error::Connect { host, source })?;
        Ok(Connection {
            sender,
            driving: Driving {
                driver,
                ended: None,
            },
        })
    }

    fn settings(&self, tls: &Tls) -> std::result::Result<Arc<ClientConfig>, String> {
        if let Some(known) = self.settings.lock().get(tls) {
            return Ok(known.clone());
        }
        let made = Arc::new(client_config(tls, &self.roots)?);
        self.settings.lock().insert(tls.clone(), made.clone());
        Ok(made)
    }
}

/// The rest of an answer.
pub(super) struct Body {
    incoming: Incoming,
    connection: Option<Connection>,
    place: Place,
    idle: Idle,
    stall: Duration,
}

impl Body {
    /// The next piece; none at the end.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>> {
        let host = || self.place.authority.to_string();
        loop {
            let Some(connection) = &mut self.connection else {
                return Ok(None);
            };
            let incoming = &mut self.incoming;
            let next = poll_fn(|cx| {
                connection.driving.poll(cx);
                Pin::new(&mut *incoming).poll_frame(cx)
            });
            let after = self.stall;
            let next = timeout(after, next).await;
            match next.map_err(|_| Error::Timeout {
                host: host(),
                after,
            })? {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if !data.is_empty() => return Ok(Some(data)),
                    _ => {}
                },
                Some(Err(source)) => {
                    return Err(Error::Http {
                        host: host(),
                        source,
                    });
                }
                None => {
                    self.keep();
                    return Ok(None);
                }
            }
        }
    }

    /// The start of the text, in one line, for messages.
    pub(super) async fn text(&mut self, max: usize) -> String {
        let mut bytes = Vec::new();
        while bytes.len() < max {
            match self.chunk().await {
                Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
                _ => break,
            }
        }
        bytes.truncate(max);
        let text = String::from_utf8_lossy(&bytes);
        text.split(|c: char| c.is_control() || c.is_whitespace())
            .filter(|word| !word.is_empty())
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// Gives the connection back for the next request.
    fn keep(&mut self) {
        let Some(connection) = self.connection.take().filter(|c| c.driving.ended.is_none()) else {
            return;
        };
        let mut idle = self.idle.lock();
        let kept = idle.entry(self.place.clone()).or_default();
        if kept.len() < IDLE_MAX {
            kept.push(connection);
        }
    }
}

fn client_config(tls: &Tls, roots: &Roots) -> std::result::Result<ClientConfig, String> {
    let believe = if tls.skip_verify {
        Believe::Anyone
    } else {
        let mut roots = roots.get().clone();
        for path in &tls.authorities {
            if roots.add_readable(certificates(path)?) == 0 {
                return Err(format!("{} holds no certificate", path.display()));
            }
        }
        Believe::Roots(Arc::new(roots))
    };
    let identity = match &tls.client {
        None => None,
        Some((certificate, key)) => {
            let chain = certificates(certificate)?;
            let key = PrivateKeyDer::from_pem_slice(&read(key)?)
                .map_err(|err| format!("{}: {err}", key.display()))?;
            Some((chain, key))
        }
    };
    trust::client(&believe, identity, &[]).map_err(|err| err.to_string())
}

/// The authorities that this machine trusts, read when the first registry is asked.
#[derive(Default)]
pub(super) struct Roots(OnceLock<trust::Roots>);

impl Roots {
    fn get(&self) -> &trust::Roots {
        self.0.get_or_init(|| {
            let found = rustls_native_certs::load_native_certs();
            for error in &found.errors {
                tracing::warn!(%error, "cannot read the machine's certificate authorities");
            }
            let mut roots = trust::Roots::default();
            roots.add_readable(found.certs);
            roots
        })
    }
}

fn read(path: &std::path::Path) -> std::result::Result<Vec<u8>, String> {
    fs::read(path).map_err(|err| format!("{}: {err}", path.display()))
}

fn certificates(
    path: &std::path::Path,
) -> std::result::Result<Vec<CertificateDer<'static>>, String> {
    let bytes = read(path)?;
    let parsed = CertificateDer::pem_slice_iter(&bytes).collect::<std::result::Result<_, _>>();
    parsed.map_err(|err| format!("{}: {err}", path.display()))
}
