//! How a daemon is reached: listener, TLS, HTTP/1.1 and HTTP/2, health, metrics, and who may ask.
//!
//! Owns the accept loop and the connections. What answers is any `tower::Service`, so that the API
//! server and a scheduler's health port share everything below it. A request carries an
//! `Arc<`[`Connection`]`>` in its extensions: who is at the other end.
//!
//! Invariants: a connection ends only after the answers under way, unless it runs out of the time that
//! the supervisor gives; certificates that change on disk are used by the next handshake and never
//! disturb a connection.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue};
use http_body_util::{BodyExt, Full};
use prometheus_client::metrics::counter::Counter;
use rustls_pki_types::CertificateDer;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::args::{self, Args};
use crate::supervisor::{BoxError, Supervisor, Task};

mod aboard;
mod accept;
mod authenticate;
mod authorize;
mod connection;
mod debug;
mod endpoints;
mod gather;
mod health;
mod listen;
mod pages;
mod selfsigned;
mod slis;
mod socket;
mod stall;
mod tls;
mod user;
pub(crate) mod x509;

pub use aboard::Quiet;
pub use authenticate::{Authenticator, RequestHeader, SetupError, Unauthenticated};
pub use authorize::{Attributes, Authorizer, Decision, Resource};
pub use connection::{PIECE, Until};
pub use debug::Debug;
pub use endpoints::{Endpoints, exposed};
pub use health::{Health, Pending};
pub use pages::Pages;
pub use selfsigned::{Pair, in_memory, self_signed};
pub use slis::Results;
pub use socket::debug_socket;
pub use stall::Impatient;
pub use tls::{Identity, Sni, Tls};
pub use user::User;
pub use x509::{ClientCa, Untrusted};

/// What comes in.
pub type Request = http::Request<hyper::body::Incoming>;
/// What goes out; streams of any length.
pub type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, BoxError>;
pub type Response = http::Response<Body>;

/// What answers requests. Made by `tower::service_fn` from an async function, or any tower service.
pub trait Service:
    tower::Service<Request, Response = Response, Error = Infallible, Future: Send + 'static>
    + Clone
    + Send
    + 'static
{
}

impl<S> Service for S where
    S: tower::Service<Request, Response = Response, Error = Infallible, Future: Send + 'static>
        + Clone
        + Send
        + 'static
{
}

/// Why a listener cannot start.
#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error("cannot listen on {address}")]
    Listen {
        address: SocketAddr,
        #[source]
        cause: std::io::Error,
    },
    #[error(transparent)]
    Tls(#[from] tls::Error),
    #[error("cannot make a self-signed certificate")]
    SelfSigned(#[source] rcgen::Error),
    #[error("cannot listen on {path}")]
    Socket {
        path: std::path::PathBuf,
        #[source]
        cause: std::io::Error,
    },
    #[error("cannot write {path}")]
    Write {
        path: std::path::PathBuf,
        #[source]
        cause: std::io::Error,
    },
}

/// Where and how to listen.
#[derive(Clone, Debug)]
pub struct Options {
    /// An unspecified IPv4 address means all addresses of both families, as in Go.
    pub address: SocketAddr,
    /// None serves plain HTTP.
    pub tls: Option<Tls>,
    pub http2: bool,
    /// Streams in one HTTP/2 connection; 0 means [`DEFAULT_STREAMS`].
    pub max_streams: u32,
    pub reuse_port: bool,
    pub reuse_address: bool,
}

/// Streams in one connection unless a flag says otherwise: upstream's protection against clients that
/// open and reset streams.
pub const DEFAULT_STREAMS: u32 = 100;

impl Options {
    /// Plain HTTP, such as kube-proxy's health port.
    #[must_use]
    pub fn plain(address: SocketAddr) -> Self {
        Self {
            address,
            tls: None,
            http2: true,
            max_streams: 0,
            reuse_port: false,
            reuse_address: false,
        }
    }

    /// HTTPS with this certificate.
    #[must_use]
    pub fn secure(address: SocketAddr, tls: Tls) -> Self {
        Self {
            tls: Some(tls),
            ..Self::plain(address)
        }
    }

    /// What the flags of [`args::secure_serving`] say; none if the port is 0. Without certificate
    /// files a pair is made, and kept in `--cert-dir` under `name`, or in memory.
    ///
    /// # Errors
    /// If the TLS settings are not supported, or a certificate that is made cannot be kept.
    pub fn from_flags(args: &Args, name: &str) -> Result<Option<Self>, Error> {
        let port = args.get(&args::SECURE_PORT);
        if port == 0 {
            return Ok(None);
        }
        let ip = args.get(&args::BIND_ADDRESS);
        let files = (
            args.get(&args::TLS_CERT_FILE),
            args.get(&args::TLS_PRIVATE_KEY_FILE),
        );
        let identity = match files {
            (Some(cert), Some(key)) => Identity::Files { cert, key },
            (None, None) => {
                let dir = args.get(&args::CERT_DIR);
                let dir = (!dir.as_os_str().is_empty()).then_some(dir);
                let mut hosts = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
                if !ip.is_unspecified() && !ip.is_loopback() {
                    hosts.push(ip.to_string());
                }
                self_signed(dir.as_deref(), name, &hosts)?
            }
            _ => return Err(tls::Error::HalfAPair.into()),
        };
        let tls = Tls::from_flags(args, identity)?;
        Ok(Some(Self {
            address: SocketAddr::new(ip, port),
            http2: !args.get(&args::DISABLE_HTTP2),
            max_streams: args.get(&args::HTTP2_MAX_STREAMS),
            reuse_port: args.get(&args::PERMIT_PORT_SHARING),
            reuse_address: args.get(&args::PERMIT_ADDRESS_SHARING),
            ..Self::secure(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0), tls)
        }))
    }
}

/// A bound listener that does not answer yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    options: Options,
    tls: Option<tls::Acceptor>,
    stalled: Counter,
}

impl Server {
    /// Binds the address, reads the certificates.
    ///
    /// # Errors
    /// If the address is taken or the certificates cannot be used.
    pub fn bind(options: Options) -> Result<Self, Error> {
        let failed = |cause| Error::Listen {
            address: options.address,
            cause,
        };
        let tls = match &options.tls {
            Some(tls) => Some(tls::Acceptor::new(tls, options.http2)?),
            None => None,
        };
        let listener = listen::listen(&options).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self {
            listener,
            address,
            options,
            tls,
            stalled: Counter::default(),
        })
    }

    /// The address that it is bound to, with the real port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Counts the answers and connections that end because the client takes nothing.
    #[must_use]
    pub fn stalled(&self) -> Counter {
        self.stalled.clone()
    }

    /// Starts to answer. A listener of kind [`Task::Server`] goes on until all work has stopped; one
    /// that is itself the work (the API server's) is [`Task::Critical`] and stops first.
    pub fn serve(self, tasks: &Supervisor, kind: Task, name: &'static str, service: impl Service) {
        tracing::info!(server = name, address = %self.address, tls = self.tls.is_some(), "Serving");
        let own = tasks.clone();
        tasks.spawn_graceful(kind, name, |stop| {
            accept::run(self, own, kind, stop, service)
        });
    }
}

/// Who is at the other end of a connection, and the handle to end it.
#[derive(Debug)]
pub struct Connection {
    pub peer: SocketAddr,
    pub local: SocketAddr,
    /// None for plain HTTP.
    pub tls: Option<TlsPeer>,
    pub(crate) close: CancellationToken,
}

/// What the TLS handshake said about the client. Its certificates were not verified: that is the
/// authenticator's work, so that a bad one is answered with 401 and not with a broken connection.
#[derive(Debug)]
pub struct TlsPeer {
    /// The client's certificate, then its intermediates; empty if it sent none.
    pub chain: Vec<CertificateDer<'static>>,
    pub server_name: Option<String>,
    /// When the client's certificate ends, in Unix seconds: read once, asked for each request.
    ends: Option<i64>,
}

impl TlsPeer {
    pub(crate) fn new(chain: Vec<CertificateDer<'static>>, server_name: Option<String>) -> Self {
        let ends = chain.first().and_then(x509::validity).map(|(_, to)| to);
        Self {
            chain,
            server_name,
            ends,
        }
    }
}

impl Connection {
    /// The connection of a request.
    #[must_use]
    pub fn of<B>(request: &http::Request<B>) -> Option<&Arc<Self>> {
        request.extensions().get()
    }

    /// Ends the connection once the answers under way are sent: HTTP/2 clients are told to go away.
    /// For clients that could not say who they are.
    pub fn close(&self) {
        self.close.cancel();
    }
}

/// How long a client may take to say what it wants, handshake included; upstream's figure.
pub(crate) const READ_HEADER_TIMEOUT: Duration = Duration::from_secs(32);
/// How long a connection may be idle; upstream's figure.
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(90);

/// A whole body.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// An answer in plain text; one that tells of an error as Go's `http.Error` sends it.
#[must_use]
pub fn text(status: StatusCode, text: impl Into<String>) -> Response {
    let mut response = http::Response::new(full(text.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    if !status.is_success() {
        headers.insert("x-content-type-options", NO_SNIFF);
    }
    response
}

/// Browsers are not to guess what an answer is.
pub(crate) const NO_SNIFF: HeaderValue = HeaderValue::from_static("nosniff");

/// An answer in JSON.
#[must_use]
pub fn json(status: StatusCode, value: &impl serde::Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(bytes) => {
            let mut response = http::Response::new(full(bytes));
            *response.status_mut() = status;
            response
                .headers_mut()
                .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        }
        Err(e) => text(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()),
    }
}

#[cfg(test)]
mod tests;
